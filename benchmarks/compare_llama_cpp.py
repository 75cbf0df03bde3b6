"""Linnet beside llama.cpp on one machine: same shape, same type of weights, runs in turns, medians and the best.

compare_llama_cpp.py LINNET LLAMA_BENCH [--config config.json] [--types bf16,q8_0,q4_0] [--rounds 3] [--threads 2]
                     [--contexts 0,1024] [--rows 8,16] [--prefill 512] [--window-tokens 16] [--json FILE]

LINNET is build/release/bin/linnet, LLAMA_BENCH a llama-bench built on this machine (cmake -DGGML_NATIVE=ON). Nothing
is fetched: both programs get random weights in the config's shape, Linnet in memory (`linnet bench --config`),
llama.cpp in GGUF files that this script writes to a temporary folder. Without --config: 1.1B parameters in
TinyLlama's shape. Needs Python alone.
"""
import argparse, json, os, random, statistics, struct, subprocess, sys, tempfile

TINY_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
              "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
              "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}

# GGUF's number of a type, numbers in a block, and a function that draws a block's bytes.
HALF = struct.pack("<e", 0.002)
TYPES = {
    "f32": (0, 1, lambda: struct.pack("<f", 1.0)),
    "bf16": (30, 1, lambda: struct.pack("<f", random.gauss(0, 0.02))[2:]),
    "q8_0": (8, 32, lambda: HALF + random.randbytes(32)),
    "q4_0": (2, 32, lambda: HALF + random.randbytes(16)),
}


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_value(value):
    if isinstance(value, str): return struct.pack("<I", 8) + gguf_string(value)
    if isinstance(value, float): return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value)


