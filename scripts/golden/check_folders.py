#!/usr/bin/env python3
"""Holds the folders that Linnet writes to Hugging Face transformers (and PEFT, where it is installed).

    scripts/golden/check_folders.py BIN TEXT      BIN: build/release/bin; TEXT: a .txt file of a few thousand letters

The shipped base, the same finetuned in full, and with a merged LoRA: transformers loads the folder, continues prompts
greedily with the same text, scores TEXT alike and gives the same ids. PEFT applies Linnet's LoRA to the same weights.
LoRAs of checkpoints of tests/data, a row a family, made here, merged by Linnet: the same logits. A folder a family that
Linnet pretrains, and the classifier that `finetune --task` makes of it: the class that config.json names finds every
tensor and takes a padded batch for what `linnet classify` does; an encoder's mean rows are those of `linnet embed`. A LoRA
that Linnet trains on a T5 of its own: PEFT finds every matrix of it, and writes it so that Linnet merges the same. LoRAs
that PEFT makes of classifiers, their heads whole beside them: the same logits.
docs/formats.md has what a run gave.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

BIN, TEXT = sys.argv[1], open(sys.argv[2], encoding="utf-8").read()
BASE, DATA = "models/linnet-small", "data/technical-train.jsonl.xz"
PROMPTS = ["The captain looked at the sea and", "In this chapter we describe how the file system",
           "Once upon a time there was a little girl who"]
WORK = tempfile.mkdtemp()
T5_ROWS = ["--data", f"{WORK}/t5.txt", "--batch", "2", "--context", "32", "--threads", "1"]
CLASSIFIERS = ["llama", "gpt2", "gpt-neox", "bert", "roberta", "t5"]
# What LoRAs stand beside: a checkpoint of tests/data, by its folder there.
MERGED = [*(f"hf/{name}" for name in (
    "gpt2", "llama-rope-yarn", "llama-biases", "mistral-window", "qwen2-window", "qwen2-layer-types", "qwen3", "phi3",
    "phi3-longrope", "olmo2", "gpt-neox", "gemma", "gemma2", "smollm3")),
          *(f"encoders/{name}" for name in ("bert", "roberta", "xlm-roberta")),
          *(f"classifiers/{name}" for name in CLASSIFIERS if name != "t5")]
# Families of which `pretrain` makes a folder and `finetune --task` a classifier: tokenizer, and the fields of their own.
WORD_PIECE, SMALL = "tests/data/tokenizers/hf/word_piece_bert.json", f"{BASE}/tokenizer.json"
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 128}
DECODER = SIZES | {"num_key_value_heads": 2, "vocab_size": 8192, "bos_token_id": 0, "eos_token_id": 0}
ENCODER = SIZES | {"vocab_size": 500, "pad_token_id": 0}
OWN = {
    "bert": (WORD_PIECE, ENCODER),
    "roberta": (WORD_PIECE, ENCODER),
    "xlm-roberta": (WORD_PIECE, ENCODER),
    "gpt2": (SMALL, {"vocab_size": 8192, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128,
                     "bos_token_id": 0, "eos_token_id": 0}),
    "gpt_neox": (SMALL, DECODER | {"rotary_pct": 0.5}),
    "llama": (SMALL, DECODER),
    "mistral": (SMALL, DECODER | {"sliding_window": 8}),
    "qwen2": (SMALL, DECODER | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": (SMALL, DECODER | {"head_dim": 8}),
    "smollm3": (SMALL, DECODER),
    "phi3": (SMALL, DECODER),
    "olmo2": (SMALL, DECODER),
    "gemma": (SMALL, DECODER | {"head_dim": 8}),
    "gemma2": (SMALL, DECODER | {"head_dim": 8, "sliding_window": 8}),
}
SENTENCES = ["the quick brown fox", "a lazy dog runs away over the hill and sleeps", "over",
             "the fox jumps and the dog runs"]


def linnet(*arguments):
    done = subprocess.run([f"{BIN}/linnet", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"linnet {' '.join(arguments)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def load(folder):
    """The class that config.json names, every tensor of which the folder must have."""
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        name = json.load(file)["architectures"][0]
    model, found = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if any(found.values()):
        sys.exit(f"{folder}: {name} finds {found}")
    return model.eval()


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


def logits_of(model, config):
    tokens = torch.arange(3, 35)[None] % config.vocab_size
    tokens[0, -1] = config.eos_token_id or 2  # T5's classifier reads the row there
    with torch.no_grad():
        return model(tokens).logits


def say_differences(what, expected, got):
    print(f"{what}: relative RMS of the logits {(expected - got).norm() / expected.norm():.1e}, largest difference "
          f"{(expected - got).abs().max():.1e}")


def merged_logits(place):
    source, name = f"tests/data/{place}", place.replace("/", "-")
    model = load(source)
    generator, tensors, deltas = torch.Generator().manual_seed(1), {}, {}
    for module_name, module in model.named_modules():
        if module_name.endswith(("c_attn", "q_proj", "o_proj", "attn.c_proj", "qkv_proj", "gate_up_proj",
                                 "query_key_value", "attention.dense", "query", "value", "attention.output.dense",
                                 "SelfAttention.q", "EncDecAttention.v")):
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
                   "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": place.endswith("gpt2"),
                   "target_modules": sorted({n.split(".")[-1] for n in deltas})}, file)
    linnet("merge", lora, "--base", source, "-o", f"{WORK}/{name}-merged")
    merged = load(f"{WORK}/{name}-merged")
    with torch.no_grad():
        for module_name, module in model.named_modules():
            if module_name in deltas:
                module.weight += deltas[module_name]
    say_differences(f"{place}, {type(model).__name__}, with a merged LoRA", logits_of(model, model.config),
                    logits_of(merged, model.config))


def classifier_lora(place):
    """What PEFT writes of a classifier by itself, modules_to_save included; T5's head it saves where it is told to."""
    source, name = f"tests/data/{place}", place.replace("/", "-")
    model = load(source)
    torch.manual_seed(1)
    applied = peft.get_peft_model(model, peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=8, modules_to_save=["classification_head"] if place.endswith("t5") else None))
    for parameter in applied.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1)
    applied.eval().save_pretrained(f"{WORK}/{name}-peft")
    linnet("merge", f"{WORK}/{name}-peft", "--base", source, "-o", f"{WORK}/{name}-peft-merged")
    say_differences(f"{place}, {type(model).__name__}, with a LoRA of PEFT's own", logits_of(applied, model.config),
                    logits_of(load(f"{WORK}/{name}-peft-merged"), model.config))


