#!/usr/bin/env python3
"""Makes the golden tokenizers and encodings in tests/data/tokenizers/hf.

    scripts/golden/make_tokenizers.py OUT [TOKENIZER.json …]

Trains small tokenizers of every kind with Hugging Face's `tokenizers` and with `sentencepiece` on text that this
file makes itself, and writes for each NAME.json or NAME.model and NAME.encodings.jsonl. Further tokenizer files
(such as one that Linnet trained) are copied and encoded likewise. Made with tokenizers 0.23, sentencepiece 0.2.2.

A line of encodings: `text`, or `repeat` with `count`; `ids` without special tokens, or `length` and `hash` where
they are many (hash: h = h·31 + id + 1 modulo 2^64, from 0); `before` and `after`, the special tokens around them;
`decoded` where decoding `ids` without special tokens is not the text, `decoded_all` where keeping them differs.
"""
import io
import json
import os
import random
import sys
import tempfile
import traceback

import sentencepiece
import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors,
                        pre_tokenizers, trainers)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = [
    "The river turns slowly past the mill, and nobody minds.",
    "She didn't know what they'd say; he'll ask, we've answered, I'm sure it's fine.",
    "Every machine in the workshop hums at its own pitch.",
    "A heron stood in the reeds and looked at the water for an hour.",
    "Prices rose by 3.5% in 2024, from 1,250 to 1,293 crowns.",
    "def area(width, height):\n    return width * height  # square metres\n",
    "for (int i = 0; i < 10; ++i) { total += table[i]; }",
    "Der Fluss fließt langsam an der Mühle vorbei, und niemand hört zu.",
    "Über den Dächern kreisen schöne große Vögel.",
    "La rivière coule près du moulin où l'été s'achève déjà.",
    "El niño pequeño comió una manzana mañana por la mañana.",
    "Река медленно течёт мимо старой мельницы.",
    "Ο ποταμός κυλάει αργά δίπλα στον μύλο.",
    "河水慢慢地流过磨坊，没有人说话。",
    "川は水車小屋のそばをゆっくり流れる。",
    "강물은 방앗간 옆을 천천히 흐른다.",
    "يمر النهر ببطء بجانب الطاحونة.",
    "नदी धीरे धीरे चक्की के पास बहती है।",
    "แม่น้ำไหลช้าๆ ผ่านโรงสี",
    "Sông chảy chậm qua cối xay gió.",
    "What a day! 😀 The boats are out 🚤 and the flags are up 🏳️‍🌈.",
]
NOUNS = "river mill heron machine workshop table flag boat winter letter garden window teacher engine bridge".split()
VERBS = "turns watches carries follows builds opens measures remembers paints repairs".split()
PLACES = "in the valley|near the old harbour|behind the school|under a grey sky|before the long winter".split("|")


def corpus():
    generator = random.Random(7)
    lines = list(SENTENCES) * 6
    for _ in range(900):
        lines.append(f"The {generator.choice(NOUNS)} {generator.choice(VERBS)} the {generator.choice(NOUNS)} "
                     f"{generator.choice(PLACES)}, {generator.randrange(1, 3000)} times.")
    generator.shuffle(lines)
    return lines


