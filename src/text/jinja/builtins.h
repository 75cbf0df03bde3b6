// What templates may call: filters, tests, functions, and the methods of strings and dicts.
#pragma once

#include <ctime>
#include <string_view>

#include "text/jinja/value.h"

namespace linnet::jinja {

bool has_filter(std::string_view name);
bool has_test(std::string_view name);
bool has_method(const Value& value, std::string_view name);
/// One of has_filter(), of has_test(), of has_method().
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments, Work& work);
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Work& work);
Value call_method(const Value& value, std::string_view name, const Arguments& arguments, Work& work);

constexpr std::string_view kFunctions[] = {"range", "namespace", "dict", "raise_exception", "strftime_now"};
/// One of kFunctions; `now` is what strftime_now shows.
Value call_function(std::string_view name, const Arguments& arguments, const std::tm& now, Work& work);

/// Sets a key of what becomes a dict; fails where it can be none.
void put(Entries& entries, const Value& key, const Value& value, Work& work);

/// object.name (methods first, as Python has them) and object[key]; undefined where there is none.
Value attribute(const Value& object, const std::string& name, Work& work);
Value subscript(const Value& object, const Value& key, Work& work);
/// object[start:stop:step], each a number or none.
Value slice(const Value& object, const Value& start, const Value& stop, const Value& step, Work& work);
/// + - * / // % ** of two values.
Value arithmetic(std::string_view sign, const Value& a, const Value& b, Work& work);

}  // namespace linnet::jinja
