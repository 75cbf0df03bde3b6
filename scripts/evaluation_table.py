#!/usr/bin/env python3
"""What evaluation_experiment.py wrote, as the Markdown tables of docs/results/tasks.md, long.md and smollm2.md.

    scripts/evaluation_table.py OUT [--models base,linear,windows] [--label linear="linear, 5%"]

Errors are one standard error: of scores the samples' own, of MMLU pooled over subjects as the harness does, of differences
those of the differences, each example held to itself. What is missing is
left empty, and counted at the end.
"""
import argparse
import glob
import math
import os
import re
import sys

from compare_samples import mean_and_error
from whole_files import whole, whole_samples

COLUMNS = [("piqa", "PIQA", "acc"), ("copa", "COPA", "acc"), ("arc_challenge", "ARC-C", "acc_norm"),
           ("arc_easy", "ARC-E", "acc"), ("hellaswag", "HellaSwag", "acc_norm"), ("winogrande", "WinoGrande", "acc"),
           ("ag_news", "AG News", "acc"), ("mmlu", "MMLU", "acc")]
SHOTS = (0, 1, 2, 3, 4, 5)
BBH_SHOTS = (0, 1, 2, 3)
STRETCHES = ["2K-4K", "4K-8K", "8K-16K", "24K-32K", "56K-64K", "120K-128K", "248K-256K", "504K-512K", "1016K-1024K"]


def pooled_error(groups):
    """The harness's error of several subjects together."""
    total = sum(len(g) for g in groups)
    if total <= len(groups):
        return 0.0
    variance = sum((len(g) - 1) * mean_and_error(g)[1] ** 2 * len(g) for g in groups)
    return math.sqrt(variance / (total - len(groups)) / total)


class Folder:
    def __init__(self, path):
        self.path = path
        self.missing = []

    def json(self, group, name, quiet=False):
        found = whole(os.path.join(self.path, group, name + ".json"))
        if found is None and not quiet:
            self.missing.append(f"{group}/{name}")
        return found

    def run(self, group, name):
        return self.json(group, name + ".run", quiet=True)

    def samples(self, group, pattern):
        """The lines of each file that matches, by its job's name."""
        found = {}
        for path in sorted(glob.glob(os.path.join(self.path, group, pattern + ".samples.jsonl"))):
            job = path.removesuffix(".samples.jsonl")
            lines = whole_samples(job)  # which count once the job's result is there
            if lines is not None:
                found[os.path.basename(job)] = lines
        return found

    def models(self):
        names = set()
        for group in ("written", "likelihood", "long", "recall"):
            for path in glob.glob(os.path.join(self.path, group, "*.run.json")):
                names.add(os.path.basename(path).split(".")[-3])
        return sorted(names, key=lambda n: (n != "base", n.startswith("win"), n))

    def likelihood(self, task, metric, shots, model):
        """{(task or subject, example): score}, the whole task's or nothing (MMLU: all subjects' parts)."""
        pattern = f"mmlu-*.{shots}.{model}" if task == "mmlu" else f"{task}.{shots}.{model}"
        have = self.samples("likelihood", pattern)
        # A part's name says of how many it is one: mmlu-0of6.
        parts = int(re.match(r"mmlu-\d+of(\d+)", next(iter(have))).group(1)) if task == "mmlu" and have else 1
        if len(have) < parts:
            self.missing.append(f"likelihood/{pattern} ({len(have)} of {parts})")
            return {}
        return {(s["task"], s["doc_id"]): s[metric] for lines in have.values() for s in lines}

    def written(self, shots, model):
        """{(task, example): (right, came to an answer, text)}"""
        return {(s["task"], s["doc_id"]): (s["exact_match"], float(s["filtered_resps"][0] != "[invalid]"), s["resps"][0][0])
                for lines in self.samples("written", f"*.{shots}.{model}").values() for s in lines}


