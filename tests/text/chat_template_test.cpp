// Chat templates give what Hugging Face gives (scripts/golden/make_chat.py), and nothing in one hangs or
// crashes.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace linnet {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

const Json& golden() {
  static const Json kGolden = Json::parse(MappedFile(LINNET_TEST_DATA "/chat/golden.json").text());
  return kGolden;
}

std::tm then() {
  std::tm time = {};
  time.tm_year = 124;
  time.tm_mon = 6;
  time.tm_mday = 26;
  time.tm_hour = 9;
  time.tm_min = 5;
  time.tm_sec = 3;
  return time;
}

/// The text, or `{"error": what}`.
Json rendered(const std::string& source, const Json& messages, bool answer) {
  try {
    ChatTemplate chat(source, "chat");
    for (const auto& [name, text] : golden()["names"].items()) chat.set(name, text);
    const std::tm now = then();
    return chat.render(messages, answer, &now);
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

void expect_as_golden(const Json& expected, const Json& got) {
  if (expected.is_object()) {
    EXPECT_TRUE(got.is_object()) << got;
  } else {
    EXPECT_EQ(got, expected);
  }
}

TEST(ChatTemplate, GivesWhatHuggingFaceGivesForTheStylesOfPublishedTemplates) {
  for (const Json& row : golden()["cases"]) {
    const std::string name = row["template"], conversation = row["conversation"];
    SCOPED_TRACE(name + ", " + conversation);
    const Json got =
        rendered(golden()["templates"][name], golden()["conversations"][conversation], row["answer"]);
    expect_as_golden(row["text"], got);
  }
}

TEST(ChatTemplate, GivesWhatHuggingFaceGivesForEveryKindOfExpression) {
  for (const Json& row : golden()["snippets"]) {
    const std::string source = row["source"];
    SCOPED_TRACE(source);
    expect_as_golden(row["text"], rendered(source, golden()["conversations"]["call"], true));
  }
}

TEST(ChatTemplate, SaysWhatATemplateRaises) {
  const Json error =
      rendered("\n\n{{ raise_exception('Only\nusers.') }}", golden()["conversations"]["one"], true);
  EXPECT_EQ(error["error"], "chat, line 3: Only\\x0ausers.");
}

TEST(ChatTemplate, NamesTheMessageWhoseContentIsMissing) {
  const Json lacking =
      Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": []},
                                       {"role": "tool"}])");
  const char* joining = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";
  EXPECT_EQ(rendered(joining, lacking, true)["error"],
            "message 2 (assistant): no `content`, expected one: the chat template asks for it");
  // A template that can do without is not asked for one, and what else is wrong stays the line's.
  EXPECT_EQ(rendered("{% for m in messages %}{{ m.content }}{% endfor %}", lacking, true), "a");
  EXPECT_EQ(rendered("{{ raise_exception('no') if messages[1].role != 'user' }}", lacking, true)["error"],
            "chat, line 1: no");
}

TEST(ChatTemplate, NamesTheLineOfWhatItDoesNotKnow) {
  const std::pair<const char*, const char*> rows[] = {
      {"a\n{{ x | shout }}", "chat, line 2: unknown filter \"shout\""},
      {"{{ x is loud }}", "unknown test \"loud\""},
      {"{% include 'x' %}", "unknown tag \"include\""},
      {"{% endif %}", "tag \"endif\""},
      {"{% if x %}", "the template ends within a block, expected endif"},
      {"{% if x %}{% else %}{% elif y %}{% endif %}", "tag \"elif\""},
      {"\n{{ x", "line 2: a tag that is not closed, expected }}"},
      {"{# x", "a comment that is not closed"},
      {"{{ 'x }}", "a string that is not closed"},
      {"{% raw %}x", "raw that is not closed"},
      {"{{ x) }}", "\")\" closes nothing"},
      {"{{ 99999999999999999999 }}", "a number out of range"},
      {"{{ 9223372036854775807 + 1 }}", "a number out of range"},
      {"{% break %}", "break outside of a loop"},
      {"{{ x ; y }}", "\";\" in a tag"},
      {"{{ x y }}", "\"y\", expected }}"},
      {"{{ f(a=1, 2) }}", "\"2\", expected an argument by name"},
      {"{{ nobody() }}", "a call of \"nobody\", which is undefined"},
      {"{{ messages[0].content.encode() }}", "a call of .encode"},
      {"{% set x.y = 1 %}", "x.y set, expected a namespace"},
  };
  for (const auto& [source, message] : rows) {
    const Json got = rendered(source, golden()["conversations"]["one"], true);
    ASSERT_TRUE(got.is_object()) << source << got;
    EXPECT_THAT(got["error"].get<std::string>(), HasSubstr(message)) << source;
  }
}

TEST(ChatTemplate, IsBoundedInTimeSpaceAndDepth) {
  const auto many = [](const std::string& text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
  };
  const std::string rows[] = {
      "{% for a in range(1000000000) %}{% endfor %}",
      "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
      "{{ 'x' * 9999999999 }}",
      "{{ [0] * 9223372036854775807 }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% set n = namespace(l=[]) %}{% for a in range(99999) %}{% set n.l = [n.l] %}{% endfor %}",
      "{% set n = namespace(l=[1]) %}{% for a in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
      "{% set n = namespace(l=[1]) %}{% for a in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}"
      "{{ n.l == n.l[0:2] }}{{ n.l | tojson }}",
      "{{ " + many("(", 50000),
      "{{ " + many("[", 50000) + many("]", 50000) + " }}",
      "{{ x" + many("+x", 50000) + " }}",
      "{{ x" + many(".x", 50000) + " }}",
      "{{ x" + many("|trim", 50000) + " }}",
      "{{ " + many("not ", 50000) + "x }}",
      "{{ " + many("-", 50000) + "1 }}",
      "{{ x" + many(" if x else x", 50000) + " }}",
      many("{% if x %}", 50000),
      many("{% for x in y %}", 5000) + many("{% endfor %}", 5000),
      "{{ 'a' | replace('', 'x' * 99999999) | replace('x', 'y' * 99999) }}",
  };
  for (const std::string& source : rows) {
    EXPECT_TRUE(rendered(source, golden()["conversations"]["one"], true).is_object()) << source.substr(0, 80);
  }
  // A namespace may hold itself: nothing leaks.
  const char* own = "{% set n = namespace() %}{% set n.n = [n] %}{{ n.n[0].n | length }}";
  EXPECT_EQ(rendered(own, golden()["conversations"]["one"], true), "1");
}

TEST(ChatTemplate, RefusesWhatIsNoConversation) {
  const std::pair<const char*, const char*> rows[] = {
      {"", "m: empty file"},
      {"{}", "m: {}, expected an array"},
      {"[]", "m: no message"},
      {"[1]", "m[0]: 1, expected an object"},
      {"[{\"content\": \"a\"}]", "m[0].role: missing"},
      {"[{\"role\": 3, \"content\": \"a\"}]", "m[0].role: 3, expected a string"},
      {"[{\"role\": \"user\", \"content\": 3}]", "m[0].content: no text"},
      {"[{\"role\": \"user\", \"role\": \"user\"}]", "m: key \"role\" stands twice"},
  };
  for (const auto& [json, message] : rows) {
    try {
      read_messages(json, "m");
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }
  const Json kept =
      read_messages(R"([{"role": "user", "content": "a", "tool_calls": null, "b": 1, "a": 2}])", "m");
  EXPECT_EQ(kept.dump(), R"([{"role":"user","content":"a","b":1,"a":2}])");
}

}  // namespace
}  // namespace linnet
