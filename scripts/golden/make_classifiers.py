"""Makes tiny classifiers of Hugging Face and what transformers computes with them.

    python3 make_classifiers.py OUT [NAME…]    needs torch, transformers, safetensors; CPU, a few seconds

One folder a family, written by transformers' NAMEForSequenceClassification, plus golden.safetensors:

    input_ids [texts, longest] int64      filled up on the right with the pad token
    lengths [texts] int64
    types [texts, longest] int64          kinds of tokens, where the family has two
                                          of T5 the end token stands behind each text, and nowhere else
    labels [texts] int64
    logits [texts, labels] float32
    gradient.NAME                         of the mean cross-entropy of all texts, by the tensor's name in the folder, of T5
    losses [10] float64                   mean cross-entropy of texts 4i … 4i + 3 (modulo texts) before step i of AdamW

metadata: the optimizer's numbers and the versions. Nothing is dropped out.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

import ten_steps

END = 2  # of T5's texts
VOCABULARY, TEXTS, LONGEST, PAD, BATCH = 160, 12, 20, 0, 4
OPTIMIZER = ten_steps.OPTIMIZER | {"beta2": 0.999, "weight_decay": 0.0}
LABELS = ["bad", "middling", "good"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
COMMON = dict(vocab_size=VOCABULARY, initializer_range=0.15, pad_token_id=PAD, **NAMES)
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)


def classifier(name, **fields):
    fields |= {"pad_token_id": 1} if name == "Roberta" else {}
    config = getattr(transformers, name + "Config")(**(COMMON | fields), attn_implementation="eager")
    return getattr(transformers, name + "ForSequenceClassification")(config)


MODELS = {
    "llama": lambda: classifier("Llama", **SIZES, intermediate_size=56, num_key_value_heads=2, bos_token_id=1,
                                eos_token_id=2, tie_word_embeddings=False),
    "gpt2": lambda: classifier("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
                               eos_token_id=2, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0),
    "gpt-neox": lambda: classifier("GPTNeoX", **SIZES, intermediate_size=48, rotary_pct=0.5, bos_token_id=1,
                                   eos_token_id=2, hidden_dropout=0.0, attention_dropout=0.0,
                                   classifier_dropout=0.0),
    "t5": lambda: classifier("T5", d_model=32, d_kv=10, num_heads=3, d_ff=44, num_layers=2, num_decoder_layers=1,
                             relative_attention_num_buckets=8, relative_attention_max_distance=20, dropout_rate=0.0,
                             feed_forward_proj="gated-gelu", eos_token_id=END, decoder_start_token_id=PAD),
    "bert": lambda: classifier("Bert", **SIZES, intermediate_size=48, **NO_DROPOUT),
    "roberta": lambda: classifier("Roberta", **SIZES | {"max_position_embeddings": 66}, intermediate_size=48,
                                  type_vocab_size=1, **NO_DROPOUT),
}
SEEDS = ["bert", "gpt-neox", "gpt2", "llama", "roberta", "t5"]  # a model's is its place
# Kinds of tokens: of a text's second half 1.
TYPED = {"bert"}
WITH_GRADIENTS = {"t5"}  # of two stacks


def make(name, out):
    torch.manual_seed(SEEDS.index(name))
    model = MODELS[name]().float()
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    lengths = torch.randint(3, LONGEST + 1, (TEXTS,))
    lengths[0], lengths[1] = LONGEST, 1
    ids = torch.full((TEXTS, LONGEST), model.config.pad_token_id)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, VOCABULARY, (int(length),))
        if name == "t5":
            ids[row, length - 1] = END
    mask = (torch.arange(LONGEST)[None, :] < lengths[:, None]).long()
    types = (torch.arange(LONGEST)[None, :] >= lengths[:, None] // 2).long() * mask
    more = (lambda rows: {"token_type_ids": types[rows]}) if name in TYPED else lambda rows: {}
    labels = torch.randint(0, len(LABELS), (TEXTS,))
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, **more(slice(None))).logits
    gradients = {}
    if name in WITH_GRADIENTS:
        model(input_ids=ids, attention_mask=mask, labels=labels, **more(slice(None))).loss.backward()
        gradients = {f"gradient.{key}": value.grad.clone() for key, value in model.named_parameters()}
    model.train()

    def loss_of(step):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % TEXTS
        return model(input_ids=ids[rows], attention_mask=mask[rows], labels=labels[rows], **more(rows)).loss

    losses = ten_steps.ten_losses(model.parameters(), loss_of, OPTIMIZER)
    kinds = {"types": types} if name in TYPED else {}
    save_file(kinds | gradients | {"input_ids": ids, "lengths": lengths, "labels": labels, "logits": logits.float().contiguous(),
               "losses": losses}, folder / "golden.safetensors",
              {"optimizer": json.dumps(OPTIMIZER), "transformers": transformers.__version__,
               "torch": torch.__version__})
    print(name, sum(p.numel() for p in model.parameters()), losses[0].item(), losses[-1].item())


if __name__ == "__main__":
    for name in sys.argv[2:] or MODELS:
        make(name, pathlib.Path(sys.argv[1]))
