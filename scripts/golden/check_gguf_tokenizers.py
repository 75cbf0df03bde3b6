#!/usr/bin/env python3
"""Holds the tokenizers that `linnet import` makes to llama.cpp's, for every pre-tokenizer's name that it knows.

    scripts/golden/check_gguf_tokenizers.py BIN WORK [TOKENIZER.model …]      BIN: build/release/bin; WORK: a folder for what is made

Writes tiny GGUF models with the vocabulary and merges of models/linnet-small under each name, and with the sentencepiece
models given (which merge by scores, with and without a space before), imports them, and compares the ids of texts of many scripts, as
they are and shuffled together. Needs PyPI's cyllama (llama.cpp), gguf, numpy, sentencepiece.

Run with cyllama 0.2.18, gguf 0.19.0, on the sentencepiece_bpe.model of tests/data/tokenizers/hf too: all 322 texts the same under
every name, but one under `qwen2`: its texts are composed (NFC) as Hugging Face's tokenizer does, and llama.cpp's are not.
"""
import json
import os
import random
import subprocess
import sys

import numpy as np
import sentencepiece
from cyllama.llama import llama_cpp
from gguf import GGUFWriter

BIN, WORK = sys.argv[1:3]
NAMES = ["default", "gpt-2", "phi-2", "smollm", "starcoder", "refact", "codeshell", "llama-bpe", "llama3", "llama-v3", "falcon3",
         "smaug-bpe", "qwen2", "stablelm2", "deepseek-r1-qwen", "tekken"]
TEXTS = [
    "The river turns slowly past the mill, and nobody minds.", "  two  spaces ", "\n\n\ttabs\r\n x", "don't, I'M, they'll, WE'VE",
    "3.14159 1234567890 x²+y³=½ ٣٤٥ 一二三 Ⅷ", "Größe, naïve, Ångström", "Москва́ — столица; Київ", "東京は日本の首都です。",
    "안녕하세요 세계", "नमस्ते दुनिया", "مرحبا بالعالم", "שלום עולם", "สวัสดีชาวโลก", "\U0001F600\U0001F468\u200d\U0001F469!?",
    "def f(x):\n    return x**2  # ∑\n", "a\u00a0b\u2003c\u200bd", "[[]]{}()<>«»“”…—–·•$+=^~|", "HTTPServer camelCase ABCdef Ǆabc",
    "path/to/file.txt\r\n\r\n", "   \n  \n", "x\n", "  ",
]
random.seed(1)
pool = "".join(TEXTS)
for _ in range(300):
    TEXTS.append("".join(random.choice(pool) for _ in range(random.randrange(1, 40))))


def write(path, tokenizer):
    writer = GGUFWriter(path, "llama")
    size = tokenizer(writer)
    for add, value in ((writer.add_block_count, 1), (writer.add_context_length, 64), (writer.add_embedding_length, 32),
                       (writer.add_feed_forward_length, 32), (writer.add_head_count, 2), (writer.add_head_count_kv, 2),
                       (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_dimension_count, 16)):
        add(value)
    for name, shape in (("token_embd", (size, 32)), ("output_norm", (32,)), ("blk.0.attn_norm", (32,)), ("blk.0.ffn_norm", (32,)),
                        *((f"blk.0.{n}", (32, 32)) for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))):
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def bpe(name):
    model = json.load(open("models/linnet-small/tokenizer.json", encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)

    def add(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(tokens)
        writer.add_token_types([3] + [1] * (len(tokens) - 1))
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(False)
        return len(tokens)
    return add


def pieces(file, prefix):
    model = sentencepiece.SentencePieceProcessor(model_file=file)
    count = model.get_piece_size()

    def kind(i):
        return 6 if model.is_byte(i) else 2 if model.is_unknown(i) else 3 if model.is_control(i) else 5 if model.is_unused(i) else 1

    def add(writer):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([model.id_to_piece(i) for i in range(count)])
        writer.add_token_scores([model.get_score(i) for i in range(count)])
        writer.add_token_types([kind(i) for i in range(count)])
        writer.add_bos_token_id(model.bos_id())
        writer.add_eos_token_id(model.eos_id())
        writer.add_unk_token_id(model.unk_id())
        writer.add_add_space_prefix(prefix)
        return count
    return add


os.makedirs(WORK, exist_ok=True)
with open(f"{WORK}/texts.jsonl", "w", encoding="utf-8") as out:
    for text in TEXTS:
        out.write(json.dumps({"text": text}) + "\n")
rows = [(name, bpe(name)) for name in NAMES]
for file in sys.argv[3:]:
    rows += [(f"{os.path.basename(file)}{' without prefix' * (not prefix)}", pieces(file, prefix)) for prefix in (True, False)]
for name, tokenizer in rows:
    path = f"{WORK}/{name}.gguf".replace(" ", "-")
    write(path, tokenizer)
    subprocess.run(["rm", "-rf", f"{path}.folder"], check=True)
    subprocess.run([f"{BIN}/linnet", "import", path, "-o", f"{path}.folder"], check=True, capture_output=True)
    done = subprocess.run([f"{BIN}/linnet", "tokenizer", "encode", f"{path}.folder", f"{WORK}/texts.jsonl"], check=True, capture_output=True, text=True)
    own = [[int(x) for x in line.split()] for line in done.stdout.split("\n")[:-1]]
    model = llama_cpp.LlamaModel(path_model=path, verbose=False)  # which the vocabulary needs
    vocab = model.get_vocab()
    wrong = [text for text, ids in zip(TEXTS, own, strict=True) if ids != list(vocab.tokenize(text, False, True))]
    print(f"{name}: {len(TEXTS) - len(wrong)} of {len(TEXTS)} texts the same; not: {wrong[:3]}", flush=True)
