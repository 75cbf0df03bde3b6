// What values look like: printed, within one another, as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/value.h"

namespace linnet::jinja {
namespace {

std::string float_text(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", x);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) {  // as Python's repr
  const bool twice = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = twice ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') {
      (out += '\\') += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
      case '\\':
        (out += '\\') += c;
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", c);
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

/// A value in JSON, the lines after the first indented for `level`.
class JsonWriter {
 public:
  JsonWriter(int indent, bool sorted, Work& work) : indent_(indent), sorted_(sorted), work_(work) {}

  void write(const Value& value, int level) {
    work_.step();
    if (const Sequence* sequence = value.sequence()) {
      begin('[');
      for (size_t i = 0; i < sequence->items.size(); ++i) {
        separate(i, level + 1);
        write(sequence->items[i], level + 1);
      }
      end(']', sequence->items.empty(), level);
    } else if (const Dict* dict = value.dict()) {
      write(*dict, level);
    } else {
      out += scalar(value);
      work_.grow(out.size() > counted_ ? out.size() - counted_ : 0);
      counted_ = std::max(counted_, out.size());
    }
  }

  std::string out;

 private:
  void write(const Dict& dict, int level) {
    Entries entries = dict.items;
    work_.grow(entries.size() * sizeof(entries[0]));
    if (sorted_) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto& a, const auto& b) { return compare(a.first, b.first, work_) < 0; });
    }
    begin('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      separate(i, level + 1);
      const std::string* key = entries[i].first.string();
      out += json_string(key != nullptr ? *key : scalar(entries[i].first)) + ": ";
      write(entries[i].second, level + 1);
    }
    end('}', entries.empty(), level);
  }

  std::string scalar(const Value& value) {
    if (const std::string* text = value.string()) return json_string(*text);
    if (value.none()) return "null";
    if (value.is<bool>()) return std::get<bool>(value.data) ? "true" : "false";
    if (value.is<double>()) {
      const double x = std::get<double>(value.data);
      if (std::isnan(x)) return "NaN";
      return std::isinf(x) ? (x > 0 ? "Infinity" : "-Infinity") : float_text(x);
    }
    if (!value.integer()) work_.fail(fmt::format("tojson of {}", kind_of(value)), "what JSON has");
    return std::to_string(*value.integer());
  }

  void begin(char bracket) { out += bracket; }
  void separate(size_t index, int level) {
    if (indent_ < 0) {
      if (index > 0) out += ", ";
      return;
    }
    if (index > 0) out += ',';
    line(level);
  }
  void end(char bracket, bool empty, int level) {
    if (indent_ >= 0 && !empty) line(level);
    out += bracket;
  }
  void line(int level) {
    const size_t spaces = static_cast<size_t>(indent_) * static_cast<size_t>(level);
    work_.grow(spaces);
    out += '\n';
    out.append(spaces, ' ');
  }

  int indent_;
  bool sorted_;
  Work& work_;
  size_t counted_ = 0;
};

}  // namespace

std::string text_of(const Value& value, Work& work) {
  if (value.undefined()) return {};
  if (const std::string* text = value.string()) {
    work.grow(text->size());
    return *text;
  }
  return repr_of(value, work);
}

std::string repr_of(const Value& value, Work& work) {
  work.step();
  std::string out;
  if (const std::string* text = value.string()) {
    out = quoted(*text);
  } else if (value.undefined()) {
    out = "Undefined";
  } else if (value.none()) {
    out = "None";
  } else if (value.is<bool>()) {
    out = std::get<bool>(value.data) ? "True" : "False";
  } else if (value.integer()) {
    out = std::to_string(*value.integer());
  } else if (value.is<double>()) {
    out = float_text(std::get<double>(value.data));
  } else if (const Sequence* sequence = value.sequence()) {
    for (const Value& item : sequence->items) out += (out.empty() ? "" : ", ") + repr_of(item, work);
    if (sequence->tuple && sequence->items.size() == 1) out += ',';
    out = (sequence->tuple ? "(" : "[") + out + (sequence->tuple ? ")" : "]");
  } else if (const Dict* dict = value.dict()) {
    for (const auto& [key, item] : dict->items) {
      out += (out.empty() ? "" : ", ") + repr_of(key, work) + ": " + repr_of(item, work);
    }
    out = "{" + out + "}";
  } else {
    out = "<" + kind_of(value) + ">";
  }
  work.grow(out.size());
  return out;
}

std::string json_of(const Value& value, int indent, bool sort_keys, Work& work) {
  JsonWriter writer(indent, sort_keys, work);
  writer.write(value, 0);
  return std::move(writer.out);
}

std::string kind_of(const Value& value) {
  if (value.undefined()) {
    const std::string* name = std::get<Undefined>(value.data).name;
    return name == nullptr ? "an undefined value" : "\"" + *name + "\", which is undefined";
  }
  if (value.none()) return "none";
  if (value.is<bool>()) return "a boolean";
  if (value.number()) return "a number";
  if (value.string() != nullptr) return "a string";
  if (value.sequence() != nullptr) return value.sequence()->tuple ? "a tuple" : "a list";
  if (value.dict() != nullptr) return "a dict";
  if (value.names() != nullptr) return "a namespace";
  return value.loop() != nullptr ? "a loop" : "a function";
}

}  // namespace linnet::jinja
