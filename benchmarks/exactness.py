#!/usr/bin/env python3
"""Is the text the same with and without guesses? Many prompts, every drafter, greedy and sampled, alone and in batches.

exactness.py LINNET TEXT MODEL… [--prompts 50] [--tokens 512] [--drafters lookup,heads,auto] [--temperatures 0,0.8]
             [--parallel 1,8] [--trees none,4x2x1] [--every-guess] [--threads 2]

TEXT is a .jsonl or .jsonl.xz whose records' `text` the prompts are cut from, from one character to some thousand of
them. A drafter is one of --speculative's; draft=FOLDER: that smaller model; heads=FOLDER: those heads; random-heads and
random-draft: heads, and a model with the base's tokenizer, of random numbers. A tree is one of --tree's; garbage: one of
random shape. --every-guess: all guesses are computed, those too that do not pay. `generate --verify` decodes all
prompts twice and fails where a token differs. Prints a row per run; exit status 1 where one differs. Needs Python alone.
"""
import argparse, json, lzma, os, random, shutil, struct, subprocess, sys, tempfile


def base_of(model):
    """The folder that has the model's shape and tokenizer: its own, or a sidecar's base beside it."""
    with open(os.path.join(model, "config.json"), encoding="utf-8") as text: base = json.load(text).get("base")
    return os.path.join(os.path.dirname(os.path.normpath(model)), base) if base else model


def write_tensors(file, shapes, scale):
    """Random numbers in bf16, as safetensors."""
    draw, at, header = random.Random(0), 0, {}
    for name, shape in shapes.items():
        numbers = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 2 * numbers]}
        at += 2 * numbers
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            one = name.endswith("norm.weight")
            for _ in range(shape[0]):
                row = [1.0 if one else scale * draw.gauss(0, 1) for _ in range(shape[1] if len(shape) > 1 else 1)]
                out.write(b"".join(struct.pack("<f", number)[2:] for number in row))


def random_heads(model, folder):
    """A recursive head that knows nothing."""
    with open(os.path.join(base_of(model), "config.json"), encoding="utf-8") as text: config = json.load(text)
    hidden, inner = config["hidden_size"], 64
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump({"draft_heads": "recursive", "count": 4}, out)
    write_tensors(os.path.join(folder, "heads.safetensors"),
                  {"input.weight": [inner, 2 * hidden], "input.bias": [inner], "output.weight": [hidden, inner]}, 1)
    return ["--speculative", "heads", "--heads", folder]


def random_draft(model, folder):
    """A model of one layer that knows nothing but the tokenizer."""
    base, hidden, inner = base_of(model), 64, 128
    with open(os.path.join(base, "config.json"), encoding="utf-8") as text: config = json.load(text)
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": 2,
               "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}
    os.makedirs(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if os.path.exists(os.path.join(base, name)): shutil.copy(os.path.join(base, name), folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out: json.dump(config, out)
    layer, square = "model.layers.0.", [hidden, hidden]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden],
              layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden]}
    shapes |= {f"{layer}self_attn.{part}_proj.weight": square for part in "qkvo"}
    shapes |= {f"{layer}mlp.{part}_proj.weight": [inner, hidden] for part in ("gate", "up")}
    shapes[layer + "mlp.down_proj.weight"] = [hidden, inner]
    write_tensors(os.path.join(folder, "model.safetensors"), shapes, 1)
    return ["--speculative", "draft", "--draft-model", folder]


def random_tree(file):
    """31 nodes, each below any node before it, at most four deep."""
    draw, paths = random.Random(1), [[]]
    while len(paths) < 32:
        parent = draw.choice([path for path in paths if len(path) < 4])
        path = parent + [sum(len(p) == len(parent) + 1 and p[:-1] == parent for p in paths)]
        if path not in paths: paths.append(path)
    with open(file, "w", encoding="utf-8") as out: json.dump(paths[1:], out)
    return file


def options_of(drafter, model, folder):
    """What --speculative is given."""
    made = {"random-heads": random_heads, "random-draft": random_draft}.get(drafter)
    if made: return made(model, tempfile.mkdtemp(dir=folder) + "/made")
    name, _, where = drafter.partition("=")
    return ["--speculative", name] + ({"draft": ["--draft-model", where], "heads": ["--heads", where]}[name] if where else [])


def prompts_of(path, count):
    """Passages from all over the text, every third of them short."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as lines:
        text = "\n".join(json.loads(line)["text"] for line in lines)
    step = len(text) // (count + 1)
    return [text[i * step:][:1 + (i % 7) if i % 3 == 0 else 40 * (1 + i % 50)] for i in range(count)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("linnet")
    parser.add_argument("text")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--drafters", default="lookup")
    parser.add_argument("--temperatures", default="0,0.8")
    parser.add_argument("--parallel", default="1,8")
    parser.add_argument("--trees", default="none,4x2x1")
    parser.add_argument("--every-guess", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| model | drafter | tree | temperature | at once | tokens | tokens a step | nodes a step | same text |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        file, result = os.path.join(folder, "prompts.jsonl"), os.path.join(folder, "result.json")
        with open(file, "w", encoding="utf-8") as out:
            for prompt in prompts_of(options.text, options.prompts): out.write(json.dumps({"text": prompt}) + "\n")
        runs = [(model, drafter, tree, temperature, parallel)
                for model in options.models for drafter in options.drafters.split(",")
                for tree in options.trees.split(",") for temperature in options.temperatures.split(",")
                for parallel in options.parallel.split(",")]
        for model, drafter, tree, temperature, parallel in runs:
            command = [options.linnet, "generate", model, "--prompts", file, "--parallel", parallel, "--ignore-eos",
                       "--max-new-tokens", str(options.tokens), "--temperature", temperature, "--threads",
                       str(options.threads), *options_of(drafter, model, folder), "--report", "--verify", "--json", result]
            if tree != "none": command += ["--tree", random_tree(os.path.join(folder, "tree.json")) if tree == "garbage" else tree]
            if options.every_guess: command.append("--every-guess")
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode not in (0, 1): sys.exit(f"exit status {done.returncode}: {done.stderr.strip()}")
            with open(result, encoding="utf-8") as text: report = json.load(text)[0]["speculation"]
            wrong += done.returncode
            print(f"| {os.path.basename(os.path.normpath(model))} | {drafter} | {tree} | {temperature} | {parallel} | "
                  f"{report['tokens']} | {report['tokens_per_step']:.2f} | {report['nodes'] / max(1, report['steps']):.2f} | "
                  f"{'yes' if report['same_text'] else 'NO'} |", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__": main()