TEXTS = [
    "Hello world", "Hello, world!", "", " ", "a", "\n", " leading", "trailing ", "two  spaces", "   ", "x" + " " * 37 + "y",
    " " * 1000, "tabs\tand\t\ttabs", "line\nbreaks\n\n\nmore", "carriage\r\nreturn\r\n\r\nmixed\n\r", "\r", " \n \n ",
    "don't I'll we've they're it's I'm he'd DON'T I'LL WE'VE", "'s 't 'x ''", "3.14159 12345 1,000,000 0x1F ½ ² Ⅷ ٣",
    "The river turns slowly past the mill.", "unseen zymurgy quixotic", "CamelCase snake_case kebab-case ALLCAPS",
    "café naïve über", "cafe\u0301 nai\u0308ve u\u0308ber", "a\u0300\u0301\u0302\u0303\u0304 stacked",
    "河水慢慢地流过磨坊", "你好，世界！", "川はカタカナ", "강물 한국어", "\u1112\u1161\u11ab\u1100\u1173\u11af jamo",
    "يمر النهر ببطء", "नदी बहती है", "แม่น้ำไหลช้าๆ", "שלום עולם", "Река течёт", "Ο ποταμός",
    "😀", "emoji 😀🚀🎉 end", "👨‍👩‍👧‍👦 family", "🏳️‍🌈🇩🇪👍🏽", "e\u0301\u200d\u200cz", "ﬁ ﬂ Å ① Ａ ｂ ㌔ ﷺ",
    "İstanbul ß ẞ ǅ Σς", "nul\x00inside", "\x01\x02\x1f\x7f\x85control", "\u00a0nbsp\u2003em\u3000wide\u180evowel",
    "\ufeffbyte order", "replacement \ufffd here", "zero\u200bwidth", "“Quoted” — dash … ellipsis", "``quotes''",
    "https://example.org/a?b=c&d=e#f", "def f(x):\n    return x**2  # square\n\n\tdone", "a▁b ▁ ▁▁c", "<0x41> <0xZZ> <0x-1>",
    "Ġ ġ Ċ ĉ Ā", "<s> </s> <unk> <pad> [CLS]", "<|endoftext|>", "x<|endoftext|>y <|begin_of_text|>  z",
    "[L]  a [L] b", "a  [R]  b", "word[W]word [W] (W) [W].", "a [N] B [n] c", "  [B]  [B]  x", "[S]x[S] [S]",
    "\U0001f1e9\U0001f1ea\U0001f1eb", "\U0010ffff\U000e0001", "mixed Русский日本語english123 ok", "#" * 60, "=-" * 40,
    "!?!?...,,;;::()[]{}<>|\\/\"'`~@#$%^&*_+-=", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]
REPEATS = [("a", 1_000_000), ("ab", 50_000), ("河", 30_000), ("\n", 5_000), ("😀", 5_000), ("a ", 20_000),
           (" ", 100_000), ("The river. ", 2_000)]


def digest(ids):
    value = 0
    for token in ids:
        value = (value * 31 + token + 1) & 0xFFFFFFFFFFFFFFFF
    return value


def write_encodings(path, encode, encode_special, decode):
    """encode(text) -> ids; decode(ids, skip_special) -> text."""
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for text, count in [(t, 1) for t in TEXTS] + REPEATS:
            full = text * count
            ids, special = encode(full), encode_special(full)
            record = {"text": text} if count == 1 else {"repeat": text, "count": count}
            if len(ids) > 300:
                record.update(length=len(ids), hash=digest(ids))
            else:
                record.update(ids=ids)
            extra = len(special) - len(ids)
            before = next(n for n in range(extra + 1) if special[n:n + len(ids)] == ids)
            record.update(before=special[:before], after=special[before + len(ids):])
            decoded, decoded_all = decode(ids, True), decode(ids, False)
            if decoded != full:
                record["decoded"] = decoded if len(decoded) < 3000 else None
            if decoded_all != decoded:
                record["decoded_all"] = decoded_all if len(decoded_all) < 3000 else None
            out.write(json.dumps(record, ensure_ascii=True) + "\n")


def save(out, name, tokenizer):
    with open(os.path.join(out, name + ".json"), "w", encoding="utf-8", newline="\n") as file:
        file.write(tokenizer if isinstance(tokenizer, str) else tokenizer.to_str(pretty=False))
    loaded = Tokenizer.from_file(os.path.join(out, name + ".json"))
    write_encodings(os.path.join(out, name + ".encodings.jsonl"),
                    lambda text: loaded.encode(text, add_special_tokens=False).ids,
                    lambda text: loaded.encode(text, add_special_tokens=True).ids,
                    lambda ids, skip: loaded.decode(ids, skip_special_tokens=skip))


