#!/usr/bin/env python3
"""Linnet beside llama.cpp on one machine: same shapes, same types of weights, runs in turns, medians.

compare_llama_cpp.py LINNET LLAMA_BENCH [--quick] [--shapes small,large] [--config config.json] [--types bf16,q8_0,q4_0]
                     [--contexts 0,1024,8192] [--rows 1,4,8,16,32,64] [--prefill 8,64,512,2048] [--rounds 3] [--threads 2]
                     [--files FOLDER] [--json FILE] [--markdown FILE]

LINNET is build/release/bin/linnet, LLAMA_BENCH a llama-bench built on this machine (cmake -DGGML_NATIVE=ON). Nothing
is fetched: both programs get random weights in a shape, Linnet in memory (`linnet bench --config`), llama.cpp in GGUF
files that this script writes to a temporary folder (1.1B: 4.0 GB in all), or once to --files, where the next run finds them. small is the shipped model's shape, large
1.1B parameters in TinyLlama's; --config takes another. Both programs run on --threads threads, llama.cpp with flash
attention and without, the better of both counting. Several rows at once are a tree's step in Linnet, with every row's
logits, and a prompt of as many tokens in llama.cpp. --quick: one round, the long contexts and prefills of the small
shape alone, one of llama.cpp's two attentions. Needs Python alone.
"""
import argparse, json, os, random, statistics, struct, subprocess, sys, tempfile, time

TINY_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
              "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
              "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}

SHIPPED = TINY_LLAMA | {"hidden_size": 384, "intermediate_size": 896, "num_hidden_layers": 7, "num_attention_heads": 6,
                        "num_key_value_heads": 6, "vocab_size": 8192, "rope_theta": 100000.0, "tie_word_embeddings": True}

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


