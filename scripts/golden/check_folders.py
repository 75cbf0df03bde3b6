#!/usr/bin/env python3
"""Holds the folders that Linnet writes to Hugging Face transformers (and PEFT, where it is installed).

    scripts/golden/check_folders.py BIN TEXT      BIN: build/release/bin; TEXT: a .txt file of a few thousand letters

The shipped base, the same finetuned in full, and with a merged LoRA: transformers loads the folder, continues prompts
greedily with the same text, scores TEXT alike and gives the same ids. PEFT applies Linnet's LoRA to the same weights.
LoRAs of GPT-2 and LLaMA checkpoints of tests/data/hf, made here, merged by Linnet: the same logits. A LoRA that Linnet
trains on a T5 of its own: PEFT finds every matrix of it, and writes it so that Linnet merges the same. Run with
transformers 5.17: all greedy texts the same, 3.4e-7 relative RMS of the merged logits, 9.5e-4 at most between PEFT's
float32 weights and Linnet's bf16 ones. T5 with transformers 5.24, PEFT 0.21: 16 and 14 matrices,
6.1e-4 relative RMS at most between PEFT's float32 logits and those of the merged bf16 folder.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

BIN, TEXT = sys.argv[1], open(sys.argv[2], encoding="utf-8").read()
BASE, DATA = "models/linnet-small", "data/technical-train.jsonl.xz"
PROMPTS = ["The captain looked at the sea and", "In this chapter we describe how the file system",
           "Once upon a time there was a little girl who"]
WORK = tempfile.mkdtemp()
T5_ROWS = ["--data", f"{WORK}/t5.txt", "--batch", "2", "--context", "32", "--threads", "1"]


def linnet(*arguments):
    done = subprocess.run([f"{BIN}/linnet", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"linnet {' '.join(arguments)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def compare(folder, label):
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    same = 0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=48, pad_token_id=0)[0, ids["input_ids"].shape[1]:]
        own = linnet("generate", folder, "--prompt", prompt, "--temperature", "0", "--max-new-tokens", "48",
                     "--dtype", "float32")
        same += tokenizer.decode(out, skip_special_tokens=True).strip() == own.strip()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"][:1000]
    text = f"{WORK}/text.txt"
    with open(text, "w", encoding="utf-8") as file:
        file.write(tokenizer.decode(ids))
    tokens = torch.tensor([[0] + ids])
    with torch.no_grad():
        logits = model(tokens).logits[0, :-1].log_softmax(-1)
    nats = -logits.gather(1, tokens[0, 1:, None]).mean().item()
    linnet("perplexity", folder, text, "--dtype", "float32", "--window", "1024", "--json", f"{WORK}/score.json")
    own = math.log(json.load(open(f"{WORK}/score.json"))["token_perplexity"])
    own_ids = [int(x) for x in linnet("tokenizer", "encode", folder, text).split()]
    print(f"{label}: {same} of {len(PROMPTS)} greedy texts the same; nats a token {nats:.6f}, Linnet's {own:.6f}; "
          f"ids the same: {own_ids == tokenizer(open(text, encoding='utf-8').read(), add_special_tokens=False)['input_ids']}")


def merged_logits(name):
    source = f"tests/data/hf/{name}"
    model = load(source)
    generator, tensors, deltas = torch.Generator().manual_seed(1), {}, {}
    for module_name, module in model.named_modules():
        if module_name.endswith(("c_attn", "q_proj", "o_proj", "attn.c_proj", "qkv_proj", "gate_up_proj",
                                 "query_key_value", "attention.dense")):
            transposed = type(module).__name__ == "Conv1D"
            inputs, outputs = module.weight.shape if transposed else module.weight.shape[::-1]
            a = torch.randn(4, inputs, generator=generator) * 0.1
            b = torch.randn(outputs, 4, generator=generator) * 0.1
            tensors[f"base_model.model.{module_name}.lora_A.weight"] = a
            tensors[f"base_model.model.{module_name}.lora_B.weight"] = b
            deltas[module_name] = (2 * b @ a).T if transposed else 2 * b @ a
    lora = f"{WORK}/{name}-lora"
    os.makedirs(lora)
    save_file(tensors, f"{lora}/adapter_model.safetensors", metadata={"format": "pt"})
    with open(f"{lora}/adapter_config.json", "w", encoding="utf-8") as file:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": os.path.abspath(source),
                   "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": name == "gpt2",
                   "target_modules": sorted({n.split(".")[-1] for n in deltas})}, file)
    linnet("merge", lora, "--base", source, "-o", f"{WORK}/{name}-merged")
    merged = load(f"{WORK}/{name}-merged")
    with torch.no_grad():
        for module_name, module in model.named_modules():
            if module_name in deltas:
                module.weight += deltas[module_name]
        tokens = torch.arange(1, 33)[None] % model.config.vocab_size
        expected, got = model(tokens).logits, merged(tokens).logits
    print(f"{name} with a merged LoRA: relative RMS of the logits {(expected - got).norm() / expected.norm():.2e}")


def t5_of_our_own():
    """A folder that `linnet pretrain` makes of a few sentences."""
    with open("tests/data/tokenizers/hf/unigram_t5.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    pieces, sentinels = 559, 30
    for i in range(sentinels):
        tokenizer["added_tokens"].append({"id": pieces + sentinels - 1 - i, "content": f"<extra_id_{i}>",
                                          "single_word": False, "lstrip": False, "rstrip": False,
                                          "normalized": False, "special": True})
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 600, "d_model": 32,
              "d_kv": 16, "d_ff": 64, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 1,
              "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "is_encoder_decoder": True,
              "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    for name, content in (("t5.json", config), ("tokenizer.json", tokenizer)):
        with open(f"{WORK}/{name}", "w", encoding="utf-8") as file:
            json.dump(content, file)
    with open(f"{WORK}/t5.txt", "w", encoding="utf-8") as file:
        file.write("the quick brown fox jumps over the lazy dog and runs away. " * 60)
    linnet("pretrain", "--config", f"{WORK}/t5.json", "--tokenizer", f"{WORK}/tokenizer.json", *T5_ROWS,
           "--tokens", "512", "-o", f"{WORK}/t5")
    return f"{WORK}/t5"


def t5_lora(base, name, targets):
    """PEFT reads Linnet's LoRA, and Linnet what PEFT writes of it."""
    def load_t5(folder):
        return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()

    lora = f"{WORK}/{name}"
    linnet("finetune", base, "--train", "lora", *targets, *T5_ROWS, "--tokens", "2048", "--lr", "1e-2", "-o", lora)
    linnet("merge", lora, "-o", f"{lora}-merged")
    applied = peft.PeftModel.from_pretrained(load_t5(base), lora)
    written = len(load_file(f"{lora}/adapter_model.safetensors")) // 2
    found = sum("lora_B" in parameter for parameter, _ in applied.named_parameters())
    if found != written:
        sys.exit(f"PEFT finds {found} of the {written} matrices of {name}")
    tokens = torch.arange(3, 19)[None]
    with torch.no_grad():
        base_logits, got, own = (model(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
                                 for model in (load_t5(base), applied, load_t5(f"{lora}-merged")))
    applied.save_pretrained(f"{lora}-by-peft")
    linnet("merge", f"{lora}-by-peft", "--base", base, "-o", f"{lora}-again")
    once, again = (load_t5(folder).state_dict() for folder in (f"{lora}-merged", f"{lora}-again"))
    print(f"T5, {name}: PEFT finds {found} matrices; relative RMS of its logits to Linnet's, merged in bf16, "
          f"{(got - own).norm() / own.norm():.1e}, to the base's {(got - base_logits).norm() / base_logits.norm():.1e}; "
          f"Linnet merges PEFT's file alike: {all(torch.equal(once[n], again[n]) for n in once)}")


compare(BASE, "shipped")
training = ["--data", DATA, "--tokens", "8192", "--device", "cpu", "--lr", "1e-3"]
linnet("finetune", BASE, "--train", "all", *training, "-o", f"{WORK}/all")
compare(f"{WORK}/all", "finetuned in full")
linnet("finetune", BASE, "--train", "lora", *training, "-o", f"{WORK}/lora")
linnet("merge", f"{WORK}/lora", "--base", BASE, "-o", f"{WORK}/merged")
compare(f"{WORK}/merged", "finetuned by LoRA, merged")
try:
    import peft
    applied = peft.PeftModel.from_pretrained(load(BASE), f"{WORK}/lora").merge_and_unload().state_dict()
    own = load(f"{WORK}/merged").state_dict()
    print(f"PEFT's weights and Linnet's differ by {max((applied[n] - own[n]).abs().max().item() for n in own):.1e} at most")
    t5 = t5_of_our_own()
    t5_lora(t5, "t5-lora", [])
    t5_lora(t5, "t5-lora-feed-forward", ["--lora-targets", "q", "v", "wi_0", "wo"])
except ImportError:
    print("PEFT is not installed here")
for checkpoint in ("gpt2", "llama-rope-yarn", "llama-biases", "qwen3", "phi3", "phi3-longrope", "olmo2", "gpt-neox",
                   "gemma", "gemma2", "smollm3"):
    merged_logits(checkpoint)
