#!/usr/bin/env python3
"""Tasks of GLUE by classifiers: families x attention x plain or augmented x tasks x seeds, each cell one
`linnet finetune --task`, in one table of Markdown and JSON. The paper's Tables 1-3, 14 and 16 (arXiv 2406.07368) in small.

    scripts/glue_table.py OUT [--config configs/glue.json] --tasks FOLDER --texts FOLDER [--gpus 0,1,2,3 --each 6 --mps]
        [--families MiniLM,LLaMA-like --folder MiniLM=PATH --seeds 0,1,2 --rates 2e-5]

A family with a "config" is pretrained first, into OUT/models; one with a "folder" is read from there, and one without either
takes part where --folder NAME=PATH says where it lies; folders that the config names are the repository's. The cells of one
rate, seed and family are done before those of the next, in the order given, so that a run that is cut off has whole tables.
What is finished stands in OUT/cells and is not done again: the same command goes on where it stopped. --deadline SECONDS starts nothing that would hardly end by then and stops
what has not. --mps has NVIDIA's Multi-Process Service share a GPU among the processes on it: without it they take turns.
--list shows the commands; --table only makes the table, of what --families, --rates and --seeds name. Nothing but Python's own library is needed.
"""

import argparse
import json
import lzma
import math
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from whole_files import at_least, whole

ROOT = pathlib.Path(__file__).resolve().parent.parent


def seeds(text):
    return [int(seed) for seed in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "configs/glue.json")
    parser.add_argument("--tasks", type=pathlib.Path, required=True, help="folder of the labelled texts")
    parser.add_argument("--texts", type=pathlib.Path, help="folder of the texts to pretrain on")
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/linnet"), help="linnet or linnet-train")
    parser.add_argument("--gpus", default="", help="0,1,…; none: the CPU")
    parser.add_argument("--each", type=at_least(1), default=1, help="processes on each GPU, or on the CPU")
    parser.add_argument("--threads", type=at_least(1), default=1, help="of each process")
    parser.add_argument("--mps", action="store_true", help="the processes on a GPU compute at the same time")
    parser.add_argument("--families", default="", help="NAME,… in this order; default: the config's")
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=PATH", help="where a family's model lies")
    parser.add_argument("--seeds", type=seeds, default=[], help="0,1,… instead of the config's")
    parser.add_argument("--rates", default="", help="2e-5,… in this order, instead of the config's")
    parser.add_argument("--deadline", type=float, default=math.inf, help="seconds from now")
    parser.add_argument("--only", default="", help="cells whose names hold this")
    parser.add_argument("--limit", type=int, help="training texts of each cell at most, for a trial")
    parser.add_argument("--tokens", help="to pretrain on, for a trial")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def file_in(folder, name):
    for ending in (".jsonl.xz", ".jsonl"):
        if (folder / (name + ending)).exists():
            return str(folder / (name + ending))
    sys.exit(f"glue_table: {folder / name}.jsonl.xz is not there")


def files_of(args, task, row):
    """Training and held-out files; a set with one file alone is split by a fixed draw."""
    if "split" not in row:
        return [[file_in(args.tasks, name) for name in row[part]] for part in ("train", "valid")]
    source = file_in(args.tasks, row["split"])
    train, valid = (args.out / "data" / f"{task}-{part}.jsonl" for part in ("train", "valid"))
    if not valid.exists():
        opened = lzma.open(source, "rt", encoding="utf-8") if source.endswith(".xz") else open(source, encoding="utf-8")
        with opened:
            lines = [line for line in opened if line.strip()]
        random.Random(0).shuffle(lines)
        held = round(row["held_out"] * len(lines))
        train.parent.mkdir(parents=True, exist_ok=True)
        train.write_text("".join(lines[held:]), encoding="utf-8")
        half = valid.with_suffix(".half")
        half.write_text("".join(lines[:held]), encoding="utf-8")
        half.rename(valid)  # which says that both are whole
    return [[str(train)], [str(valid)]]


class Job:
    def __init__(self, name, command, result, work, needs=None):
        self.name, self.command, self.result, self.work, self.needs = name, command, result, work, needs
        self.log = work.parent / (name + ".log")

    def done(self):
        return whole(self.result) is not None

    def is_model(self):
        return self.needs is None


def bert_frame(ids):
    return {"type": "BertProcessing", "cls": ["[CLS]", ids["[CLS]"]], "sep": ["[SEP]", ids["[SEP]"]]}