def byte_level_gpt2(out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    save(out, "byte_level_gpt2", tokenizer)


def byte_level_prefix_space(out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation(),
        pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    save(out, "byte_level_prefix_space", tokenizer)


def byte_level_llama3(out):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=700, special_tokens=[], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    # A token that no merge makes: only ignore_merges finds it.
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for added in content["added_tokens"]:
        added["id"] += 1
    vocabulary["Ġzymurgy"] = begin
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                      special_tokens=[("<|begin_of_text|>", begin + 1)])])
    save(out, "byte_level_llama3", tokenizer)


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_fallback_model(vocab_size):
    """A trained BPE with byte tokens that are tokens of the model alone, as JSON."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<s>", "</s>"] + BYTES, limit_alphabet=90,
        show_progress=False))
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in BYTES]
    content["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def byte_fallback_llama2(out):
    tokenizer = byte_fallback_model(800)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    save(out, "byte_fallback_llama2", tokenizer)


def byte_fallback_metaspace(out):
    tokenizer = byte_fallback_model(700)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    save(out, "byte_fallback_metaspace", tokenizer)


def bpe_word_ends(out):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
                                                 normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>"], end_of_word_suffix="</w>", limit_alphabet=80,
        show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <unk>", special_tokens=[("<s>", 1), ("<unk>", 0)])
    save(out, "bpe_word_ends", tokenizer)


def unigram_albert(out):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
        normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<pad>", "<unk>", "[CLS]", "[SEP]"], unk_token="<unk>", show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    save(out, "unigram_albert", tokenizer)


def word_piece(out, name="word_piece_bert", **normalizer):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    save(out, name, tokenizer)


def word_piece_cased(out):
    word_piece(out, "word_piece_cased", lowercase=False, clean_text=False, handle_chinese_chars=False)


def added_flags(out):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], limit_alphabet=80, show_progress=False))
    tokenizer.add_special_tokens([
        AddedToken("[L]", lstrip=True, special=True), AddedToken("[R]", rstrip=True, special=True),
        AddedToken("[B]", lstrip=True, rstrip=True, special=True), AddedToken("[S]", special=True)])
    tokenizer.add_tokens([
        AddedToken("[W]", single_word=True), AddedToken("[N]", normalized=True),
        AddedToken("<s>", normalized=False), AddedToken("aaaa", normalized=True), AddedToken("aaaaaaaa", normalized=True)])
    save(out, "added_flags", tokenizer)


RULES = [("FF21", "41"), ("FF42", "62"), ("2460", "31"), ("FB01", "66 69"), ("3000", "20"), ("0009", "20"),
         ("000A", "20"), ("65 301", "E9"), ("200B", ""), ("212B", "C5"), ("1F600", "3A 29")]


def train_sentencepiece(**options):
    model = io.BytesIO()
    # Blank lines and line ends inside a sentence are not sentencepiece's business.
    lines = [line.replace("\n", " ") for line in corpus()]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, num_threads=1,
                                             hard_vocab_limit=False, minloglevel=2, **options)
    return model.getvalue()


def save_sentencepiece(out, name, model):
    with open(os.path.join(out, name + ".model"), "wb") as file:
        file.write(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    bos = processor.bos_id()
    write_encodings(os.path.join(out, name + ".encodings.jsonl"), processor.encode,
                    lambda text: [bos] + processor.encode(text), lambda ids, skip: processor.decode(ids))


def sentencepiece_bpe(out):
    save_sentencepiece(out, "sentencepiece_bpe", train_sentencepiece(
        model_type="bpe", vocab_size=700, normalization_rule_name="identity", remove_extra_whitespaces=False,
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98))


def unigram_model():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False) as rules:
        rules.write("".join(f"{source}\t{target}\n" for source, target in RULES))
    try:
        return train_sentencepiece(model_type="unigram", vocab_size=500, normalization_rule_tsv=rules.name,
                                   character_coverage=0.98)
    finally:
        os.remove(rules.name)


def sentencepiece_unigram(out):
    save_sentencepiece(out, "sentencepiece_unigram", unigram_model())


def fields(message):
    """(number, value) of the length-delimited fields of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            varint()
        elif tag & 7 == 1:
            at += 8
        elif tag & 7 == 5:
            at += 4
        else:
            length = varint()
            yield tag >> 3, message[at:at + length]
            at += length


def unigram_t5(out):
    normalizer = next(value for number, value in fields(unigram_model()) if number == 3)
    charsmap = next(value for number, value in fields(normalizer) if number == 2)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(bytes(charsmap))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.train_from_iterator(corpus(), trainers.UnigramTrainer(
        vocab_size=600, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    save(out, "unigram_t5", tokenizer)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    failed = []
    for make in (byte_level_gpt2, byte_level_prefix_space, byte_level_llama3, byte_fallback_llama2,
                 byte_fallback_metaspace, bpe_word_ends, unigram_albert, unigram_t5, added_flags, word_piece,
                 word_piece_cased, sentencepiece_bpe, sentencepiece_unigram):
        try:
            make(out)
        except Exception:  # the others are still worth having; the exit status says that one is missing
            traceback.print_exc()
            failed.append(make.__name__)
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            save(out, os.path.basename(os.path.dirname(os.path.abspath(path))), file.read())
    with open(os.path.join(out, "VERSIONS"), "w") as file:
        file.write(f"tokenizers {tokenizers.__version__}\nsentencepiece {sentencepiece.__version__}\n")
    size = sum(os.path.getsize(os.path.join(out, name)) for name in os.listdir(out))
    print(f"{len(os.listdir(out))} files, {size} bytes in {out}" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
