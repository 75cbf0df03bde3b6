#!/usr/bin/env python3
"""Holds `linnet evaluate` to lm-evaluation-harness: the same model in transformers, the harness's own code and prompts.

    scripts/compare_lm_eval.py BIN MODEL DATA [--limit 20] [--shots N] [--tasks piqa,copa,…] [--dtype float64]

BIN: build/release/bin; MODEL: a softmax model's folder; DATA: the folder of task files (docs/evaluate.md). Linnet computes in
float32 and the harness in float64, its own float32 being off by up to 5e-4 on long answers (--dtype float32 shows it). Says of each task how far
apart the requests' log-likelihoods are at most, and whether every score, error and argument is the same; exits 1 where
one is not (log-likelihoods: 1e-4). Of written answers (bbh_cot_fewshot_TASK) every text is the same, letter for letter.
Needs lm-eval (0.4.13 was used), torch and transformers.
"""
import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "golden"))
from harness_tasks import FILES, make_task, published  # noqa: E402

from lm_eval.evaluator import evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("bin")
parser.add_argument("model")
parser.add_argument("data", type=Path)
parser.add_argument("--limit", type=int, default=20)
parser.add_argument("--shots", type=int)
parser.add_argument("--bootstrap", type=int, default=1000)
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--dtype", choices=["float64", "float32"], default="float64", help="the harness's arithmetic")
parser.add_argument("--tasks", default="piqa,copa,arc_challenge,arc_easy,hellaswag,winogrande,ag_news,mmlu_anatomy,"
                                       "mmlu_high_school_physics,cola,sst2,mrpc,qnli,rte")
options = parser.parse_args()
NAMES = options.tasks.split(",")


def records(name):
    return [json.loads(line) for line in lzma.open(options.data / (name + ".jsonl.xz"), "rt", encoding="utf-8")]


def parts(name):
    """(task, subject) of a task's name: mmlu_anatomy is ("mmlu", "anatomy")."""
    for task in ("mmlu", "bbh_cot_fewshot"):
        if name.startswith(task + "_"):
            return task, name.removeprefix(task + "_")
    return name, None


def harness():
    tasks = {}
    for name in NAMES:
        task, subject = parts(name)
        if task == "bbh_cot_fewshot":  # its worked examples stand in the harness's configuration
            scored = [r for r in records("bbh-test") if r["task"] == subject]
            tasks[name] = make_task(task, scored, 3 if options.shots is None else options.shots, None, subject)
            continue
        files, pool = FILES[task]
        chosen = lambda rows: [published(task, r) for r in rows if r.get("subject") == subject]  # noqa: E731
        shots = options.shots if options.shots is not None else 5 if task == "mmlu" else 0
        scored = chosen([r for file in files for r in records(file)])
        own = pool is None or shots == 0  # a pool costs time where nothing is taken from it
        tasks[name] = make_task(task, scored, shots, None if own else chosen(records(pool)), subject)
    lm = HFLM(pretrained=options.model, dtype=options.dtype, device="cpu", batch_size=1)
    start = time.time()
    return evaluate(lm, tasks, limit=options.limit, bootstrap_iters=options.bootstrap), time.time() - start


def linnet(folder):
    command = [f"{options.bin}/linnet", "evaluate", options.model, "--tasks", options.tasks, "--data", str(options.data),
               "--limit", str(options.limit), "--dtype", "float32", "--bootstrap", str(options.bootstrap), "--threads",
               str(options.threads), "--json", f"{folder}/result.json", "--samples", f"{folder}/samples.jsonl"]
    start = time.time()
    subprocess.run(command + (["--shots", str(options.shots)] if options.shots is not None else []), check=True)
    took = time.time() - start
    samples = {}
    for line in open(f"{folder}/samples.jsonl", encoding="utf-8"):
        sample = json.loads(line)
        samples.setdefault(sample["task"], []).append(sample)
    return json.load(open(f"{folder}/result.json")), samples, took


with tempfile.TemporaryDirectory() as folder:
    ours, samples, our_time = linnet(folder)
theirs, their_time = harness()
faults = 0
print(f"{'task':<28}{'requests':>9}{'largest |difference|':>22}  scores")
for name in NAMES:
    largest, count, words = 0.0, 0, []
    rows = sorted(theirs["samples"][name], key=lambda s: s["doc_id"])
    if len(rows) != len(samples[name]):
        words.append(f"{len(samples[name])} examples, expected {len(rows)}")
    for mine, other in zip(samples[name], rows):
        if [list(a) for a in other["arguments"]] != mine["arguments"]:
            words.append(f"example {mine['doc_id']}: other arguments")
        if parts(name)[0] == "bbh_cot_fewshot":
            count += 1
            if mine["resps"] != other["resps"]:
                words.append(f"example {mine['doc_id']}: {mine['resps']}, expected {other['resps']}")
            continue
        for (a, greedy), (b, other_greedy) in zip(mine["filtered_resps"], other["filtered_resps"]):
            largest, count = max(largest, abs(a - b)), count + 1
            if greedy != other_greedy:
                words.append(f"example {mine['doc_id']}: greedy {greedy}, expected {other_greedy}")
    if largest > 1e-4:
        words.append("log-likelihoods differ")
    scores = []
    for key, value in theirs["results"][name].items():
        if "," not in key:
            continue
        mine = ours["results"][name].get(key)
        same = mine == value if isinstance(value, str) else isinstance(mine, float) and abs(mine - value) < 1e-12
        if not same:
            words.append(f"{key} is {mine}, expected {value}")
        if "_stderr" not in key:
            scores.append(f"{key.split(',')[0]} {float(value):.4f}")
    faults += len(words)
    print(f"{name:<28}{count:>9}{largest:>22.2e}  {', '.join(scores)}{': ' + '; '.join(words[:4]) if words else ', the same'}")
print(f"{our_time:.1f} s with linnet (its start and reading of files with it), {their_time:.1f} s in the harness")
sys.exit(faults > 0)
