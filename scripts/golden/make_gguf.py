#!/usr/bin/env python3
"""Makes tests/data/gguf/blocks.safetensors and the seeds of tests/fuzz/gguf_fuzzer.cpp: random blocks of every GGUF type that Linnet reads, and their numbers.

    scripts/golden/make_gguf.py tests/data/gguf tests/fuzz/seeds/gguf

For each type NAME: `NAME.blocks` [bytes] as a file holds them, with every bit of the quantized numbers random and finite
scales, and `NAME.numbers` [numbers], float32, as PyPI's `gguf` dequantizes them in numpy. The seeds are models of one
layer, written by `gguf`. Made with gguf 0.19.0.
"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, RopeScalingType
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

BLOCKS = 6
# Bytes where a block holds float16 scales.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

random = np.random.default_rng(17)
tensors = {}
for name in ["F32", "F16", "BF16", *SCALES]:
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    if name in SCALES:
        blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in SCALES[name]:
            blocks[:, at:at + 2] = random.normal(0, 0.1, (BLOCKS, 1)).astype(np.float16).view(np.uint8)
    else:
        numbers = random.normal(0, 3, BLOCKS * 8).astype(np.float32)
        blocks = {"F32": numbers.view(np.uint8), "F16": numbers.astype(np.float16).view(np.uint8),
                  "BF16": (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)}[name]
        blocks = blocks.reshape(1, -1)
    tensors[f"{name}.blocks"] = blocks.reshape(-1)
    tensors[f"{name}.numbers"] = dequantize(blocks, kind).astype(np.float32).reshape(-1)
save_file(tensors, f"{sys.argv[1]}/blocks.safetensors")
print({name: tensor.shape for name, tensor in tensors.items()})


def seed(name, arch, kind, sentencepiece):
    hidden, heads, kv, wide, vocabulary = 32, 2, 1, 32, 8
    writer = GGUFWriter(f"{sys.argv[2]}/{name}", arch)
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if sentencepiece:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "<y>"])
        writer.add_token_scores([0.0, 0.0, 0.0, -3.0, -4.0, -5.0, -1.0, 0.0])
        writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 4])
        writer.add_add_space_prefix(True)
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(2.0)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(["<u>", "<s>", "</s>", "a", "b", "ab", "1", "\u0120"])
        writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 1])
        writer.add_token_merges(["a b"])
        writer.add_chat_template("{{ messages }}")

    def add(tensor, rows, columns=hidden, kind=kind):
        numbers = random.normal(0, 0.1, (rows, columns)).astype(np.float32)
        writer.add_tensor(tensor, quantize(numbers, kind), raw_dtype=kind)

    def vector(tensor, size):
        writer.add_tensor(tensor, random.normal(1, 0.1, size).astype(np.float32))

    add("token_embd.weight", vocabulary, kind=GGMLQuantizationType.F16)
    vector("output_norm.weight", hidden)
    for norm in ("attn_norm", "ffn_norm"):
        vector(f"blk.0.{norm}.weight", hidden)
    for matrix, rows in (("attn_q", hidden), ("attn_k", 16), ("attn_v", 16), ("attn_output", hidden),
                         ("ffn_gate", wide), ("ffn_up", wide), ("ffn_down", hidden)):
        add(f"blk.0.{matrix}.weight", rows)
        if arch == "qwen2" and matrix in ("attn_q", "attn_k", "attn_v"):
            vector(f"blk.0.{matrix}.bias", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


seed("llama_bpe", "llama", GGMLQuantizationType.Q4_0, False)
seed("llama_sentencepiece", "llama", GGMLQuantizationType.Q5_1, True)
seed("qwen2", "qwen2", GGMLQuantizationType.Q8_0, False)
