#!/usr/bin/env python3
"""Multi-step reasoning under speculation: BBH's chain-of-thought prompts continued with and without guesses.

bbh.py LINNET PROMPTS TESTS MODEL… [--speculative lookup] [--examples 3] [--tokens 160] [--threads 2] [--jobs 1] [--markdown FILE] [--json FILE]

PROMPTS holds a record a task (`task`, `prompt`: three worked examples), TESTS a record an example (`task`, `input`,
`target`), .jsonl or .jsonl.xz. Every task's examples are asked one after another, so that the worked examples are read
once (--prefix-cache). `generate --report --verify` decodes each continuation twice, with and without guesses, and
fails where a token differs; so does this script. Needs Python alone.
"""
import argparse, concurrent.futures, json, lzma, os, subprocess, sys, tempfile


def records(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prompts_by_task(options):
    """{task: [(prompt, target), …]}, the canary line before the worked examples left out."""
    tests = {}
    for record in records(options.tests):
        tests.setdefault(record["task"], []).append(record)
    tasks = {}
    for record in records(options.prompts):
        worked = record["prompt"].split("-----\n", 1)[-1].rstrip()
        tasks[record["task"]] = [(f"{worked}\n\nQ: {test['input']}\nA: Let's think step by step.\n", test["target"])
                                 for test in tests[record["task"]][:options.examples]]
    return tasks


def run_task(options, model, prompts, folder):
    """The task's totals: what `generate --json` says of speculation, and how many answers are right."""
    file, result = os.path.join(folder, "prompts.jsonl"), os.path.join(folder, "result.json")
    os.mkdir(folder)
    with open(file, "w", encoding="utf-8") as out:
        for prompt, _ in prompts: out.write(json.dumps({"text": prompt}) + "\n")
    command = [options.linnet, "generate", model, "--prompts", file, "--parallel", "1", "--prefix-cache", "400M",
               "--max-new-tokens", str(options.tokens), "--stop", "\n\nQ:", "--threads", str(options.threads),
               "--speculative", options.speculative, "--report", "--verify", "--json", result]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0: sys.exit(f"{model}: exit status {done.returncode}: {done.stderr.strip()}")
    with open(result, encoding="utf-8") as text: texts = json.load(text)
    total = dict(texts[0]["speculation"])
    total["right"] = sum(answer(text["text"]) == target.strip() for text, (_, target) in zip(texts, prompts))
    total["examples"] = len(prompts)
    return total


def answer(text):
    return text.split("the answer is", 1)[-1].strip().split("\n")[0].rstrip(".") if "the answer is" in text else None


def line_of(name, row):
    first = row["by_depth"][0] if row["by_depth"] else {"reached": 0, "accepted": 0}
    share = f"{100 * first['accepted'] / first['reached']:.0f}%" if first["reached"] else "nothing guessed"
    return (f"| {name} | {row['examples']} | {row['right']} | {row['tokens']} | {row['tokens_per_step']:.2f} | "
            f"{row['nodes'] / max(1, row['steps']):.2f} | {share} | {row['speedup']:.2f} | "
            f"{'yes' if row['same_text'] else 'NO'} |")


def summed(rows):
    """All tasks together; times and tokens add up, and so the speed-up is that of the whole run."""
    total = {key: sum(row[key] for row in rows) for key in ("examples", "right", "tokens", "steps", "nodes")}
    seconds = sum(row["tokens"] / row["tokens_per_second"] for row in rows if row["tokens_per_second"] > 0)
    plain = sum(row["tokens"] / row["plain_tokens_per_second"] for row in rows if row["plain_tokens_per_second"] > 0)
    depths = [row["by_depth"][0] for row in rows if row["by_depth"]]
    total["by_depth"] = [{key: sum(depth[key] for depth in depths) for key in ("reached", "accepted")}]
    return total | {"tokens_per_step": total["tokens"] / max(1, total["steps"]), "speedup": plain / seconds,
                    "same_text": all(row["same_text"] for row in rows)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("linnet")
    parser.add_argument("prompts")
    parser.add_argument("tests")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--speculative", default="lookup")
    parser.add_argument("--examples", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="tasks at once; more than one disturb each other's times")
    parser.add_argument("--tasks", help="of these names alone, separated by commas")
    parser.add_argument("--markdown", help="write the tables to this file too")
    parser.add_argument("--json", help="write each model's rows to this file")
    options = parser.parse_args()
    tasks = prompts_by_task(options)
    if options.tasks: tasks = {name: tasks[name] for name in options.tasks.split(",")}
    head = ("| task | examples | right | tokens | tokens a step | nodes a step | right at depth 1 | times plain | same text |\n"
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    text, results = "", {}
    for model in options.models:
        rows = results[model] = {}
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            runs = {name: pool.submit(run_task, options, model, prompts, os.path.join(folder, name))
                    for name, prompts in sorted(tasks.items())}
            for name, run in runs.items():
                rows[name] = run.result()
                print(line_of(name, rows[name]), flush=True)
        text += f"{os.path.basename(os.path.normpath(model))}, --speculative {options.speculative}:\n\n{head}\n"
        text += "".join(line_of(name, row) + "\n" for name, row in rows.items())
        text += line_of("**all**", summed(list(rows.values()))) + "\n\n"
        if options.markdown:
            with open(options.markdown, "w", encoding="utf-8") as out: out.write(text)
    print("\n" + text)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out: json.dump(results, out, indent=1)


if __name__ == "__main__": main()
