"""Makes tiny T5 checkpoints and what transformers computes from them.

    python3 make_t5.py OUT [NAME…]  needs torch, transformers, safetensors; CPU, a few seconds; all models, or these

One folder a model, written by transformers itself, plus golden.safetensors:

    source [n] int64, labels [m] int64        what the encoder reads, and what the decoder is to write
    encoded [n, d_model] float32              the encoder's last hidden rows
    buckets [4, 401] int64                    of distances −200 … 200: an encoder's and a decoder's of 32 and of 8 buckets
    logits [m, vocabulary] float32            of the labels, shifted right
    greedy [k] int64                          generate(do_sample=False) after the source, the start token apart
    gradient.NAME                             of the mean loss over the labels, by the tensor's name in the folder
    losses [10] float64                       that loss before each of ten AdamW steps from these weights
    pair.SIDE.I [..] int64                    three pairs: a source and the labels, of other lengths
    pair_loss [] float64, pair_gradient.NAME  transformers' own mean loss of the three as one batch, filled up, and its
                                              gradients of a matrix each of the stacks, of cross-attention and the embedding

metadata: the optimizer's numbers (weight decay on tensors of two and more dimensions only) and the versions.
"""

import argparse
import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

from make_hf import names_in, randomize
from ten_steps import OPTIMIZER, ten_losses

VOCABULARY, SOURCE, LABELS, NEW = 160, 48, 26, 24

# Sizes that no vector's length divides, heads that don't fill the hidden size, distances past the last bucket.
FIELDS = dict(vocab_size=VOCABULARY, d_model=36, d_kv=10, num_heads=3, d_ff=44, num_layers=2, num_decoder_layers=3,
              relative_attention_num_buckets=8, relative_attention_max_distance=20, dropout_rate=0.0,
              pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)

MODELS = {
    "t5": dict(feed_forward_proj="relu", tie_word_embeddings=True),
    "t5-gated": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_heads=2,
                     relative_attention_num_buckets=32, relative_attention_max_distance=128),
}


PAIR_GRADIENTS = ("shared.weight", "encoder.block.1.layer.0.SelfAttention.k.weight",
                  "decoder.block.0.layer.0.SelfAttention.v.weight", "decoder.block.1.layer.1.EncDecAttention.k.weight")


def loss_of(model, source, labels):
    logits = model(input_ids=source[None], labels=labels[None], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits.double(), labels)


def pairs_of(model):
    """Three pairs and transformers' loss of them as one batch."""
    generator = torch.Generator().manual_seed(1)
    sides = {side: [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]
             for side, lengths in (("source", (31, 48, 7)), ("labels", (9, 3, 14)))}
    filled = {side: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
              for (side, rows), value in zip(sides.items(), (0, -100))}
    mask = torch.arange(filled["source"].shape[1])[None] < torch.tensor([len(x) for x in sides["source"]])[:, None]
    model.zero_grad()
    loss = model(input_ids=filled["source"], attention_mask=mask.long(), labels=filled["labels"], use_cache=False).loss
    loss.backward()
    tensors = {f"pair.{side}.{i}": row for side, rows in sides.items() for i, row in enumerate(rows)}
    tensors["pair_loss"] = loss.detach().double()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name in PAIR_GRADIENTS:
            tensors[f"pair_gradient.{parameter_name}"] = parameter.grad.clone()
    model.zero_grad()
    return tensors


def make(name, folder):
    seed = sum(name.encode())
    torch.manual_seed(seed)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**(FIELDS | MODELS[name]))).eval()
    generator = torch.Generator().manual_seed(seed)
    if not MODELS[name]["tie_word_embeddings"]:  # transformers 5 ties them whatever the config says, until it reads some
        own = torch.randn(model.lm_head.weight.shape, generator=generator) * 0.15
        model.lm_head.weight = torch.nn.Parameter(own)
    randomize(model, seed)
    with torch.no_grad():  # distances that count
        for stack in (model.encoder, model.decoder):
            bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
            bias.copy_(torch.randn(bias.shape, generator=generator))
        if MODELS[name]["tie_word_embeddings"]:  # or every token is its own likeliest successor
            model.shared.weight.mul_(0.2)
        for parameter_name, parameter in model.named_parameters():  # attention that looks
            if ".q.weight" in parameter_name or ".k.weight" in parameter_name:
                parameter.mul_(2.0)
            elif ".o.weight" in parameter_name or ".wo.weight" in parameter_name:  # blocks that count beside the stream
                parameter.mul_(2.0)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    rewrite(name, folder)
    again = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    for (parameter_name, read), written in zip(again.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(read, written), parameter_name
    assert again.config.scale_decoder_outputs == model.config.scale_decoder_outputs

    source, labels = torch.randint(3, VOCABULARY, (SOURCE,)), torch.randint(3, VOCABULARY, (LABELS,))
    tensors = {"source": source, "labels": labels}
    bucket_of = type(model.encoder.block[0].layer[0].SelfAttention)._relative_position_bucket
    distances = torch.arange(-200, 201)
    tensors["buckets"] = torch.stack([bucket_of(distances, both_sides, count, most)
                                      for count, most in ((32, 128), (8, 20)) for both_sides in (True, False)])
    with torch.no_grad():
        tensors["encoded"] = model.encoder(input_ids=source[None]).last_hidden_state[0].float()
        tensors["logits"] = model(input_ids=source[None], labels=labels[None], use_cache=False).logits[0].float()
        generated = model.generate(source[None], do_sample=False, max_new_tokens=NEW, use_cache=False)
        tensors["greedy"] = generated[0, 1:].clone()
    loss_of(model, source, labels).backward()
    in_folder = names_in(folder)
    for parameter_name, parameter in model.named_parameters():
        assert parameter_name in in_folder, (name, parameter_name)
        tensors[f"gradient.{parameter_name}"] = parameter.grad.clone()

    tensors |= pairs_of(model)
    losses = tensors["losses"] = ten_losses(model.parameters(), lambda _: loss_of(model, source, labels))
    metadata = {k: repr(v) for k, v in OPTIMIZER.items()}
    metadata |= {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors", metadata)
    print(f"{name:10s} losses {losses[0]:.4f} … {losses[-1]:.4f}  greedy {tensors['greedy'].tolist()}")


def rewrite(name, folder):
    """As folders on disk spell it: transformers 5.24 writes tie_word_embeddings true beside a head of its own."""
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = MODELS[name]["tie_word_embeddings"]
    del config["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of models; all where none is given")
    given = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    for name in given.names or MODELS:
        shutil.rmtree(given.out / name, ignore_errors=True)
        (given.out / name).mkdir(parents=True)
        make(name, given.out / name)
