// The filters that go over the elements of a list, a dict or a string.
#pragma once

#include "text/jinja/call.h"

namespace linnet::jinja {

/// "a.b.0" of a value, part by part.
Value path(Value value, const Value& name, Work& work);
/// A dict's keys (part 0), values (1) or pairs of both (2).
Value entries_of(const Value& value, int part, Work& work);

Value mapped(const Call& call);
/// select and reject, selectattr and rejectattr: those for which a test of it, or of its attribute, is
/// `wanted`.
Value selected(const Call& call, bool by_attribute, bool wanted);
Value unique(const Call& call);
Value sort(const Call& call);
Value dict_sorted(const Call& call);
Value grouped(const Call& call);
Value batched(const Call& call);
/// The first of the smallest (sign −1), or of the largest (1).
Value extreme(const Call& call, int sign);
Value sum(const Call& call);

}  // namespace linnet::jinja