def row(cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(cells):
    row(cells)
    row(["---"] * len(cells))


def percent(mean, error):
    return f"{100 * mean:.1f} ± {100 * error:.1f}"


def points(mean, error):
    return f"{100 * mean:+.1f} ± {100 * error:.1f}".replace("-", "−")


def by_subject(scores):
    groups = {}
    for (task, _), score in scores.items():
        groups.setdefault(task, []).append(score)
    return list(groups.values())


def likelihood_tables(folder, models, label):
    print("## Likelihood\n")
    head(["shots", ""] + [title for _, title, _ in COLUMNS] + ["mean"])
    counts = {}
    for shots in SHOTS:
        for model in models:
            cells, means = [], []
            for task, title, metric in COLUMNS:
                scores = folder.likelihood(task, metric, shots, model)
                if not scores:
                    cells.append("")
                    continue
                mean, error = mean_and_error(list(scores.values()))
                if task == "mmlu":
                    error = pooled_error(by_subject(scores))
                counts.setdefault(title, set()).add(len(scores))
                cells.append(percent(mean, error))
                means.append((mean, error))
            whole = len(means) == len(COLUMNS)
            mean = percent(sum(m for m, _ in means) / len(means), math.sqrt(sum(e * e for _, e in means)) / len(means)) if whole else ""
            if means:
                row([shots, label(model), *cells, mean])
    print("\nExamples: " + ", ".join(f"{title} {'/'.join(map(str, sorted(n)))}" for title, n in counts.items()) + "\n")
    folder.missing = sorted(set(folder.missing))

    print("### Differences from the base, each example held to itself, points\n")
    head(["shots", "model"] + [title for _, title, _ in COLUMNS] + ["mean of tasks", "examples"])
    lost = {}
    for shots in SHOTS:
        for model in models:
            if model == "base":
                continue
            cells, rows, examples = [], [], 0
            for task, _, metric in COLUMNS:
                base, other = (folder.likelihood(task, metric, shots, m) for m in ("base", model))
                both = sorted(base.keys() & other.keys())
                if not both:
                    cells.append("")
                    continue
                gain, error = mean_and_error([other[i] - base[i] for i in both])
                rows.append((gain, error))
                examples += len(both)
                cells.append(points(gain, error))
            if not rows:
                continue
            mean = (sum(g for g, _ in rows) / len(rows), math.sqrt(sum(e * e for _, e in rows)) / len(rows))
            if len(rows) == len(COLUMNS):
                lost[shots, model] = (*mean, examples)
            row([shots, label(model), *cells, points(*mean) + ("" if len(rows) == len(COLUMNS) else f" (of {len(rows)})"), examples])
    print()
    return lost


def written_tables(folder, models, label):
    print("## Written answers (BBH)\n")
    head(["shots", "", "examples", "came to an answer", "right", "right of those answered", "letters written, median"])
    all_scores = {(s, m): folder.written(s, m) for s in BBH_SHOTS for m in models}
    for shots in BBH_SHOTS:
        for model in models:
            scores = all_scores[shots, model]
            if not scores:
                folder.missing.append(f"written/*.{shots}.{model}")
                continue
            n = len(scores)
            answered = [a for _, a, _ in scores.values()]
            right = [r for r, _, _ in scores.values()]
            lengths = sorted(len(t) for _, _, t in scores.values())
            row([shots, label(model), n, f"{sum(answered):.0f} ({percent(*mean_and_error(answered))}%)",
                 f"{sum(right):.0f} ({percent(*mean_and_error(right))}%)", f"{sum(right):.0f} of {sum(answered):.0f}",
                 lengths[n // 2]])
    print()
    return all_scores


def lost_table(models, label, lost, written):
    print("## What is lost\n")
    others = [m for m in models if m != "base"]
    head(["shots", "answers", "examples"] + [label(m) for m in others])
    for shots in SHOTS:
        got = [lost.get((shots, m)) for m in others]
        if any(got):
            row([shots, "likelihood (mean of the eight tasks)", f"{max(g[2] for g in got if g):,}"] + [points(*g[:2]) if g else "" for g in got])
    for index, what in ((0, "the right answer"), (1, "any answer")):
        for shots in BBH_SHOTS:
            base = written[shots, "base"] if (shots, "base") in written else {}
            if not base:
                continue
            cells, most = [], 0
            for m in others:
                other = written[shots, m]
                both = sorted(base.keys() & other.keys())
                most = max(most, len(both))
                differences = [other[i][index] - base[i][index] for i in both]
                cells.append(points(*mean_and_error(differences)) + ("" if len(both) == len(base) else f" (of {len(both)})") if both else "")
            score = percent(*mean_and_error([v[index] for v in base.values()]))
            row([shots, f"written: {what} (base {score}%)", most, *cells])
    print()


def long_tables(folder, models, label):
    print("## Long text, bits per byte\n")
    linear = [m for m in models if m != "base"]
    head(["tokens"] + [label(m) for m in linear] + ["base in windows of 8192 at stride 4096", "base, whole context"])
    for stretch in STRETCHES:
        names = [f"{stretch}.{m}" for m in linear] + [f"{stretch}-windows.base", f"{stretch}-whole.base"]
        results = [folder.json("long", n, quiet="whole" in n) for n in names]
        row([stretch.replace("-", " to ")] + [f"{r['bits_per_byte']:.4f}" if r else "" for r in results])
    print("\n### Processor seconds, wall seconds (threads), peak memory of reading to the end\n")
    head(["tokens"] + [label(m) for m in linear] + ["base, windows", "base, whole"])
    for stretch in STRETCHES:
        cells = []
        for n in [f"{stretch}.{m}" for m in linear] + [f"{stretch}-windows.base", f"{stretch}-whole.base"]:
            r = folder.run("long", n)
            cells.append(f"{r['processor_seconds']:.0f} s, {r['seconds']:.0f} s ({r['threads']}), {r['peak_memory_bytes'] / 1e6:.0f} MB" if r else "")
        row([stretch.replace("-", " to "), *cells])
    print("\n### Decode, tokens/s: median (best window); state\n")
    found = [(m, part, folder.json("long", f"bench-{part}.{m}", quiet=True)) for m in linear for part in ("near", "far")]
    for m, part, bench in found:
        if bench:
            print(f"- {label(m)}, {bench['threads']} threads, peak {bench['peak_memory_bytes'] / 1e6:.0f} MB: " +
                  "; ".join(f"{d['context']:,}: {d['decode_tokens_per_second']:.0f} ({d['best_window_tokens_per_second']:.0f}), {d['state_bytes'] / 1e6:.1f} MB" for d in bench["decode"]))
    print()


def share(mean):
    return "–" if not mean else f"{100 * mean['mean']:.0f} ± {100 * mean['standard_error']:.0f}"


def nats(mean):
    return "–" if not mean else f"{mean['mean']:.3f} ± {mean['standard_error']:.3f}"


def recall_tables(folder, models, label):
    print("## Recall\n")
    for size in ("8K", "32K", "128K"):
        results = [(m, folder.json("recall", f"{size}.{m}")) for m in models if m != "base"]
        results = [(m, r) for m, r in results if r]
        if not results:
            continue
        first = results[0][1]
        print(f"### Rows of {first['context']:,} tokens, {first['rows']} of them\n")
        distances = [d["distance"] for d in first["models"]["model"]["distances"]]
        bins = [f["distance"] for f in first["far_pairs"]]
        head(["", "state, MB", "text, nats", "never", *[f"again after {d}" for d in distances], *[f"keeps {d}, %" for d in distances],
              *[f"needle {d}, % exact" for d in distances], *[f"far pairs {b}: nats" for b in bins], *[f"won back {b}, %" for b in bins]])
        shown = set()
        for m, result in results:
            for name, own in result["models"].items():
                if name == "base" and "base" in shown:
                    continue
                shown.add(name)
                at = {d["distance"]: d for d in own.get("distances", [])}
                far = {f["distance"]: f for f in result["far_pairs"]}
                title = {"base": "softmax base", "window alone": f"{label(m)}: its windows alone, as many bytes", "model": label(m)}[name]
                row([title, f"{own['state_bytes'] / 1e6:.1f}", nats(own["text_nats"]), nats(own["never"]),
                     *[nats(at[d]["again"]) if d in at else "" for d in distances],
                     *[("100" if name == "base" else share(at[d].get("kept"))) if d in at else "" for d in distances],
                     *[share(at[d]["needle"]["exact"]) if d in at else "" for d in distances],
                     *[nats(far[b].get(name)) if b in far else "" for b in bins],
                     *[share(far[b].get("won_back")) if b in far and name == "model" else "" for b in bins]])
        print("\nAs smollm2.md has it: passages, needle, far pairs won back\n")
        for m, result in results:
            own = result["models"]["model"]
            ds = own["distances"]
            short = lambda mean: "–" if not mean else f"{100 * mean['mean']:.0f}"
            for name, title in (("model", label(m)), ("window alone", f"{label(m)}: windows alone")):
                if name not in result["models"]:
                    continue
                ds = result["models"][name].get("distances", [])
                row([title, ", ".join(short(d.get("kept")) for d in ds) + "%", ", ".join(short(d["needle"]["exact"]) for d in ds) + "%",
                     (", ".join(short(f.get("won_back")) for f in result["far_pairs"]) + "%") if name == "model" else "0 by definition"])
        print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--models", help="their order (default: base, linear ones, windows)")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=WORDS")
    args = parser.parse_args()
    if not os.path.isdir(args.out):
        sys.exit(f"evaluation_table: {args.out}: no such folder")
    for text in args.label:
        if "=" not in text:
            sys.exit(f"evaluation_table: --label {text}: expected NAME=WORDS")
    folder = Folder(args.out)
    models = args.models.split(",") if args.models else folder.models()
    labels = {"base": "softmax base", **dict(text.split("=", 1) for text in args.label)}
    label = lambda name: labels.get(name, name)
    lost = likelihood_tables(folder, models, label)
    written = written_tables(folder, models, label)
    lost_table(models, label, lost, written)
    long_tables(folder, models, label)
    recall_tables(folder, models, label)
    missing = sorted(set(folder.missing))
    if missing:
        print(f"Missing, {len(missing)}: " + ", ".join(missing))


if __name__ == "__main__":
    main()
