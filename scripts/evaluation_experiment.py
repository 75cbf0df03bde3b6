#!/usr/bin/env python3
"""The evaluation of a model beside its linear ones (docs/results/tasks.md, long.md), many single processes of `linnet` side by side.

    scripts/evaluation_experiment.py --out DIR --cores N --seconds S --tasks TASKS --texts TEXTS --model base=FOLDER
        [--model NAME=SIDECAR:FOLDER …] [--models-later] [--only written,likelihood,long,recall]
    scripts/evaluation_table.py DIR

A model is NAME=FOLDER or NAME=SIDECAR:BASEFOLDER. The model named `base` is softmax, every other one linear. Groups: BBH's
written answers at 0 to 3 worked examples; eight tasks by likelihood at 0 to 5; a text of a million tokens, made of all
that is held out in TEXTS; recall in rows of 8K, 32K and 128K. The important come first. Results lie in DIR/GROUP/JOB.json
(what linnet wrote), .samples.jsonl (without prompts) and .run.json (command, seconds, processor seconds, peak memory); JOB.json
appears last and marks the job as done, so the same command goes on where it was cut off. Nothing is started that would pass
the deadline by its estimate, which is corrected by what was seen so far; what runs then is stopped. `--plan` prints all of it.
"""
import argparse
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time

from whole_files import at_least, whole, whole_samples

MAIN, SIDE = 0, 1   # two queues: what makes up the bulk, and the long runs, which may have a share of the cores from the start
K = 1024
HELD_OUT = ("books-test books-valid textbooks-test textbooks-valid technical-test technical-valid "
            "wikitext-test wikitext-valid").split()
GROUPS = ("written", "likelihood", "long", "recall")
MOST = {"written": 3, "choices": 400, "mmlu": 12}

# Thread-seconds of a job, softmax and linear, as seen on a busy EPYC of two cores; what is seen corrects them while running.
WRITTEN = {0: (40, 40), 1: (50, 45), 2: (55, 50), 3: (60, 55)}
CHOICES = {  # of 400 examples (mmlu: of 684, all parts) at 0 shots; and what a shot adds
    "ag_news": (290, 290), "hellaswag": (220, 220), "arc_challenge": (195, 195), "piqa": (170, 170), "arc_easy": (150, 150),
    "winogrande": (90, 90), "copa": (60, 60), "mmlu": (600, 600)}
SHOT = 0.1         # of the cost at 0 shots
QUADRATIC = 300    # what attention over a whole context of 32K adds
READ = (1 / 900, 1 / 1000)  # thread-seconds a token read: softmax in windows of 8192, linear


class Model:
    def __init__(self, text):
        name, at, path = text.partition("=")
        if not at or not name or not path or "." in name or "/" in name:
            sys.exit(f"evaluation_experiment: --model {text}: expected NAME=FOLDER or NAME=SIDECAR:BASEFOLDER")
        self.name = name
        self.folder, _, self.base = path.partition(":")
        self.linear = name != "base"

    def ready(self):
        return all(os.path.exists(os.path.join(f, "config.json")) for f in (self.folder, self.base) if f)

    def arguments(self):
        return [self.folder] + (["--base", self.base] if self.base else [])


class Job:
    """`seconds`: thread-seconds expected; `kind`: jobs whose estimates are wrong by one factor."""

    def __init__(self, group, name, model, command, options, threads, seconds, queue, samples=False, kind=None):
        self.group, self.name, self.model, self.command, self.options = group, name, model, command, options
        self.threads, self.seconds, self.queue, self.samples = threads, seconds, queue, samples
        self.kind = (group, kind or command, model.linear)
        self.tries = 0


def mmlu_parts(tasks, count):
    """The subjects in `count` parts of about the same cost."""
    characters = {}
    seen = {}
    for name, most in (("mmlu-dev", 5), ("mmlu-test", MOST["mmlu"])):
        with lzma.open(os.path.join(tasks, name + ".jsonl.xz"), "rt", encoding="utf-8") as lines:
            for line in lines:
                subject = json.loads(line)["subject"]
                if seen.setdefault((name, subject), 0) < most:
                    seen[name, subject] += 1
                    characters[subject] = characters.get(subject, 0) + len(line)
    parts = [[0, []] for _ in range(count)]
    for subject in sorted(characters, key=lambda s: (-characters[s], s)):
        least = min(parts, key=lambda p: p[0])
        least[0] += characters[subject]
        least[1].append(subject)
    return [sorted(part[1]) for part in parts]


