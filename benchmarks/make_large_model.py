#!/usr/bin/env python3
"""Makes a model folder of LLaMA's shape with random bf16 weights, by default of 1.1B parameters (2.2 GB), to measure memory with.

make_large_model.py TOKENIZER_FOLDER OUT [LAYERS HIDDEN HEADS KV_HEADS FEED_FORWARD VOCABULARY]; needs numpy.
"""
import json, struct, sys, os, shutil
import numpy as np
tok, out = sys.argv[1:3]
layers, hidden, heads, kv, ffn, vocab = map(int, sys.argv[3:9]) if len(sys.argv) > 3 else (22, 2048, 32, 4, 5632, 32000)
os.makedirs(out, exist_ok=True)
for f in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    if os.path.exists(f"{tok}/{f}"): shutil.copy(f"{tok}/{f}", out)
d = hidden // heads
json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn,
  "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab, "hidden_act": "silu",
  "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
  "bos_token_id": 1, "eos_token_id": 2}, open(f"{out}/config.json", "w"), indent=1)
shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden], "model.norm.weight": [hidden]}
for i in range(layers):
    p = f"model.layers.{i}."
    shapes |= {p+"self_attn.q_proj.weight": [hidden, hidden], p+"self_attn.k_proj.weight": [kv*d, hidden], p+"self_attn.v_proj.weight": [kv*d, hidden],
      p+"self_attn.o_proj.weight": [hidden, hidden], p+"mlp.gate_proj.weight": [ffn, hidden], p+"mlp.up_proj.weight": [ffn, hidden],
      p+"mlp.down_proj.weight": [hidden, ffn], p+"input_layernorm.weight": [hidden], p+"post_attention_layernorm.weight": [hidden]}
at, header = 0, {}
for n in sorted(shapes):
    size = 2 * int(np.prod(shapes[n])); header[n] = {"dtype": "BF16", "shape": shapes[n], "data_offsets": [at, at + size]}; at += size
h = json.dumps(header).encode(); h += b" " * (-len(h) % 8)
rng = np.random.default_rng(0)
with open(f"{out}/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(h))); f.write(h)
    for n in sorted(shapes):
        s = shapes[n]
        x = np.ones(s, np.float32) if len(s) == 1 else rng.standard_normal(s, np.float32) * np.float32(0.02)
        f.write((x.view(np.uint32) >> 16).astype(np.uint16).tobytes())