def t5_frame(ids):
    def text(which):
        return [{"Sequence": {"id": which, "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": text("A"), "pair": text("A") + text("B"),
            "special_tokens": {"</s>": {"id": "</s>", "ids": [ids["</s>"]], "tokens": ["</s>"]}}}


# What a family's "frame" adds to a decoder's tokenizer, special tokens behind the others' ids and what stands around a text:
# an encoder's [CLS] and [SEP], with [PAD] and [MASK]; T5's padding, end token and sentinels.
FRAMES = {"bert": (["[CLS]", "[SEP]", "[PAD]", "[MASK]"], bert_frame),
          "t5": (["<pad>", "</s>"] + [f"<extra_id_{i}>" for i in range(100)], t5_frame)}


def tokenizer_of(args, family, row):
    if "frame" not in row:
        return row["tokenizer"]
    names, frame = FRAMES[row["frame"]]
    tokenizer = json.loads((pathlib.Path(row["tokenizer"]) / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {name: len(tokenizer["model"]["vocab"]) + place for place, name in enumerate(names)}
    for name, token in ids.items():
        tokenizer["added_tokens"].append({"id": token, "content": name, "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": True})
    tokenizer["post_processor"] = frame(ids)
    folder = args.out / "models" / (family + "-tokenizer")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return str(folder)


def chosen(args, config):
    """The config with the families, seeds, rates and folders that the options name."""
    families = config["families"]
    for row in families.values():
        row |= {key: str(ROOT / row[key]) for key in ("folder", "tokenizer") if key in row}
    names = [name for name in args.families.split(",") if name] or list(families)
    for name in names:
        if name not in families:
            sys.exit(f"glue_table: --families {name}: one of {', '.join(families)}")
    config["families"] = {name: families[name] for name in names}
    for given in args.folder:
        name, _, path = given.partition("=")
        if name not in families or not (pathlib.Path(path) / "config.json").exists():
            sys.exit(f"glue_table: --folder {given}: NAME=PATH of a family and a model folder")
        families[name]["folder"] = path
    for name in names:
        if not {"folder", "config"} & set(families[name]):
            if args.families:
                sys.exit(f"glue_table: {name} has no model: --folder {name}=PATH")
            print(f"{name} is left out: no --folder {name}=PATH", file=sys.stderr, flush=True)
            del config["families"][name]
    runs = config["runs"]
    if args.rates:
        known = {run["lr"]: run for run in runs}
        runs = [known.get(lr, {"lr": lr, "seeds": runs[0]["seeds"]}) for lr in args.rates.split(",")]
    if args.seeds:
        runs = [run | {"seeds": args.seeds} for run in runs]
    config["runs"] = runs
    return config


def pretrain_job(args, config, family):
    row = config["families"][family]
    folder = args.out / "models" / family
    file = args.out / "models" / (family + ".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(row["config"]))
    options = config["pretrain"]["options"] | row.get("options", {})
    command = ["pretrain", "--config", str(file), "--tokenizer", tokenizer_of(args, family, row),
               "--tokens", args.tokens or row["tokens"], "-o", str(folder), "--checkpoint-every", "0", "--log-every", "50"]
    command += ["--data"] + [file_in(args.texts, name) for name in config["texts"]] if args.texts else []
    for key, value in options.items():
        command += ["--" + key, str(value)]
    return Job(family, command, folder / "config.json", folder)


def all_jobs(args, config):
    """By rate, seed and family; a family that is pretrained, before its first cell."""
    jobs, made = [], set()
    for run in config["runs"]:
        for seed in run["seeds"]:
            for family, row in config["families"].items():
                cells = family_jobs(args, config, family, run["lr"], seed)
                if cells and "folder" not in row and family not in made:
                    made.add(family)
                    jobs.append(pretrain_job(args, config, family))
                jobs += cells
    return jobs


def family_jobs(args, config, family, lr, seed):
    base = config["families"][family].get("folder", str(args.out / "models" / family))
    jobs = []
    for task, task_row in config["tasks"].items():
        for method, variants in config["methods"].items():
            for variant, options in variants.items():
                name = f"{family}.{method}.{variant}.{task}.{lr}.{seed}"
                if args.only in name:
                    jobs.append(cell_job(args, name, base, options, task, task_row, lr, seed))
    return jobs


def cell_job(args, name, base, options, task, row, lr, seed):
    train, valid = files_of(args, task, row)
    limit = min(filter(None, (row.get("limit"), args.limit)), default=None)
    work = args.out / "work" / name
    command = ["finetune", base, "--task", *train, "--valid", *valid, *options, "--lr", lr, "--seed", str(seed),
               "--checkpoint-every", "0", "--log-every", "100", "--json", str(work) + ".json", "-o", str(work)]
    command += ["--limit", str(limit)] if limit else []
    return Job(name, command, args.out / "cells" / (name + ".json"), work, pathlib.Path(base) / "config.json")


class Runner:
    """Runs jobs on the places that there are, each a process; takes no more after the deadline. A model is
    pretrained alone on its GPU, and cells that need it wait."""

    def __init__(self, args, deadline, jobs, sharing):
        self.args, self.deadline, self.seconds, self.failed, self.sharing = args, deadline, [], [], sharing
        gpus = [gpu for gpu in args.gpus.split(",") if gpu]
        self.places = [gpu for _ in range(args.each) for gpu in gpus] or [None] * args.each
        self.lock, self.left, self.alone = threading.Lock(), [job for job in jobs if not job.done()], []
        print(f"{len(self.left)} of {len(jobs)} to do", flush=True)

    def run(self):
        threads = [threading.Thread(target=self.work, args=(place,)) for place in self.places]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def take(self, gpu):
        """The first job that can begin here now; False: none ever will."""
        with self.lock:
            usual = statistics.median(self.seconds) if len(self.seconds) > 3 else 0
            if not self.left or time.monotonic() + usual / 2 > self.deadline:
                return False
            if gpu in self.alone:
                return None
            ready = [job for job in self.left if job.is_model() or job.needs.exists()]
            if not ready:
                return None if self.alone else False
            if ready[0].is_model():
                self.alone.append(gpu)
            self.left.remove(ready[0])
            return ready[0]

    def work(self, gpu):
        while (job := self.take(gpu)) is not False:
            if job is None:
                time.sleep(0.3)
                continue
            self.do(job, gpu)
            if job.is_model():
                self.alone.remove(gpu)

    def do(self, job, gpu):
        begun = time.monotonic()
        shutil.rmtree(job.work, ignore_errors=True)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        device = ["--device", "cpu" if gpu is None else "cuda"]
        if gpu is None:
            device += ["--dtype", "float32"]
        environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}) | self.sharing
        command = [self.args.program, *job.command, *device, "--threads", str(self.args.threads)]
        with open(job.log, "w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                status = process.wait(max(0.0, min(self.deadline - time.monotonic(), 1e6)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                shutil.rmtree(job.work, ignore_errors=True)
                return
        if status != 0:
            self.failed.append(job.name)
            last = job.log.read_text(encoding="utf-8").strip().splitlines()[-1:]
            print(f"{job.name}: status {status}: {''.join(last)}", flush=True)
            return
        seconds = time.monotonic() - begun
        if not job.is_model():
            self.keep(job, command, seconds)
            self.seconds.append(seconds)
        print(f"{job.name}: {seconds:.0f} s", flush=True)

    def keep(self, job, command, seconds):
        result = json.loads(pathlib.Path(str(job.work) + ".json").read_text())
        result |= {"command": command, "wall_seconds": seconds}
        job.result.parent.mkdir(parents=True, exist_ok=True)
        half = job.result.with_suffix(".half")
        half.write_text(json.dumps(result))
        half.rename(job.result)
        shutil.rmtree(job.work)
        job.log.unlink()


class Sharing:
    """NVIDIA's Multi-Process Service for as long as this runs; no variables where there is none."""

    def __init__(self, wanted):
        self.folder, self.variables = None, {}
        if not wanted:
            return
        self.folder = tempfile.mkdtemp(prefix="mps-")
        variables = {"CUDA_MPS_PIPE_DIRECTORY": self.folder, "CUDA_MPS_LOG_DIRECTORY": self.folder}
        if self.control(["-d"], "", variables) and self.control([], "get_default_active_thread_percentage\n", variables):
            self.variables = variables
        print("the processes of a GPU compute at the same time" if self.variables
              else "no nvidia-cuda-mps-control that answers: the processes of a GPU take turns", flush=True)

    def __enter__(self):
        return self.variables

    def __exit__(self, *_):
        if self.variables:
            self.control([], "quit\n", self.variables)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def control(options, said, variables):
        try:
            return subprocess.run(["nvidia-cuda-mps-control", *options], input=said, text=True, timeout=20, check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  env=os.environ | variables).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def mean_and_error(values):
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.mean(values), error


def shown(values):
    if not values:
        return "–"
    mean, error = mean_and_error([100 * value for value in values])
    return f"{mean:.1f}" + ("" if error is None else f" ± {error:.1f}")


def labels_in(files):
    labels = []
    for file in files:
        opened = lzma.open(file, "rt", encoding="utf-8") if file.endswith(".xz") else open(file, encoding="utf-8")
        with opened:
            labels += [str(json.loads(line)["label"]) for line in opened if line.strip()]
    return labels


def of_the_majority(args, task, row):
    """What always answering the training texts' commonest label scores on the held-out ones."""
    train, valid = (labels_in(files) for files in files_of(args, task, row))
    commonest = statistics.mode(train)
    return 0.0 if row["metric"] == "mcc" else valid.count(commonest) / len(valid)


def row_of(names, values, seeds):
    """A line of Markdown: each task's mean ± standard error over the seeds that every task has (over its own, where there is
    none), and that of these seeds' means over all tasks. `values`: by task and seed."""
    whole = [seed for seed in seeds if all(seed in of_task for of_task in values.values())]
    means = [statistics.mean(of_task[seed] for of_task in values.values()) for seed in whole]
    cells = [shown([value for seed, value in of_task.items() if not whole or seed in whole]) for of_task in values.values()]
    return "| " + " | ".join([*names, *cells, shown(means), str(len(whole))]) + " |"


def read_cells(args, config):
    """The results by family and rate, row, task and seed: all, or those that --families, --rates and --seeds name."""
    wanted = [names and names.split(",") for names in (args.families, args.rates)] + [[str(seed) for seed in args.seeds]]
    cells = {}
    for file in sorted((args.out / "cells").glob("*.json")):
        result = whole(file)
        named = re.fullmatch(r"([^.]*)\.([^.]*)\.([^.]*)\.([^.]*)\.(.*)\.(\d+)", file.stem)
        if result is None or named is None:
            continue
        family, method, variant, task, lr, seed = named.groups()
        row = config["tasks"].get(task)
        if row is not None and all(not names or name in names for name, names in zip((family, lr, seed), wanted)):
            value = result["validation"][row["metric"]]
            cells.setdefault((family, lr), {}).setdefault((method, variant), {}).setdefault(task, {})[seed] = value
    return cells


def table(args, config):
    """One table per family and rate: methods by tasks, in per cent, mean and standard error over seeds; the majority's class
    first."""
    cells, tasks, lines, rows = read_cells(args, config), config["tasks"], [], []
    majority = {task: of_the_majority(args, task, row) for task, row in tasks.items()} if cells else {}
    names = [(method, variant) for method, variants in config["methods"].items() for variant in variants]
    for (family, lr), found in sorted(cells.items(), key=lambda item: item[0]):
        lines += [f"### {family}, rate {lr}", "",
                  "| attention | | " + " | ".join(f"{task}, {row['metric']}" for task, row in tasks.items()) +
                  " | mean | seeds |",
                  "| --- | --- |" + " --- |" * (len(tasks) + 2),
                  "| majority class | | " + " | ".join(f"{100 * value:.1f}" for value in majority.values()) +
                  f" | {100 * statistics.mean(majority.values()):.1f} | |"]
        for name in names:
            values = {task: found.get(name, {}).get(task, {}) for task in tasks}
            if any(values.values()):
                seeds = sorted({seed for of_task in values.values() for seed in of_task})
                lines.append(row_of(name, values, seeds))
                rows.append({"family": family, "lr": lr, "method": name[0], "variant": name[1], "values": values})
        lines.append("")
    (args.out / "glue.md").write_text("\n".join(lines), encoding="utf-8")
    (args.out / "glue.json").write_text(json.dumps({"majority": majority, "rows": rows}, indent=1), encoding="utf-8")
    print("\n".join(lines))


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --list | head
    args = arguments()
    deadline = time.monotonic() + args.deadline
    config = whole(args.config)
    if config is None:
        sys.exit(f"glue_table: --config {args.config}: no file with an object of JSON")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"glue_table: {args.out}: {error.strerror}")
    if args.table:
        return table(args, config)
    jobs = all_jobs(args, chosen(args, config))
    if args.list:
        for job in jobs:
            print(job.name + ":", args.program, *job.command)
        return
    if shutil.which(args.program) is None:
        sys.exit(f"glue_table: --program {args.program}: no program there")
    with Sharing(args.mps) as sharing:
        runner = Runner(args, deadline, jobs, sharing)
        runner.run()
    table(args, config)
    if runner.failed:
        sys.exit(f"glue_table: {len(runner.failed)} failed; their words in {args.out}/work/NAME.log")


main()
