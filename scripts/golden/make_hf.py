"""Makes tiny Hugging Face checkpoints and what transformers computes from them.

    python3 make_hf.py OUT [NAME…]  needs torch, transformers, safetensors; CPU, a few seconds; all models, or these

One folder a model, written by transformers itself, plus golden.safetensors:

    input_ids [n] int64               the sequence everything is computed on
    logits [n, vocabulary] float32
    prompt [p] int64, greedy [m] int64    generate(do_sample=False) after the prompt
    gradient.NAME                     of the mean next-token loss over input_ids, by the tensor's name in the folder
    losses [10] float64               that loss before each of ten AdamW steps from these weights

metadata: the optimizer's numbers (weight decay on tensors of two and more dimensions only) and the versions.
"""

import argparse
import json
import pathlib
import shutil
import sys
import traceback

import torch
import transformers
from safetensors.torch import load_file, save_file

from ten_steps import OPTIMIZER, ten_losses

VOCABULARY, LENGTH, PROMPT, NEW = 160, 48, 8, 24


def llama(**changes):
    fields = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, rms_norm_eps=1e-5,
                  tie_word_embeddings=False, initializer_range=0.15, bos_token_id=1, eos_token_id=2,
                  attention_bias=False, mlp_bias=False)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(fields | changes)))


def gpt2(**changes):
    fields = dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.15,
                  bos_token_id=1, eos_token_id=2, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**(fields | changes)))