def bbh_names(tasks):
    names = []
    with lzma.open(os.path.join(tasks, "bbh-cot-prompts.jsonl.xz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            names.append(json.loads(line)["task"])
    return sorted(set(names))


def written(models, args):
    for shots in (3, 1, 2, 0):
        for task in bbh_names(args.tasks):
            for model in models:
                limit = max(1, MOST["written"] // args.trial)
                yield Job("written", f"{task}.{shots}.{model.name}", model, "evaluate",
                          ["--tasks", f"bbh_cot_fewshot_{task}", "--shots", shots, "--limit", limit, "--data", args.tasks],
                          1, WRITTEN[shots][model.linear] * limit / 3, MAIN, samples=True, kind=shots)


def likelihood(models, args):
    parts = mmlu_parts(args.tasks, args.mmlu_parts)
    limit = max(2, MOST["choices"] // args.trial)
    mmlu_limit = max(1, MOST["mmlu"] // args.trial)
    for shots in args.shots:
        # The longest first.
        names = sorted(CHOICES, key=lambda n: (n == "mmlu", -CHOICES[n][0]))
        for name in names:
            for model in models:
                cost = CHOICES[name][model.linear] * (1 + SHOT * shots)
                if name == "mmlu":
                    for i, subjects in enumerate(parts):
                        yield Job("likelihood", f"mmlu-{i}of{len(parts)}.{shots}.{model.name}", model, "evaluate",
                                  ["--tasks", ",".join(f"mmlu_{s}" for s in subjects), "--shots", shots,
                                   "--limit", mmlu_limit, "--data", args.tasks],
                                  1, cost / args.mmlu_parts * mmlu_limit / 12, MAIN, samples=True, kind=(name, shots))
                else:
                    yield Job("likelihood", f"{name}.{shots}.{model.name}", model, "evaluate",
                              ["--tasks", name, "--shots", shots, "--limit", limit, "--data", args.tasks],
                              2 if cost > 200 else 1, cost * limit / 400, MAIN, samples=True, kind=(name, shots))


STRETCHES = [(2 * K, 4 * K), (4 * K, 8 * K), (8 * K, 16 * K), (24 * K, 32 * K), (56 * K, 64 * K), (120 * K, 128 * K),
             (248 * K, 256 * K), (504 * K, 512 * K), (1016 * K, 1024 * K)]


def stretch_name(a, b):
    return f"{a // K}K-{b // K}K"


def side(models, args):
    """Long texts and recall, the runs that take longest among them first."""
    small = args.trial
    jobs = []

    def perplexity(model, a, b, threads, extra=(), label=""):
        # The name is the stretch's of the whole text; a trial's lies nearer to the beginning.
        start, end = a // small, b // small
        read = end if not extra else end - start + 12 * K // small
        cost = read * READ[model.linear] + 3
        if label == "-whole":
            cost += QUADRATIC * (end / (32 * K)) ** 2
        return Job("long", f"{stretch_name(a, b)}{label}.{model.name}", model, "perplexity",
                   [args.long, "--score-from", start, "--score-to", end, *extra], threads, cost, SIDE, kind="perplexity" + label)

    def recall(model, name, text, context, distances, tokens, threads, alone=False):
        options = [text, "--context", context // small, "--distances", ",".join(str(d // small) for d in distances),
                   "--tokens", tokens // small] + (["--alone"] if alone else [])
        cost = 3 * tokens * READ[1] * (1 if alone else 2.2) / small
        return Job("recall", f"{name}.{model.name}", model, "recall", options, threads, cost + 3, SIDE, kind=name)

    linear = [m for m in models if m.linear]
    longest_first = list(reversed(STRETCHES))
    for a, b in longest_first[:1]:
        jobs += [(0, perplexity(m, a, b, 4)) for m in linear]
    for m in linear:
        jobs.append((1, recall(m, "8K", args.books, 8 * K, (512, 2048, 6144), 32 * K, 2)))
    for a, b in longest_first[1:2]:
        jobs += [(2, perplexity(m, a, b, 2)) for m in linear]
    for a, b in longest_first[2:]:
        jobs += [(3, perplexity(m, a, b, 1)) for m in linear]
    for m in models:
        if not m.linear:
            jobs += [(4, perplexity(m, a, b, 1, ["--window", 8 * K, "--stride", 4 * K], "-windows")) for a, b in longest_first]
            # Read whole, as far as that is cheap.
            jobs += [(5, perplexity(m, a, b, 4, label="-whole")) for a, b in STRETCHES[2:4]]
    for m in linear:
        jobs.append((6, recall(m, "32K", args.books, 32 * K, (512, 2048, 6144, 16384, 30000), 128 * K, 4)))
        jobs.append((7, recall(m, "128K", args.long, 128 * K, (6144, 32768, 65536, 120000), 256 * K, 4, alone=True)))
    for m in linear:
        near = [c // small for c in (2 * K, 8 * K, 32 * K, 128 * K)]
        far = [c // small for c in (512 * K, 1024 * K)]
        for name, contexts, rank, part in (("bench-near", near, 8, 512), ("bench-far", far, 9, 512)):
            jobs.append((rank, Job("long", f"{name}.{m.name}", m, "bench",
                                   ["--contexts", ",".join(map(str, contexts)), "--prefill-tokens", part],
                                   4, sum(contexts) * READ[1] + 20, SIDE, kind=name)))
    only = args.only or ("long", "recall")
    return [job for _, job in sorted(jobs, key=lambda j: j[0]) if job.group in only]


class Runner:
    def __init__(self, args, jobs):
        self.args, self.jobs = args, jobs
        for job in jobs:
            job.threads = min(job.threads, args.cores)
        self.start = time.monotonic()
        self.running = {}   # pid: (job, process, began)
        self.factors = {}   # kind: what the estimates were wrong by
        self.log = open(os.path.join(args.out, "log.txt"), "a", encoding="utf-8", buffering=1)
        self.counts = {}

    def now(self):
        return time.monotonic() - self.start

    def say(self, line):
        line = f"{self.now():7.1f} {line}"
        self.log.write(line + "\n")
        print(line, flush=True)

    def path(self, job, ending, temporary=False):
        return os.path.join(self.args.out, "tmp" if temporary else job.group, f"{job.group + '.' if temporary else ''}{job.name}.{ending}")

    def done(self, job):
        result = self.path(job, "json")
        return (whole_samples(result.removesuffix(".json")) if job.samples else whole(result)) is not None

    def seconds(self, job):
        """Wall seconds that the job is expected to take."""
        seen = self.factors.get(job.kind) or [f for k, fs in self.factors.items() if k[0] == job.group for f in fs]
        if not seen:
            seen = [f for fs in self.factors.values() for f in fs] or [1.0]
        seen = sorted(seen)
        return job.seconds * seen[len(seen) * 2 // 3] / job.threads

    def begin(self, job):
        command = [self.args.bin, job.command, *job.model.arguments(), *map(str, job.options),
                   "--dtype", "bfloat16", "--threads", str(job.threads), "--json", self.path(job, "json", True)]
        if job.samples:
            command += ["--samples", self.path(job, "samples.jsonl", True)]
        out = open(self.path(job, "txt", True), "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": str(job.threads)})
        out.close()
        job.tries += 1
        self.running[process.pid] = (job, process, time.monotonic(), command)

    def last_line(self, job):
        try:
            with open(self.path(job, "txt", True), encoding="utf-8", errors="replace") as f:
                lines = f.read().strip().splitlines()
            return lines[-1][:300] if lines else ""
        except OSError:
            return ""

    def finish(self, pid, status, usage):
        job, process, began, command = self.running.pop(pid)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        processor = usage.ru_utime + usage.ru_stime
        outcome = "ok" if code == 0 else f"failed {code}: {self.last_line(job)}"
        if code == 0:
            try:
                if job.samples:
                    slim(self.path(job, "samples.jsonl", True))
                    os.replace(self.path(job, "samples.jsonl", True), self.path(job, "samples.jsonl"))
                with open(self.path(job, "run.json", True), "w", encoding="utf-8") as f:
                    json.dump({"command": command, "seconds": wall, "processor_seconds": processor, "threads": job.threads,
                               "peak_memory_bytes": usage.ru_maxrss * 1024, "model": job.model.name}, f)
                os.replace(self.path(job, "run.json", True), self.path(job, "run.json"))
                if os.path.exists(self.path(job, "txt", True)):
                    os.replace(self.path(job, "txt", True), self.path(job, "txt"))
                os.replace(self.path(job, "json", True), self.path(job, "json"))
                self.factors.setdefault(job.kind, []).append(wall * job.threads / job.seconds)
            except (OSError, ValueError) as error:
                outcome = f"failed: {error}"
        key = "ok" if outcome == "ok" else "failed"
        self.counts[key] = self.counts.get(key, 0) + 1
        self.say(f"{job.group} {job.name} {wall:.1f} s, processor {processor:.1f} s of {job.seconds:.0f} expected, "
                 f"{usage.ru_maxrss / 1e6:.2f} GB, {outcome}")

    def reap(self):
        for pid in list(self.running):
            got, status, usage = os.wait4(pid, os.WNOHANG)
            if got:
                self.finish(pid, status, usage)

    def start_some(self, waiting):
        """Starts what fits; `waiting` loses it. Whether anything that could still run is left."""
        left = self.args.seconds - self.now()
        used = [sum(r[0].threads for r in self.running.values() if r[0].queue == q) for q in (MAIN, SIDE)]
        ready = {m.name: m.ready() for m in {j.model.name: j.model for j in waiting}.values()}
        possible = False
        fits = {q: [] for q in (MAIN, SIDE)}
        for job in waiting:
            if self.seconds(job) > left:
                continue
            possible = True
            if ready[job.model.name]:
                fits[job.queue].append(job)
        share = round(self.args.side * self.args.cores) if fits[MAIN] else self.args.cores
        if fits[SIDE] and share:
            share = max(share, min(j.threads for j in fits[SIDE]))
        for queue in (SIDE, MAIN):
            for job in fits[queue]:
                free = self.args.cores - sum(used)
                if queue == SIDE:
                    free = min(free, share - used[SIDE])
                if free <= 0:
                    break
                if job.threads > free:
                    continue
                self.begin(job)
                used[queue] += job.threads
                waiting.remove(job)
        return possible

    def run(self):
        waiting = [job for job in self.jobs if not self.done(job)]
        self.say(f"{len(self.jobs)} jobs, {len(self.jobs) - len(waiting)} done before; "
                 f"{sum(j.seconds for j in waiting):.0f} thread-seconds expected of the rest, {self.args.cores} cores, "
                 f"{self.args.seconds} s")
        while waiting or self.running:
            if self.now() >= self.args.seconds:
                break
            self.reap()
            if not self.start_some(waiting) and not self.running:
                break
            time.sleep(0.05)
        for pid, (job, *_) in list(self.running.items()):
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _, status, usage = os.wait4(pid, 0)
            if os.waitstatus_to_exitcode(status) == 0:
                self.finish(pid, status, usage)
            else:
                self.running.pop(pid)
                self.counts["killed"] = self.counts.get("killed", 0) + 1
                self.say(f"{job.group} {job.name} killed at the deadline")
        names = {}
        for job in waiting:
            names.setdefault((job.group, job.model.name), []).append(job.name)
        for (group, model), some in names.items():
            self.say(f"not started: {len(some)} of {group} for {model} ({', '.join(some[:4])}{' …' if len(some) > 4 else ''})")
        self.say(", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())) or "nothing to do")
        for job in self.jobs:
            factors = self.factors.get(job.kind)
            if factors:
                self.log.write(f"factor {job.kind} {sum(factors) / len(factors):.2f} of {len(factors)}\n")
                del self.factors[job.kind]


def held_out(folder):
    return [os.path.join(folder, name + ".jsonl.xz") for name in HELD_OUT]


def write_long_text(folder, out):
    """Everything held out, documents joined by blank lines, books first."""
    texts = []
    for path in held_out(folder):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    with open(out + ".part", "w", encoding="utf-8") as file:
        file.write("\n\n".join(texts))
    os.replace(out + ".part", out)


def slim(path):
    """Samples without their prompts and records: what the tables need, and what was written."""
    with open(path, encoding="utf-8") as lines:
        samples = [json.loads(line) for line in lines]
    with open(path + ".slim", "w", encoding="utf-8") as out:
        for sample in samples:
            for key in ("doc", "arguments"):
                sample.pop(key, None)
            out.write(json.dumps(sample, ensure_ascii=False) + "\n")
    os.replace(path + ".slim", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin/linnet", help="the program linnet")
    parser.add_argument("--out", required=True)
    parser.add_argument("--cores", type=at_least(1), required=True)
    parser.add_argument("--seconds", type=at_least(0, float), required=True)
    parser.add_argument("--tasks", required=True, help="folder of the tasks' files")
    parser.add_argument("--texts", required=True, help="folder of the held-out texts")
    parser.add_argument("--long", help="the long text (default: made of TEXTS, as OUT/long.txt)")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER[:BASE]")
    parser.add_argument("--models-later", action="store_true", help="wait for models whose config.json is not there yet")
    parser.add_argument("--only", type=lambda s: tuple(s.split(",")), help="groups: written,likelihood,long,recall")
    parser.add_argument("--shots", type=lambda s: [int(n) for n in s.split(",")], default=[0, 5, 1, 2, 3, 4],
                        help="of the tasks by likelihood, in this order (default: 0,5,1,2,3,4)")
    parser.add_argument("--side", type=at_least(0, float), default=0.25, help="share of the cores that long and recall may have from the start")
    parser.add_argument("--mmlu-parts", type=at_least(1), default=6, help="jobs that MMLU's subjects are dealt to")
    parser.add_argument("--trial", type=at_least(1), default=1, help="divides limits and lengths: a rehearsal")
    parser.add_argument("--plan", action="store_true", help="print the jobs and what they are expected to cost, run nothing")
    args = parser.parse_args()
    args.books = os.path.join(args.texts, "books-test.jsonl.xz")
    if args.only and set(args.only) - set(GROUPS):
        sys.exit(f"evaluation_experiment: --only {','.join(args.only)}: expected some of {','.join(GROUPS)}")
    for path in [args.tasks, args.books] + ([args.long] if args.long else held_out(args.texts)):
        if not os.path.exists(path):
            sys.exit(f"evaluation_experiment: {path}: not there")
    if not os.path.isfile(args.bin) or not os.access(args.bin, os.X_OK):
        sys.exit(f"evaluation_experiment: --bin {args.bin}: no program there")
    models = [Model(text) for text in args.model]
    if len({m.name for m in models}) != len(models):
        sys.exit("evaluation_experiment: two models of one name")
    for model in models:
        if not model.ready() and not args.models_later:
            sys.exit(f"evaluation_experiment: {model.folder}: no config.json there (nor of its base); --models-later waits for it")
    try:
        os.makedirs(args.out, exist_ok=True)
    except OSError as error:
        sys.exit(f"evaluation_experiment: --out {args.out}: {error.strerror}")
    if not args.long:
        args.long = os.path.join(args.out, "long.txt")
        if not os.path.exists(args.long):
            write_long_text(args.texts, args.long)
    wanted = args.only or GROUPS
    jobs = []
    if "written" in wanted:
        jobs += written(models, args)
    if "likelihood" in wanted:
        jobs += likelihood(models, args)
    if "long" in wanted or "recall" in wanted:
        jobs += side(models, args)
    for group in GROUPS:
        os.makedirs(os.path.join(args.out, group), exist_ok=True)
    if args.plan:
        sums = {}
        for job in jobs:
            print(job.group, job.name, f"{job.threads} threads, {job.seconds:.0f} thread-seconds", *job.options)
            sums.setdefault((job.group, job.model.name), []).append(job.seconds)
        for (group, model), costs in sums.items():
            print(f"{group} {model}: {len(costs)} jobs, {sum(costs):.0f} thread-seconds")
        return
    shutil.rmtree(os.path.join(args.out, "tmp"), ignore_errors=True)
    os.makedirs(os.path.join(args.out, "tmp"))
    runner = Runner(args, jobs)

    def stop(*_):
        args.seconds = 0
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    runner.run()
    shutil.rmtree(os.path.join(args.out, "tmp"), ignore_errors=True)


if __name__ == "__main__":
    main()
