#!/usr/bin/env python3
"""How far apart two models are on the same examples, task by task.

    scripts/compare_samples.py BASE.jsonl OTHER.jsonl

Both files are what `linnet evaluate --samples FILE` wrote of the same tasks, shots and limit. Each example is held to
itself, so the error of a difference is that of the differences: where two models answer most examples alike it is far
smaller than the errors of their scores. Prints, for each task and metric, both scores and the difference in percent ±
one standard error, and the mean of the tasks. Needs Python alone.
"""
import argparse
import json
import math
import sys


def samples_of(path):
    """{(task, metric): {example: score}} of a file of samples; a metric of whole tasks (f1, mcc) has no examples'."""
    scores = {}
    with open(path, encoding="utf-8") as lines:
        for sample in map(json.loads, lines):
            for metric in ("acc", "acc_norm", "exact_match"):
                if metric in sample:
                    scores.setdefault((sample["task"], metric), {})[sample["doc_id"]] = sample[metric]
    return scores


def mean_and_error(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def differences(base, other):
    """[(task, metric, examples, base's score, the other's, difference, error)] of the examples that both have."""
    rows = []
    for key in base:
        both = sorted(base[key].keys() & other.get(key, {}).keys())
        if both:
            gains = [other[key][i] - base[key][i] for i in both]
            rows.append((*key, len(both), sum(base[key][i] for i in both) / len(both),
                         sum(other[key][i] for i in both) / len(both), *mean_and_error(gains)))
    return rows


def together(rows):
    """The mean of the tasks' differences and its error."""
    return sum(row[5] for row in rows) / len(rows), math.sqrt(sum(row[6] ** 2 for row in rows)) / len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("other")
    options = parser.parse_args()
    rows = differences(samples_of(options.base), samples_of(options.other))
    if not rows:
        sys.exit("no example that both files have")
    print("| task | metric | examples | base | other | difference |\n| --- | --- | --- | --- | --- | --- |")
    for task, metric, count, before, after, gain, error in rows:
        print(f"| {task} | {metric} | {count} | {100 * before:.1f} | {100 * after:.1f} | {100 * gain:+.1f} ± {100 * error:.1f} |")
    for metric in dict.fromkeys(row[1] for row in rows):
        gain, error = together([row for row in rows if row[1] == metric])
        print(f"| all | {metric} | | | | {100 * gain:+.1f} ± {100 * error:.1f} |")


if __name__ == "__main__":
    main()