def run_linnet(options, cells, config, weights):
    """Cells by what they measure, of one run of `linnet bench`."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [options.linnet, "bench", "--config", config, "--threads", str(options.threads), "--weights", weights,
                   "--contexts", joined(cells.contexts), "--windows", "3", "--window-tokens", str(cells.window_tokens),
                   "--prefill-tokens", joined(cells.prefills), "--rows", joined(cells.rows), "--json", result.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        out = json.load(open(result.name))
    seen = {f"decode after {row['context']}": row["decode_tokens_per_second"] for row in out["decode"]}
    seen |= {f"{row['rows']} rows at once": row["rows"] / row["seconds_per_step"] for row in out["rows"]}
    seen |= {f"prefill of {row['tokens']}": row["tokens_per_second"] for row in out["prefill"]}
    return seen | {"read, GB/s": out["read_bytes_per_second"] * 1e-9, "start, s": out["load_to_first_token_seconds"]}


def run_llama(options, cells, gguf):
    def best(more):
        """Tokens per second by (prompt, context), the best of repetitions and attentions."""
        command = [options.llama_bench, "-m", gguf, "-t", str(options.threads), "-fa", cells.attentions, "-o", "json"] + more
        rates = {}
        for test in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout):
            key = test["n_prompt"], test["n_depth"]
            rates[key] = max(rates.get(key, 0), *test["samples_ts"])
        return rates
    decode = best(["-p", "0", "-n", str(cells.window_tokens), "-d", joined(cells.contexts), "-r", "3" if max(cells.contexts) < 4096 else "1"])
    seen = {f"decode after {context}": decode[0, context] for context in cells.contexts}
    few = best(["-n", "0", "-p", joined(sorted(set(cells.rows + [p for p in cells.prefills if p <= 64]))), "-r", "3"])
    many = [p for p in cells.prefills if p > 64]
    prompts = few | (best(["-n", "0", "-p", joined(many), "-r", "1"] + (["--no-warmup"] if cells.attentions == "1" else [])) if many else {})
    seen |= {f"{rows} rows at once": prompts[rows, 0] for rows in cells.rows}
    return seen | {f"prefill of {count}": prompts[count, 0] for count in cells.prefills}


def joined(numbers): return ",".join(map(str, numbers))


class Cells:
    """What is measured of a shape."""

    def __init__(self, options, large):
        cut = options.quick and large
        self.contexts = [c for c in options.contexts if not cut or c <= 1024]
        self.prefills = [p for p in options.prefill if not cut or p <= 512]
        self.rows = options.rows
        self.window_tokens = 12 if large else 64
        self.attentions = "1" if options.quick else "0,1"


def compare_shape(options, name, config, table):
    """Adds a row per type and cell to the table."""
    cells = Cells(options, config["hidden_size"] >= 1024)
    ours = {"bf16": "stored", "q8_0": "int8", "q4_0": "int4"}  # what Linnet has of as many bits
    with tempfile.TemporaryDirectory() as folder:
        config_file = os.path.join(folder, "config.json")
        json.dump(config, open(config_file, "w"))
        files = {kind: os.path.join(options.files or folder, f"{os.path.basename(name)}-{kind}.gguf") for kind in options.types}
        for kind, path in files.items():
            if os.path.exists(path): continue
            write_gguf(path + ".part", config, kind)
            os.replace(path + ".part", path)
        seen = {}  # (type, cell, program) to figures
        for round_number in range(options.rounds):
            for kind in options.types:
                begin = time.time()
                results = {"llama.cpp": run_llama(options, cells, files[kind]),
                           "linnet": run_linnet(options, cells, config_file, ours[kind])}
                for program, figures in results.items():
                    for cell, figure in figures.items(): seen.setdefault((kind, cell, program), []).append(figure)
                print(f"{name}, {kind}, round {round_number + 1}: {time.time() - begin:.0f} s", file=sys.stderr)
    for kind, cell in dict.fromkeys((k, c) for k, c, _ in seen):
        a, b = seen.get((kind, cell, "linnet"), []), seen.get((kind, cell, "llama.cpp"), [])
        row = {"shape": name, "type": kind, "what": cell, "linnet": statistics.median(a), "linnet_all": a}
        if b: row |= {"llama.cpp": statistics.median(b), "llama.cpp_all": b, "ratio": statistics.median(a) / statistics.median(b)}
        table.append(row)


def markdown(table, options):
    """Tokens per second side by side, a table per shape and a column of three per type."""
    text = f"Tokens/s on {options.threads} threads, medians of {options.rounds} round(s) in turns: Linnet, llama.cpp, ratio.\n"
    for shape in dict.fromkeys(row["shape"] for row in table):
        rows = [row for row in table if row["shape"] == shape]
        kinds = list(dict.fromkeys(row["type"] for row in rows))
        text += f"\n| {shape} | " + " | ".join(kinds) + " |\n| --- |" + " --- |" * len(kinds) + "\n"
        for what in dict.fromkeys(row["what"] for row in rows):
            by_kind = {row["type"]: row for row in rows if row["what"] == what}
            def cell(row):
                if "ratio" not in row: return f"{row['linnet']:.3g}"
                return f"{row['linnet']:.4g}, {row['llama.cpp']:.4g}, **{row['ratio']:.2f}**"
            text += f"| {what} | " + " | ".join(cell(by_kind[k]) if k in by_kind else "" for k in kinds) + " |\n"
    return text


def main():
    def numbers(text): return [int(number) for number in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("linnet"), parser.add_argument("llama_bench")
    parser.add_argument("--quick", action="store_true"), parser.add_argument("--config")
    parser.add_argument("--files"), parser.add_argument("--json"), parser.add_argument("--markdown")
    parser.add_argument("--shapes", default="small,large", type=lambda text: text.split(","))
    parser.add_argument("--types", default="bf16,q8_0,q4_0", type=lambda text: text.split(","))
    for name, default in (("contexts", "0,1024,8192"), ("rows", "1,4,8,16,32,64"), ("prefill", "8,64,512,2048")):
        parser.add_argument("--" + name, default=default, type=numbers)
    parser.add_argument("--rounds", type=int), parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.rounds is None: options.rounds = 1 if options.quick else 3
    shapes = {"small": SHIPPED, "large": TINY_LLAMA}
    if options.config: shapes, options.shapes = {options.config: json.load(open(options.config))}, [options.config]
    table = []
    for name in options.shapes:
        compare_shape(options, name, shapes[name], table)
        if options.json: json.dump(table, open(options.json, "w"), indent=1)
    text = markdown(table, options)
    print(text, end="")
    if options.markdown: open(options.markdown, "w").write(text)


if __name__ == "__main__":
    main()