def windowed(model_type, **changes):
    """Mistral or Qwen2, whose softmax sees a window in some layers; sizes that no vector's length divides."""
    configs = {"mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
               "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)}
    config, model = configs[model_type]
    fields = dict(vocab_size=VOCABULARY, hidden_size=30, intermediate_size=42, num_hidden_layers=3,
                  num_attention_heads=5, num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5,
                  tie_word_embeddings=True, initializer_range=0.2, bos_token_id=1, eos_token_id=2)
    return model(config(**(fields | changes)))


# Sizes that no vector's length divides; a head is wider than hidden / heads wherever a family lets it be.
FIELDS = dict(vocab_size=VOCABULARY, hidden_size=36, intermediate_size=44, num_hidden_layers=3,
              num_attention_heads=3, max_position_embeddings=64, initializer_range=0.2,
              bos_token_id=1, eos_token_id=2, pad_token_id=0)


def decoder(name, **changes):
    """A family by transformers' names of its classes: NAMEConfig and NAMEForCausalLM."""
    config = getattr(transformers, name + "Config")(**(FIELDS | changes), attn_implementation="eager")
    return getattr(transformers, name + "ForCausalLM")(config)


def rope(**fields):
    return {"rope_theta": 10000.0} | fields


def longrope(**fields):
    """Factors for four frequencies: of 8 numbers of a head of 12."""
    return rope(rope_type="longrope", short_factor=[1.0, 1.1, 1.25, 1.5], long_factor=[1.05, 1.5, 3.0, 8.0], **fields)


MODELS = {
    "llama-mha": lambda: llama(),
    "llama-gqa-tied": lambda: llama(num_key_value_heads=2, tie_word_embeddings=True),
    "llama-biases": lambda: llama(attention_bias=True, mlp_bias=True, num_key_value_heads=1, head_dim=12),
    "llama-rope-linear": lambda: llama(rope_parameters=rope(rope_type="linear", factor=4.0)),
    "llama-rope-llama3": lambda: llama(rope_parameters=rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)),
    "llama-rope-yarn": lambda: llama(rope_parameters=rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama-sharded": lambda: llama(num_key_value_heads=2),
    "llama-old-spelling": lambda: llama(num_key_value_heads=2, rope_parameters=rope(
        rope_type="linear", factor=2.0, rope_theta=5000.0)),
    "mistral-window": lambda: windowed("mistral", sliding_window=8, num_hidden_layers=2, head_dim=12,
                                       tie_word_embeddings=False),
    "qwen2-window": lambda: windowed("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1,
                                     tie_word_embeddings=False),
    "qwen2-layer-types": lambda: windowed(
        "qwen2", use_sliding_window=True, sliding_window=11, num_attention_heads=3, num_key_value_heads=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "qwen3": lambda: decoder("Qwen3", num_key_value_heads=1, head_dim=10, attention_bias=True),
    "qwen3-window": lambda: decoder("Qwen3", num_key_value_heads=3, head_dim=14, tie_word_embeddings=True,
                                    use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "phi3": lambda: decoder("Phi3", num_key_value_heads=1, partial_rotary_factor=0.5, sliding_window=9),
    # transformers takes the long factors of a text that is longer than the original positions, the prompt too.
    "phi3-longrope": lambda: decoder("Phi3", num_key_value_heads=1, partial_rotary_factor=0.67,
                                     original_max_position_embeddings=PROMPT - 1, rope_parameters=longrope()),
    "phi3-longrope-short": lambda: decoder("Phi3", num_key_value_heads=1, partial_rotary_factor=0.67,
                                           original_max_position_embeddings=64,
                                           rope_parameters=longrope(factor=4.0)),
    "olmo2": lambda: decoder("Olmo2", num_key_value_heads=1),
    "gpt-neox": lambda: decoder("GPTNeoX", rotary_pct=0.5, use_parallel_residual=True),
    "gpt-neox-sequential": lambda: decoder("GPTNeoX", rotary_pct=1.0, use_parallel_residual=False,
                                           attention_bias=False, num_hidden_layers=2),
    "gemma": lambda: decoder("Gemma", num_key_value_heads=1, head_dim=10),
    "gemma2": lambda: decoder("Gemma2", num_key_value_heads=1, head_dim=14, query_pre_attn_scalar=9,
                              sliding_window=8, attn_logit_softcapping=1.5, final_logit_softcapping=4.0),
    "smollm3": lambda: decoder("SmolLM3", num_key_value_heads=1, no_rope_layers=[1, 0, 1]),
    "gpt2": lambda: gpt2(),
    "gpt2-without-prefix": lambda: gpt2(),
}


def randomize(model, seed):
    """Norm gains and biases away from 1 and 0, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def loss_of(model, ids):
    logits = model(ids[None]).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1].double(), ids[1:])


def make(name, folder):
    seed = sum(name.encode())
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    randomize(model, seed)
    model.generation_config.eos_token_id = None
    shards = {"max_shard_size": "40KB"} if name == "llama-sharded" else {}
    model.save_pretrained(folder, **shards)
    rewrite(name, folder)

    ids = torch.randint(3, VOCABULARY, (LENGTH,))
    tensors = {"input_ids": ids, "prompt": ids[:PROMPT].clone()}
    with torch.no_grad():
        tensors["logits"] = model(ids[None]).logits[0].float()
        generated = model.generate(ids[None, :PROMPT], attention_mask=torch.ones(1, PROMPT, dtype=torch.long),
                                   do_sample=False, max_new_tokens=NEW, pad_token_id=0)
        tensors["greedy"] = generated[0, PROMPT:].clone()
    loss_of(model, ids).backward()
    in_folder = names_in(folder)
    for parameter_name, parameter in model.named_parameters():
        stands_as = parameter_name.removeprefix("transformer.") if name == "gpt2-without-prefix" else parameter_name
        if name.startswith("gpt-neox"):
            stands_as = stands_as.replace("lm_head", "embed_out")  # as it is written
        assert stands_as in in_folder, (name, stands_as)
        tensors[f"gradient.{stands_as}"] = parameter.grad.clone()

    losses = tensors["losses"] = ten_losses(model.parameters(), lambda _: loss_of(model, ids))
    metadata = {k: repr(v) for k, v in OPTIMIZER.items()}
    metadata |= {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors", metadata)
    print(f"{name:22s} losses {losses[0]:.4f} … {losses[-1]:.4f}  greedy {tensors['greedy'].tolist()}")


def names_in(folder):
    names = set()
    for file in folder.glob("model*.safetensors"):
        names |= set(load_file(file))
    return names


def rewrite(name, folder):
    """Spellings that transformers 5 no longer writes but that folders on disk have."""
    if name == "qwen2-window":
        config = json.loads((folder / "config.json").read_text())
        del config["layer_types"]  # max_window_layers says the same
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    if name in ("llama-old-spelling", "phi3-longrope-short"):
        config = json.loads((folder / "config.json").read_text())
        parameters = config.pop("rope_parameters")
        config["rope_theta"] = parameters.pop("rope_theta")
        # Phi-3's stand beside it, as they do in the config that transformers 5 writes.
        for key in ("partial_rotary_factor", "original_max_position_embeddings"):
            assert parameters.pop(key, None) == config.get(key)
        config["rope_scaling"] = {"type": parameters.pop("rope_type")} | parameters
        config["torch_dtype"] = config.pop("dtype", "float32")
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    if name == "gpt2-without-prefix":
        tensors = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of models; all where none is given")
    given, failed = parser.parse_args(), []
    out = given.out
    torch.use_deterministic_algorithms(True)
    for name in given.names or MODELS:
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
        try:
            make(name, out / name)
        except Exception:  # the others are still worth having
            traceback.print_exc()
            failed.append(name)
    sys.exit(f"failed: {failed}" if failed else 0)
