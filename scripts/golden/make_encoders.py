"""Makes tiny Hugging Face encoders and what transformers computes from them.

    python3 make_encoders.py OUT [NAME…]  needs torch, transformers, safetensors; CPU, a few seconds

One folder a model, written by transformers itself, plus golden.safetensors:

    input_ids, token_type_ids [n] int64   a sequence; the model's second kind of tokens in its last third
    hidden [n, hidden] float32            rows after the last layer
    short_ids [m] int64, short_hidden     a sequence that is shorter, of kind 0
    pooled [hidden]                       where the folder has a pooler
    logits [n, vocabulary]                where it has a head; then too:
    masked_ids, labels [n] int64          the sequence with some tokens replaced, and what they were (-100: not asked)
    gradient.NAME                         of the mean loss over the labels, by the tensor's name in the folder
    losses [10] float64                   that loss before each of ten AdamW steps from these weights

metadata: the optimizer's numbers (weight decay on tensors of two and more dimensions only) and the versions.
"""

import argparse
import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

from make_hf import randomize
from ten_steps import OPTIMIZER, ten_losses

VOCABULARY, LENGTH, SHORT, MASK = 120, 41, 9, 4
# Sizes that no vector's length divides.
FIELDS = dict(vocab_size=VOCABULARY, hidden_size=36, intermediate_size=44, num_hidden_layers=3, num_attention_heads=3,
              max_position_embeddings=64, initializer_range=0.2, hidden_dropout_prob=0.0,
              attention_probs_dropout_prob=0.0)


def encoder(name, kind, **changes):
    config = getattr(transformers, name + "Config")(**(FIELDS | changes))
    config._attn_implementation = "eager"
    return getattr(transformers, name + kind)(config)


MODELS = {
    "bert-bare": lambda: encoder("Bert", "Model", pad_token_id=0),
    "bert": lambda: encoder("Bert", "ForMaskedLM", pad_token_id=0),
    "roberta": lambda: encoder("Roberta", "ForMaskedLM", pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5),
    "xlm-roberta": lambda: encoder("XLMRoberta", "ForMaskedLM", pad_token_id=1, type_vocab_size=1,
                                   layer_norm_eps=1e-5, hidden_act="gelu_new", tie_word_embeddings=False),
}


def loss_of(model, tensors):
    logits = model(tensors["masked_ids"][None], token_type_ids=tensors["token_type_ids"][None]).logits[0]
    return torch.nn.functional.cross_entropy(logits.double(), tensors["labels"])


def train(model, tensors, folder):
    loss_of(model, tensors).backward()
    with torch.no_grad():
        own = set(load_file(folder / "model.safetensors"))
    missing = []
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if name not in own:
            missing.append(name)
        tensors[f"gradient.{name}"] = parameter.grad.clone()
    model.zero_grad()
    tensors["losses"] = ten_losses(model.parameters(), lambda _: loss_of(model, tensors))
    return missing


def make(name, folder):
    torch.manual_seed(sum(name.encode()))
    model = MODELS[name]().eval()
    randomize(model, sum(name.encode()))
    model.save_pretrained(folder)
    ids = torch.randint(5, VOCABULARY, (LENGTH,))
    types = torch.zeros(LENGTH, dtype=torch.long)
    if model.config.type_vocab_size > 1:
        types[2 * LENGTH // 3:] = 1
    short = torch.randint(5, VOCABULARY, (SHORT,))
    body = model if hasattr(model, "embeddings") else getattr(model, model.base_model_prefix)
    tensors = {"input_ids": ids, "token_type_ids": types, "short_ids": short}
    with torch.no_grad():
        out = body(ids[None], token_type_ids=types[None])
        tensors["hidden"] = out.last_hidden_state[0].clone()
        tensors["short_hidden"] = body(short[None]).last_hidden_state[0].clone()
        if getattr(out, "pooler_output", None) is not None:
            tensors["pooled"] = out.pooler_output[0].clone()
        elif body is model:
            raise SystemExit("no pooler")
    if body is not model:
        with torch.no_grad():
            tensors["logits"] = model(ids[None], token_type_ids=types[None]).logits[0].clone()
        chosen = torch.rand(LENGTH) < 0.25
        tensors["masked_ids"] = torch.where(chosen, MASK, ids)
        tensors["labels"] = torch.where(chosen, ids, -100)
        print(name, "not in the folder:", train(model, tensors, folder))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "golden.safetensors",
              metadata={"optimizer": json.dumps(OPTIMIZER), "versions": json.dumps(versions)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    for name in arguments.names or MODELS:
        folder = arguments.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(name, folder)


if __name__ == "__main__":
    main()
