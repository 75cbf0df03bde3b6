#!/usr/bin/env python3
"""Asks Hugging Face's tokenizers what its regular expressions' classes hold, code point by code point.

    scripts/golden/make_unicode.py SRC/TEXT/unicode_data.inc TESTS/onig_classes.txt.xz

Needs PyPI's `tokenizers` and `regex` (for the list of property names alone) and a Python whose unicodedata is
Unicode 14.0, as PCRE2 10.42's is; some ten minutes. Made with tokenizers 0.23.3 (Oniguruma 6.9.10, Unicode 16.0),
Python 3.11.

The first file is what src/text compiles in: the general categories, where PCRE2's differ, and each further set as
whole categories and the ranges in which it differs from them. The second is the same answer as it came, for the
test: a line a name, ranges in hexadecimals.
"""
import lzma
import sys
import unicodedata
from collections import Counter

import tokenizers
from regex import _regex_core
from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
POSIX = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, ALL))


def ranges(pattern):
    """(first, last) of the runs of code points that one character of `pattern` matches."""
    split = pre_tokenizers.Split(Regex(pattern + "+"), "removed", invert=True)
    runs = []
    for _, (begin, end) in split.pre_tokenize_str(TEXT):
        first, last = ALL[begin], ALL[end - 1]
        if runs and runs[-1][1] == 0xD7FF and first == 0xE000:  # surrogates are no code points of a text
            first = runs.pop()[0]
        runs.append((first, last))
    return tuple(runs)


def candidates():
    names = set(POSIX)
    for name, (_, values) in _regex_core.PROPERTIES.items():
        names.add(name)
        prefix = {"GC": "", "SC": "", "BLK": "IN"}.get(name)
        if prefix is not None:
            names.update(prefix + value for value in values)
    return sorted({"".join(c for c in name.lower() if c not in " _-") for name in names})


def ask():
    sets = {}
    for name in candidates():
        try:
            Regex(r"\p{%s}" % name)
        except BaseException:  # the library's own exception is no Exception
            continue
        sets[name] = ranges(r"\p{%s}" % name)
    for name in POSIX:
        sets[f"[:{name}:]"] = ranges(f"[[:{name}:]]")
    for name in "wdsh":
        sets["\\" + name] = ranges("\\" + name)
    return sets


def category_of(sets):
    of = [None] * 0x110000
    for index, name in enumerate(CATEGORIES):
        for first, last in sets[name.lower()]:
            of[first:last + 1] = [index] * (last + 1 - first)
    assert all(of[c] is not None for c in ALL)
    of[0xD800:0xE000] = [CATEGORIES.index("Cn")] * 0x800  # never asked for
    return of


def runs_of(values):
    return [c for c in range(len(values)) if c == 0 or values[c] != values[c - 1]]


def encoded(members, of, sizes):
    """(mask of whole categories, ranges in which the set differs from them): the shorter of two ways."""
    inside = bytearray(0x110000)
    for first, last in members:
        inside[first:last + 1] = b"\1" * (last + 1 - first)
    counts = Counter(of[c] for first, last in members for c in range(first, last + 1))
    best = None
    for categories in ({c for c in counts if 2 * counts[c] > sizes[c]}, set()):
        differs, begin = [], None
        for c in range(0x110001):
            different = c < 0x110000 and (inside[c] != 0) != (of[c] in categories)
            if different and begin is None:
                begin = c
            if not different and begin is not None:
                differs.append((begin, c - 1))
                begin = None
        if best is None or len(differs) < len(best[1]):
            best = sum(1 << c for c in categories), differs
    return best


def rows(values):
    lines, line = [], ""
    for value in values:
        if len(line) + len(value) > 118:
            lines.append(line)
            line = ""
        line += value + ","
    return "\n".join(lines + [line])


def write_source(path, sets):
    of = category_of(sets)
    sizes = Counter(of)
    old = [of[c] if 0xD800 <= c < 0xE000 else CATEGORIES.index(unicodedata.category(chr(c))) for c in range(0x110000)]
    differing = [None if a == b else b for a, b in zip(of, old)]
    changed = []
    for start in runs_of(differing):
        if differing[start] is not None:
            end = start
            while end + 1 < 0x110000 and differing[end + 1] == differing[start]:
                end += 1
            changed.append((start, end, differing[start]))
    numbers, all_ranges, names = {}, [], []
    table = []
    for name, members in sorted(sets.items()):
        if members not in numbers:
            mask, differs = encoded(members, of, sizes)
            numbers[members] = len(table)
            table.append((mask, len(all_ranges), len(differs)))
            all_ranges += differs
        names.append((name.replace("\\", "\\\\"), numbers[members]))
    with open(path, "w", encoding="ascii") as out:
        out.write(f"// Made by scripts/golden/make_unicode.py with tokenizers {tokenizers.__version__}; not to be edited.\n"
                  "// The general category from a code point on: code point << 5 | category.\n"
                  "constexpr uint32_t kCategoryRuns[] = {\n"
                  + rows(f"0x{c << 5 | of[c]:x}" for c in runs_of(of)) + "};\n"
                  "// Where PCRE2's category (Unicode 14) is another: first, last, its category.\n"
                  "constexpr uint32_t kPcre2Differs[][3] = {\n"
                  + rows("{0x%x,0x%x,%d}" % row for row in changed) + "};\n"
                  "// Ranges that the sets below differ in from their categories: first, last.\n"
                  "constexpr CodePointRange kDiffering[] = {\n" + rows("{0x%x,0x%x}" % r for r in all_ranges) + "};\n"
                  "// A set: categories (bits), then the first of its ranges and their number.\n"
                  "constexpr NamedSet kSets[] = {\n" + rows("{0x%x,%d,%d}" % row for row in table) + "};\n"
                  "// Sorted by name.\n"
                  "constexpr std::pair<std::string_view, uint16_t> kNames[] = {\n"
                  + rows('{"%s",%d}' % row for row in names) + "};\n")


def main():
    if len(sys.argv) != 3 or unicodedata.unidata_version != "14.0.0":
        sys.exit(__doc__)
    sets = ask()
    write_source(sys.argv[1], sets)
    text = "".join(f"{name} " + ",".join(f"{a:x}-{b:x}" if a != b else f"{a:x}" for a, b in members) + "\n"
                   for name, members in sorted(sets.items()))
    with lzma.open(sys.argv[2], "wt", preset=9, encoding="ascii") as out:
        out.write(f"# tokenizers {tokenizers.__version__}\n" + text)
    print(f"{len(sets)} names")


if __name__ == "__main__":
    main()
