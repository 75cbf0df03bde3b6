"""What an experiment reads again of what it wrote: whole files of JSON, or nothing. A file that was cut short, by a full disk
or on its way from another machine, is as good as none: its job is not done. And a type of their options."""
import argparse
import json
import math


def whole(path):
    """The object in a file of JSON; None where there is no such file, or no whole object in it."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def whole_lines(path):
    """The objects of a file with one on each line; None where there is no such file, or a line is none."""
    try:
        with open(path, encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return None
    return found if all(isinstance(one, dict) for one in found) else None


def whole_samples(job):
    """The lines of JOB.samples.jsonl, as many as JOB.json says that `linnet evaluate` wrote; None where one of both is not
    whole. Cut at the end of a line, or down to nothing, every line that is left is whole."""
    result, lines = whole(job + ".json"), whole_lines(job + ".samples.jsonl")
    if result is None or lines is None:
        return None
    try:
        written = sum(task["effective"] for task in result["n-samples"].values())
    except (AttributeError, KeyError, TypeError):
        return None
    return lines if len(lines) == written else None


def at_least(least, kind=int):
    """A type of an option of argparse: a number of at least `least`."""
    def number(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text}, expected a number of at least {least}")
        return value
    return number