def ids_of(folder):
    """Of the folder's own tokenizer, not the class that transformers keeps for the family where it names none."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    return tokenizer(SENTENCES)["input_ids"]


def of_our_own(name):
    """A folder that `linnet pretrain` makes; an encoder's rows are those of `linnet embed`."""
    tokenizer, fields = OWN[name]
    with open(f"{WORK}/{name}.json", "w", encoding="utf-8") as file:
        json.dump(fields | {"model_type": name}, file)
    linnet("pretrain", "--config", f"{WORK}/{name}.json", "--tokenizer", tokenizer, *T5_ROWS, "--tokens", "512",
           "--lr", "1e-2", "-o", f"{WORK}/{name}")
    model = load(f"{WORK}/{name}")
    if fields is ENCODER:
        own = [json.loads(line)["embedding"] for line in linnet(
            "embed", f"{WORK}/{name}", *SENTENCES, "--pooling", "mean", "--dtype", "float32").splitlines()]
        rows = [model.base_model(torch.tensor([ids])).last_hidden_state[0].mean(0)
                for ids in ids_of(f"{WORK}/{name}")]
        difference = (torch.stack(rows) - torch.tensor(own)).abs().max()
        print(f"{type(model).__name__} of our own: largest difference of the mean rows {difference:.1e}")
    return f"{WORK}/{name}"


def classifier_of(base):
    """What transformers takes a padded batch for, and what `linnet classify` does."""
    with open(f"{WORK}/kinds.jsonl", "w", encoding="utf-8") as file:
        for i, text in enumerate(SENTENCES * 4):
            file.write(json.dumps({"text": text, "label": ["a", "b", "c"][i % 4 % 3]}) + "\n")
    with open(f"{WORK}/kinds.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(SENTENCES) + "\n")
    linnet("finetune", base, "--task", f"{WORK}/kinds.jsonl", "--text-fields", "text", "--epochs", "2", "--batch", "4",
           "--lr", "1e-2", "--threads", "1", "-o", f"{base}-kinds")
    model, rows = load(f"{base}-kinds"), [torch.tensor(ids) for ids in ids_of(f"{base}-kinds")]
    pad = torch.nn.utils.rnn.pad_sequence
    with torch.no_grad():
        logits = model(pad(rows, True, model.config.pad_token_id),
                       attention_mask=pad([torch.ones_like(row) for row in rows], True)).logits
    own = [json.loads(line)["probabilities"]
           for line in linnet("classify", f"{base}-kinds", f"{WORK}/kinds.txt", "--dtype", "float32").splitlines()]
    own = torch.tensor([[row[model.config.id2label[i]] for i in range(3)] for row in own]).log()
    print(f"{type(model).__name__} of our own: largest difference of the log probabilities "
          f"{(logits.log_softmax(-1) - own).abs().max():.1e} of at most {own.abs().max():.1f}")


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
    lora = f"{WORK}/{name}"
    linnet("finetune", base, "--train", "lora", *targets, *T5_ROWS, "--tokens", "2048", "--lr", "1e-2", "-o", lora)
    linnet("merge", lora, "-o", f"{lora}-merged")
    applied = peft.PeftModel.from_pretrained(load(base), lora)
    written = len(load_file(f"{lora}/adapter_model.safetensors")) // 2
    found = sum("lora_B" in parameter for parameter, _ in applied.named_parameters())
    if found != written:
        sys.exit(f"PEFT finds {found} of the {written} matrices of {name}")
    tokens = torch.arange(3, 19)[None]
    with torch.no_grad():
        base_logits, got, own = (model(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
                                 for model in (load(base), applied, load(f"{lora}-merged")))
    applied.save_pretrained(f"{lora}-by-peft")
    linnet("merge", f"{lora}-by-peft", "--base", base, "-o", f"{lora}-again")
    once, again = (load(folder).state_dict() for folder in (f"{lora}-merged", f"{lora}-again"))
    print(f"T5, {name}: PEFT finds {found} matrices; relative RMS of its logits to Linnet's, merged in bf16, "
          f"{(got - own).norm() / own.norm():.1e}, to the base's {(got - base_logits).norm() / base_logits.norm():.1e}; "
          f"Linnet merges PEFT's file alike: {all(torch.equal(once[n], again[n]) for n in once)}")


t5 = t5_of_our_own()
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
    t5_lora(t5, "t5-lora", [])
    t5_lora(t5, "t5-lora-feed-forward", ["--lora-targets", "q", "v", "wi_0", "wo"])
    for classifier in CLASSIFIERS:
        classifier_lora(f"classifiers/{classifier}")
except ImportError:
    print("PEFT is not installed here")
for checkpoint in MERGED:
    merged_logits(checkpoint)
for base in (*map(of_our_own, OWN), t5):
    classifier_of(base)