def write_gguf(path, config, type_name):
    """A LLaMA of the config's shape with random weights; norms are ones in float32."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, vocabulary = config.get("head_dim", hidden // heads), config["vocab_size"]
    keys = {"general.architecture": "llama", "llama.block_count": layers, "llama.context_length": config["max_position_embeddings"],
            "llama.embedding_length": hidden, "llama.feed_forward_length": inner, "llama.attention.head_count": heads,
            "llama.attention.head_count_kv": kv_heads, "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
            "llama.rope.dimension_count": size, "llama.rope.freq_base": float(config.get("rope_theta", 10000.0)),
            "llama.attention.key_length": size, "llama.attention.value_length": size,
            "llama.vocab_size": vocabulary, "tokenizer.ggml.model": "no_vocab"}
    tensors = [("token_embd.weight", type_name, [hidden, vocabulary]), ("output_norm.weight", "f32", [hidden])]
    if not config.get("tie_word_embeddings", False): tensors.append(("output.weight", type_name, [hidden, vocabulary]))
    for i in range(layers):
        p = f"blk.{i}."
        tensors += [(p + "attn_norm.weight", "f32", [hidden]), (p + "attn_q.weight", type_name, [hidden, heads * size]),
                    (p + "attn_k.weight", type_name, [hidden, kv_heads * size]), (p + "attn_v.weight", type_name, [hidden, kv_heads * size]),
                    (p + "attn_output.weight", type_name, [heads * size, hidden]), (p + "ffn_norm.weight", "f32", [hidden]),
                    (p + "ffn_gate.weight", type_name, [hidden, inner]), (p + "ffn_up.weight", type_name, [hidden, inner]),
                    (p + "ffn_down.weight", type_name, [inner, hidden])]
    head, at, sizes = [], 0, []
    for name, kind, shape in tensors:
        number, block, draw = TYPES[kind]
        count = 1
        for n in shape: count *= n
        assert shape[0] % block == 0, f"{name}: {shape[0]} numbers a row, not a multiple of {block}"
        sizes.append(count // block * len(draw()))
        head.append(gguf_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", number, at))
        at += (sizes[-1] + 31) // 32 * 32
    data = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(gguf_string(k) + gguf_value(v) for k, v in keys.items()) + b"".join(head)
    random.seed(0)
    patterns = {kind: b"".join(draw() for _ in range(8191)) for kind, (_, _, draw) in TYPES.items() if kind in (type_name, "f32")}
    patterns = {kind: pattern * (1 + (1 << 22) // len(pattern)) for kind, pattern in patterns.items()}
    with open(path, "wb") as file:
        file.write(data + b"\0" * (-len(data) % 32))
        for (name, kind, shape), bytes_left in zip(tensors, sizes):
            padding = -bytes_left % 32
            while bytes_left > 0:
                file.write(patterns[kind][:bytes_left])
                bytes_left -= min(bytes_left, len(patterns[kind]))
            file.write(b"\0" * padding)


def run_linnet(options, config, weights, prefill):
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [options.linnet, "bench", "--config", config, "--threads", str(options.threads), "--contexts", options.contexts,
                   "--windows", "3", "--window-tokens", str(options.window_tokens), "--prefill-tokens", str(prefill), "--json", result.name]
        if options.rows: command += ["--rows", options.rows]
        if weights != "bf16": command += ["--weights", weights]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        out = json.load(open(result.name))
    cells = {f"decode after {row['context']}": row["decode_tokens_per_second"] for row in out["decode"]}
    cells |= {f"{row['rows']} rows at once": row["rows"] / row["seconds_per_step"] for row in out.get("rows", []) if row["rows"] > 1}
    cells[f"prefill of {prefill}"] = out["prefill_tokens_per_second"]
    cells["read, GB/s"] = out["read_bytes_per_second"] * 1e-9
    return cells


def run_llama(options, gguf, prefills):
    cells = {}
    def run(more):
        command = [options.llama_bench, "-m", gguf, "-t", str(options.threads), "-r", "1", "-o", "json"] + more
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for context in options.contexts.split(","):
        best = max(run(["-p", "0", "-n", str(options.window_tokens * 3), "-d", context, "-fa", "0,1"]), key=lambda r: r["avg_ts"])
        cells[f"decode after {context}"] = best["avg_ts"]
    rows = [int(r) for r in options.rows.split(",") if r] if options.rows else []
    for count in rows + prefills:
        best = max(run(["-p", str(count), "-n", "0", "-fa", "0,1"]), key=lambda r: r["avg_ts"])
        if count in rows: cells[f"{count} rows at once"] = best["avg_ts"]
        if count in prefills: cells[f"prefill of {count}"] = best["avg_ts"]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("linnet"), parser.add_argument("llama_bench")
    parser.add_argument("--config"), parser.add_argument("--json")
    parser.add_argument("--types", default="bf16"), parser.add_argument("--contexts", default="0")
    parser.add_argument("--rows", default=""), parser.add_argument("--prefill", default="512")
    for name, default in (("--rounds", 3), ("--threads", 2), ("--window-tokens", 16)): parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    ours = {"bf16": "bf16", "q8_0": "int8", "q4_0": "int4"}  # what Linnet has of as many bits
    types = options.types.split(",")
    prefills = [int(p) for p in options.prefill.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        config_file = options.config or os.path.join(folder, "config.json")
        if not options.config: json.dump(TINY_LLAMA, open(config_file, "w"))
        config = json.load(open(config_file))
        for kind in types: write_gguf(os.path.join(folder, kind + ".gguf"), config, kind)
        seen = {}  # (type, cell, program) to figures
        for _ in range(options.rounds):
            for kind in types:
                results = [("llama.cpp", run_llama(options, os.path.join(folder, kind + ".gguf"), prefills))]
                results += [("linnet", run_linnet(options, config_file, ours[kind], prefill)) for prefill in prefills]
                for program, cells in results:
                    for cell, figure in cells.items(): seen.setdefault((kind, cell, program), []).append(figure)
    print(f"{'':30}{'Linnet':>10}{'llama.cpp':>11}{'ratio':>8}   {'best':>8}{'best':>11}{'ratio':>8}")
    table = []
    for kind, cell in dict.fromkeys((k, c) for k, c, _ in seen):
        a, b = seen.get((kind, cell, "linnet"), []), seen.get((kind, cell, "llama.cpp"), [])
        if not b:
            print(f"{kind + ', ' + cell:30}{statistics.median(a):10.1f}")
            continue
        ma, mb = statistics.median(a), statistics.median(b)
        print(f"{kind + ', ' + cell:30}{ma:10.1f}{mb:11.1f}{ma / mb:8.2f}   {max(a):8.1f}{max(b):11.1f}{max(a) / max(b):8.2f}")
        table.append({"type": kind, "what": cell, "linnet": a, "llama.cpp": b, "ratio": ma / mb})
    if options.json: json.dump(table, open(options.json, "w"), indent=1)


if __name__ == "__main__":
    main()
