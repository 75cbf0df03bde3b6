#!/usr/bin/env python3
"""Holds folders that `linnet quantize --keep-embedding` writes to transformers, which dequantizes them by compressed-tensors.

    scripts/golden/check_quantized.py BIN MODEL TEXT WORK      BIN: build/release/bin; WORK: a folder for what is made

The perplexity of TEXT's beginning, read whole after the first token of the vocabulary, by both programs, in float32, of MODEL
and of it in every form that compressed-tensors has. Needs PyPI's torch, transformers, compressed-tensors.

Run with transformers 5.24.0, torch 2.15.0, compressed-tensors 0.20.0 on models/linnet-small and README.md, 1098 tokens: 116.735
as stored, 116.984 int8, 116.684 in rows, 120.828 int4, 120.634 in groups of 64, each the same in both to 6 digits.
"""
import json
import math
import os
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BIN, MODEL, TEXT, WORK = sys.argv[1:5]
FORMS = {"int8": ["--weights", "int8"], "int8-row": ["--weights", "int8", "--group", "row"],
         "int4": ["--weights", "int4", "--symmetric"], "int4-64": ["--weights", "int4", "--symmetric", "--group", "64"]}


def linnet(*arguments):
    done = subprocess.run([f"{BIN}/linnet", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"linnet {' '.join(arguments)}: status {done.returncode}: {done.stderr}")


text = open(TEXT, encoding="utf-8").read()[:3000]
os.makedirs(WORK, exist_ok=True)
with open(f"{WORK}/text.txt", "w", encoding="utf-8") as file:
    file.write(text)
ids = AutoTokenizer.from_pretrained(MODEL)(text, add_special_tokens=False).input_ids
rows = torch.tensor([[0] + ids])
worst = 0.0
for name in ["stored", *FORMS]:
    folder = MODEL
    if name != "stored":
        folder = f"{WORK}/{name}"
        subprocess.run(["rm", "-rf", folder], check=True)
        linnet("quantize", MODEL, "-o", folder, "--keep-embedding", *FORMS[name])
    linnet("perplexity", folder, f"{WORK}/text.txt", "--dtype", "float32", "--json", f"{WORK}/out.json")
    ours = json.load(open(f"{WORK}/out.json"))["token_perplexity"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(rows).logits[0, :-1].double()
    theirs = math.exp(torch.nn.functional.cross_entropy(logits, rows[0, 1:]).item())
    worst = max(worst, abs(ours / theirs - 1))
    print(f"{name:10} {len(ids)} tokens: {ours:.6g} here, {theirs:.6g} there")
sys.exit("they differ" if worst > 1e-4 else 0)
