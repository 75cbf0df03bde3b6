#!/usr/bin/env python3
"""How good a model's sentence vectors are: paraphrases of MRPC and the sentences that answer QNLI's questions.

    scripts/evaluate_embeddings.py MODEL --tasks FOLDER [--linnet build/release/bin/linnet] [--pairs 1000] [--train 1000]
                                   [embed's options…]

FOLDER has mrpc-train, mrpc-validation and qnli-validation (.jsonl.xz). A pair's score is the cosine of its vectors as
`linnet embed` gives them. One JSON line:

    mrpc_auc        that a paraphrase of MRPC's validation set scores above another pair
    mrpc_accuracy   under the threshold that is best on --train pairs of its training set; mrpc_f1 likewise
    qnli_recall     questions whose own sentence scores highest among those of the first --pairs entailed pairs; qnli_mrr
                    the mean of 1 / its rank

Needs numpy.
"""
import argparse
import json
import lzma
import os
import subprocess
import tempfile

import numpy


def records(folder, name):
    with lzma.open(os.path.join(folder, name + ".jsonl.xz"), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def vectors(linnet, model, texts, options):
    """Of length 1, [texts, size]."""
    with tempfile.TemporaryDirectory() as folder:
        lines, out = os.path.join(folder, "texts.txt"), os.path.join(folder, "vectors.npy")
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(" ".join(text.split()) + "\n" for text in texts)
        subprocess.run([linnet, "embed", model, "--file", lines, "-o", out, "--truncate", *options], check=True)
        found = numpy.load(out)
    return found / numpy.linalg.norm(found, axis=1, keepdims=True)


def pairs(arguments, options, some, first, second):
    own = vectors(arguments.linnet, arguments.model, [r[first] for r in some] + [r[second] for r in some], options)
    return own[:len(some)], own[len(some):]


def area(scores, labels):
    """Under the curve of false against true positives: by ranks, equal scores sharing theirs."""
    _, where, counts = numpy.unique(scores, return_inverse=True, return_counts=True)
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[where]
    positives = labels.sum()
    return (ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--linnet", default="build/release/bin/linnet")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--train", type=int, default=1000)
    arguments, options = parser.parse_known_args()

    def paraphrases(name, most=None):
        some = records(arguments.tasks, name)[:most]
        a, b = pairs(arguments, options, some, "sentence1", "sentence2")
        return (a * b).sum(1), numpy.array([int(r["label"]) == 1 for r in some])

    scores, labels = paraphrases("mrpc-train", arguments.train)
    threshold = max(numpy.unique(scores), key=lambda t: ((scores >= t) == labels).mean())
    scores, labels = paraphrases("mrpc-validation")
    guessed = scores >= threshold
    result = {"mrpc_auc": area(scores, labels), "mrpc_accuracy": (guessed == labels).mean(),
              "mrpc_f1": 2 * (guessed & labels).sum() / (guessed.sum() + labels.sum())}
    some = [r for r in records(arguments.tasks, "qnli-validation") if r["label"] == "entailment"][:arguments.pairs]
    questions, sentences = pairs(arguments, options, some, "question", "sentence")
    cosines = questions @ sentences.T
    ranks = (cosines > numpy.diag(cosines)[:, None]).sum(1) + 1
    result |= {"qnli_recall": (ranks == 1).mean(), "qnli_mrr": (1 / ranks).mean()}
    print(json.dumps({"model": arguments.model} | {key: round(float(value), 4) for key, value in result.items()}))


if __name__ == "__main__":
    main()
