"""Is the text the same with and without guesses? Many prompts, every drafter, greedy and sampled, alone and in batches.

exactness.py LINNET TEXT MODEL… [--prompts 50] [--tokens 512] [--drafters lookup,auto] [--temperatures 0,0.8]
             [--parallel 1,8] [--trees none,4x2x1] [--threads 2]

TEXT is a .jsonl or .jsonl.xz whose records' `text` the prompts are cut from, from one character to some thousand of
them. `generate --verify-text` decodes all prompts twice and fails where a token differs. Prints a row a run; exit status 1
where one differs. Needs Python alone.
"""
import argparse, json, lzma, os, subprocess, sys, tempfile


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
                       str(options.threads), "--speculative", drafter, "--report", "--verify-text", "--json", result]
            if tree != "none": command += ["--tree", tree]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode not in (0, 1): sys.exit(f"exit status {done.returncode}: {done.stderr.strip()}")
            with open(result, encoding="utf-8") as text: report = json.load(text)[0]["speculation"]
            wrong += done.returncode
            print(f"| {os.path.basename(os.path.normpath(model))} | {drafter} | {tree} | {temperature} | {parallel} | "
                  f"{report['tokens']} | {report['tokens_per_step']:.2f} | {report['nodes'] / max(1, report['steps']):.2f} | "
                  f"{'yes' if report['same_text'] else 'NO'} |", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__": main()
