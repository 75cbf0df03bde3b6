#!/usr/bin/env python3
"""Asks Hugging Face's tokenizers what its normalizers and pre-tokenizers take characters for, code point by code point.

    scripts/golden/make_characters.py SRC/TEXT/character_data.inc

Needs PyPI's `tokenizers`, Debian 12's utf8proc (Unicode 15.0) and a Python whose unicodedata is Unicode 14.0, as Debian
12's PCRE2 is. Each part of the library has a Unicode of its own, older or newer. Made with tokenizers 0.23.3, Python
3.11, utf8proc 2.8.
"""
import ctypes
import os
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from make_unicode import rows

ALL = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c != ord("\n")]
FORMS = {"NFC": normalizers.NFC(), "NFD": normalizers.NFD(), "NFKC": normalizers.NFKC(), "NFKD": normalizers.NFKD()}
# What a character is put between, to see its decomposition, its combining class and what it composes with.
FRAMES = [("", ""), ("a\u0334", ""), ("a\u0345", ""), ("a", "\u0334"), ("a", "\u0301"), ("a\u0301", "")]


def runs(characters):
    out = []
    for c in sorted(map(ord, characters)):
        if out and out[-1][1] + 1 == c:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def each(normalizer, texts):
    return normalizer.normalize_str("\n".join(texts)).split("\n")


UTF8PROC = ctypes.CDLL("libutf8proc.so.2")
UTF8PROC_STABLE = 2
UTF8PROC_OPTIONS = {"NFC": 8, "NFD": 16, "NFKC": 8 | 4, "NFKD": 16 | 4}


def utf8proc_forms(name, texts):
    source, result = "\n".join(texts).encode(), ctypes.c_char_p()
    UTF8PROC.utf8proc_map.restype = ctypes.c_ssize_t
    size = UTF8PROC.utf8proc_map(source, ctypes.c_ssize_t(len(source)), ctypes.byref(result),
                                 UTF8PROC_STABLE | UTF8PROC_OPTIONS[name])
    return ctypes.string_at(result, size).decode().split("\n")


def unnormalized():
    """Characters that it leaves alone and that part what is around them, where utf8proc knows more of them."""
    found = set()
    for name, form in FORMS.items():
        for before, after in FRAMES:
            texts = [before + c + after for c in ALL]
            found |= {c for c, theirs, ours in zip(ALL, each(form, texts), utf8proc_forms(name, texts)) if theirs != ours}
    for c in found:  # none is treated in yet another way
        for form in FORMS.values():
            for before, after in FRAMES:
                assert form.normalize_str(before + c + after) == \
                    form.normalize_str(before) + c + form.normalize_str(after), hex(ord(c))
    return found


def isolated(pre_tokenizer):
    parts = pre_tokenizer.pre_tokenize_str("".join("a" + c for c in ALL))
    return {part for part, _ in parts if len(part) == 1 and part != "a"}


def words():
    parts = pre_tokenizers.Whitespace().pre_tokenize_str("".join(f"!{c} " for c in ALL))
    return {part for part, _ in parts if len(part) == 1 and part != "!"}


def extenders():
    """Characters newer than Unicode 14 that belong to the grapheme before them. A grapheme of six bytes or more is
    normalized character by character: then e and its accent do not become one."""
    path = os.path.join(os.path.dirname(__file__), "../../tests/data/tokenizers/hf/unigram_t5.json")
    precompiled = tokenizers.Tokenizer.from_file(path).normalizer
    return {c for c in ALL if unicodedata.category(c) == "Cn" and precompiled.normalize_str("e\u0301" + c)[0] == "e"}


def folds():
    """Rows (letter, what it folds to) of letters that fold to several characters, or that Unicode 14 folds to nothing
    else, as patterns under (?i) have them."""
    lower = {c: low for c, low in zip(ALL, each(normalizers.Lowercase(), ALL)) if len(low) == 1 and low != c}
    rows = {c: c.casefold() for c in ALL if len(c.casefold()) > 1}
    rows |= {c: low for c, low in lower.items() if unicodedata.category(c) == "Cn" or unicodedata.category(low) == "Cn"}
    matches = lambda pattern, text: pre_tokenizers.Split(tokenizers.Regex("(?i)" + pattern), "isolated") \
        .pre_tokenize_str("1" + text + "1") == [("1", (0, 1)), (text, (1, 1 + len(text))), ("1", (1 + len(text), 2 + len(text)))]
    return {c: fold for c, fold in rows.items() if matches(c, fold) and matches(fold, c)}


def bert(**what):
    return normalizers.BertNormalizer(**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False,
                                             lowercase=False) | what)


def taken_away(**what):
    normalizer = bert(**what)
    return {c for c in ALL if normalizer.normalize_str(c) == ""}


def set_apart():
    normalizer = bert(handle_chinese_chars=True)
    return {c for c in ALL if normalizer.normalize_str(c) == f" {c} "}


def lower_cases():
    """Runs (first, last, step, what the first becomes), but for U+0130, which becomes two characters."""
    out = []
    for c, lower in zip(ALL, each(normalizers.Lowercase(), ALL)):
        if c == lower or c == "\u0130":
            continue
        assert len(lower) == 1
        a, b = ord(c), ord(lower)
        if out:
            first, last, step, to = out[-1]
            gap = a - last
            if b - to == a - first and gap <= 2 and (step == gap or first == last):
                out[-1] = (first, a, gap, to)
                continue
        out.append((a, a, 1, b))
    return out


def main():
    if len(sys.argv) != 2 or unicodedata.unidata_version != "14.0.0":
        sys.exit(__doc__)
    marks = {c for c in ALL if normalizers.StripAccents().normalize_str(c) == ""}
    tables = [("Code points that normalization leaves alone, though utf8proc does not.", "kUnnormalized", unnormalized()),
              ("Marks, as StripAccents has them.", "kMarks", marks),
              ("Numbers, as Digits has them.", "kNumbers", isolated(pre_tokenizers.Digits(individual_digits=True))),
              ("Punctuation, as Punctuation has it.", "kPunctuation", isolated(pre_tokenizers.Punctuation())),
              ("Characters of words, as Whitespace has them.", "kWords", words()),
              ("What joins the grapheme before it, as Precompiled has it, and is newer than Unicode 14.", "kExtenders",
               extenders()),
              ("What BertNormalizer's clean_text takes away.", "kControls", taken_away(clean_text=True)),
              ("What its strip_accents takes away.", "kAccents", taken_away(strip_accents=True)),
              ("What its handle_chinese_chars sets apart.", "kIdeographs", set_apart())]

    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write(f"// Made by scripts/golden/make_characters.py with tokenizers {tokenizers.__version__}; not to be edited.\n")
        for what, name, characters in tables:
            out.write(f"// {what} First, last.\nconstexpr CodePointRange {name}[] = {{\n"
                      + rows("{0x%x,0x%x}" % tuple(run) for run in runs(characters)) + "};\n")
        out.write("// Lower case: first, last, step, that of the first.\nconstexpr char32_t kLowerCases[][4] = {\n"
                  + rows("{0x%x,0x%x,%d,0x%x}" % run for run in lower_cases()) + "};\n")
        out.write("// Letters under (?i) that fold to several characters, or in a Unicode newer than 14: which, to what.\n"
                  "constexpr Fold kFolds[] = {\n"
                  + rows("{0x%x,{%s}}" % (ord(c), ",".join("0x%x" % ord(f) for f in fold))
                         for c, fold in sorted(folds().items())) + "};\n")


if __name__ == "__main__":
    main()
