#!/usr/bin/env python3
"""What guessing is worth, and what nodes cost: every figure of docs/speculation.md, in one run.

speculation.py LINNET PROSE MODEL… [--configs c1.json,c2.json] [--drafters lookup] [--contexts 1024,16384] [--rounds 3]
               [--tokens 512] [--temperatures 0,0.8] [--threads 2] [--markdown FILE] [--costs] [--processor]

PROSE is a .jsonl or .jsonl.xz of held-out text. Each case runs `generate --report` (with guesses, then plainly on the
same decoder) --rounds times in turns with the others, and the median counts: prose goes on from passages; repeating
text is a passage, a table of records that names come from, and the same again with one word changed, to be continued.
`--configs` are shapes (config.json files, or 1.1B: TinyLlama's) with random weights in bf16 beside the models, for the cost of nodes and of sequences side by side
alone (`bench --rows --sequences`); `--costs` measures nothing else. `--processor` weighs whole programs instead: each text
by each drafter and by none, in turns, a seed per round, and what processor time they took, which a busy machine disturbs
less than the clock. Needs Python alone.
"""
import argparse, json, lzma, os, resource, statistics, subprocess, sys, tempfile

from compare_llama_cpp import TINY_LLAMA

ROWS, SEQUENCES = (4, 8, 16, 32, 64), (4, 16)


def run_json(command):
    """What the command writes to --json."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        done = subprocess.run(command + ["--json", result], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0: sys.exit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()}")
        with open(result, encoding="utf-8") as text: return json.load(text)


def cases_of(path, contexts):
    """{name: prompt}. About four characters are a token; a context is cut to its tokens by them."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as lines:
        text = max((json.loads(line)["text"] for line in lines), key=len)
    cases = {}
    for context in contexts:
        size = 4 * context
        for passage in (1, 2): cases[f"prose {passage}, {context} tokens"] = text[passage * len(text) // 3:][:size]
        part = text[len(text) // 5:][:(size - 16) // 2]
        cases[f"a passage again, {context} tokens"] = part + "\n\n" + part[:len(part) // 2]
        rows = [f"| {i} | item {i % 7} | {i * i % 11} kg | in stock |\n" for i in range(size // 30)]
        cases[f"a table, {context} tokens"] = "| number | name | weight | state |\n| --- | --- | --- | --- |\n" + "".join(rows)
    return cases


def generate(options, model, prompt, temperature, drafter, more):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(prompt)
        file.flush()
        return run_json([options.linnet, "generate", model, "--prompt-file", file.name, "--ignore-eos", "--max-new-tokens",
                         str(options.tokens), "--temperature", temperature, "--threads", str(options.threads),
                         "--speculative", drafter, *more])


def measure(options, cases):
    rows = {}
    for _ in range(options.rounds):
        for model in options.models:
            for drafter in options.drafters.split(","):
                for name, prompt in cases.items():
                    for temperature in options.temperatures.split(","):
                        report = generate(options, model, prompt, temperature, drafter, ["--report", "--verify"])["speculation"]
                        rows.setdefault((os.path.basename(os.path.normpath(model)), drafter, name, temperature), []).append(report)
    return rows


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor_table(options, cases):
    rows = {}
    drafters = ["none", *options.drafters.split(",")]
    for round in range(options.rounds):
        for model in options.models:
            for name, prompt in cases.items():
                for temperature in options.temperatures.split(","):
                    for drafter in drafters if round % 2 == 0 else reversed(drafters):
                        before = processor_seconds()
                        generate(options, model, prompt, temperature, drafter, ["--seed", str(round)])
                        key = (os.path.basename(os.path.normpath(model)), name, temperature)
                        rows.setdefault(key, {}).setdefault(drafter, []).append(processor_seconds() - before)
    lines = ["| model | text | temperature | " + " | ".join(f"{drafter}, s" if drafter == "none" else drafter for drafter in drafters) + " |",
             "| --- | --- | --- |" + " --- |" * len(drafters)]
    for key, of in rows.items():
        ratios = [f"{statistics.median(x / y for x, y in zip(of[drafter], of['none'])):.3f}" for drafter in drafters[1:]]
        lines.append(f"| {' | '.join(key)} | {statistics.median(of['none']):.2f} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def speed_table(rows):
    lines = ["| model | drafter | text | temperature | tokens a step | nodes a step | tokens/s | plain | times plain |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for key, reports in rows.items():
        of = lambda name: statistics.median(report[name] for report in reports)
        nodes = statistics.median(report["nodes"] / max(1, report["steps"]) for report in reports)
        lines.append(f"| {' | '.join(key)} | {of('tokens_per_step'):.2f} | {nodes:.2f} | {of('tokens_per_second'):.0f} | "
                     f"{of('plain_tokens_per_second'):.0f} | {of('speedup'):.2f} |")
    return "\n".join(lines)


def cost_table(options):
    lines = ["| model or shape | a plain step, ms | " + " | ".join([f"{n} nodes" for n in ROWS] +
                                                                 [f"tokens/s of {n} sequences" for n in SEQUENCES]) + " |",
             "| --- | --- |" + " --- |" * len(ROWS + SEQUENCES)]
    shapes = [[model] for model in options.models] + [["--config", c] for c in options.configs.split(",") if c]
    folder = tempfile.TemporaryDirectory()
    for shape in shapes:
        if shape[-1] == "1.1B":
            shape[-1] = os.path.join(folder.name, "1.1B")
            with open(shape[-1], "w", encoding="utf-8") as out: json.dump(TINY_LLAMA, out)
        measured = run_json([options.linnet, "bench", *shape, "--contexts", "0", "--prefill-tokens", "64", "--threads",
                             str(options.threads), "--rows", ",".join(map(str, ROWS)), "--sequences", ",".join(map(str, SEQUENCES))])
        nodes = {row["rows"]: row["of_one_row"] for row in measured["rows"]}
        side = {row["sequences"]: row["sequences"] / row["of_one_row"] for row in measured["sequences"]}
        lines.append(f"| {os.path.basename(os.path.normpath(shape[-1]))} | {1000 * measured['rows'][0]['seconds_per_step']:.2f} | " +
                     " | ".join([f"{nodes[n]:.2f}×" for n in ROWS] + [f"{side[n]:.2f}×" for n in SEQUENCES]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("linnet")
    parser.add_argument("prose")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--configs", default="")
    parser.add_argument("--drafters", default="lookup")
    parser.add_argument("--contexts", default="1024,16384")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--temperatures", default="0,0.8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--costs", action="store_true", help="what nodes and sequences cost, and no texts")
    parser.add_argument("--processor", action="store_true", help="processor time of whole programs over that without guesses")
    parser.add_argument("--markdown", help="write the tables to this file too")
    options = parser.parse_args()
    tables = [] if options.processor else [cost_table(options)]
    if options.processor or not options.costs:
        cases = cases_of(options.prose, [int(context) for context in options.contexts.split(",")])
        tables.append(processor_table(options, cases) if options.processor else speed_table(measure(options, cases)))
    text = "\n\n".join(tables) + "\n"
    print(text)
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as out: out.write(text)


if __name__ == "__main__": main()
