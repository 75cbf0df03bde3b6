"""Tasks of lm-evaluation-harness (PyPI: lm-eval) on records that lie here, by its own configurations and code.

Records in the forms of Linnet's task files (docs/evaluate.md) become those of the published sets, which the harness's
configurations read. AG News, which the harness has not, is given in its terms.
"""
from pathlib import Path

import datasets
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

FOLDER = Path(lm_eval.tasks.__file__).parent
CONFIGS = {
    "piqa": "piqa/piqa.yaml", "copa": "super_glue/copa/default.yaml", "arc_challenge": "arc/arc_challenge.yaml",
    "arc_easy": "arc/arc_easy.yaml", "hellaswag": "hellaswag/hellaswag.yaml", "winogrande": "winogrande/default.yaml",
    "cola": "glue/cola/default.yaml", "sst2": "glue/sst2/default.yaml", "mrpc": "glue/mrpc/default.yaml",
    "qnli": "glue/qnli/default.yaml", "rte": "glue/rte/default.yaml"}
# The files that Linnet scores and takes few-shot examples from; None: from the scored ones.
FILES = {
    "piqa": (["piqa-validation"], None), "copa": (["copa-test"], "copa-validation"),
    "arc_challenge": (["arc-challenge-test"], "arc-challenge-train"), "arc_easy": (["arc-easy-test"], None),
    "hellaswag": (["hellaswag-validation"], None), "winogrande": (["winogrande-validation"], None),
    "ag_news": (["agnews-test"], "agnews-train"), "mmlu": (["mmlu-test"], "mmlu-dev"),
    "cola": (["cola-validation-in-domain", "cola-validation-out-of-domain"], "cola-train"),
    "sst2": (["sst2-validation"], "sst2-train"), "mrpc": (["mrpc-validation"], "mrpc-train"),
    "qnli": (["qnli-validation"], None), "rte": (["rte-validation"], "rte-train")}
TOPICS = ["World", "Sports", "Business", "Sci/Tech"]


def published(task, r):
    """A record of a task file as the published set has it."""
    if task == "copa":
        return {"premise": r["p"], "choice1": r["a1"], "choice2": r["a2"], "question": r["asks-for"],
                "label": r["most-plausible-alternative"] - 1}
    if task.startswith("arc_"):
        if "query" in r:
            labels = ["ABCDE"[i] for i in range(len(r["choices"]))]
            return {"question": r["query"].removeprefix("Question: "), "answerKey": labels[r["gold"]],
                    "choices": {"text": r["choices"], "label": labels}}
        if "A" in r:
            key = r["answer"] if r["answer"] in "ABCD" else "ABCD"[int(r["answer"]) - 1]
            return {"question": r["question"], "answerKey": key,
                    "choices": {"text": [r[c] for c in "ABCD"], "label": list("ABCD")}}
        choices = r["question"]["choices"]
        return {"question": r["question"]["stem"], "answerKey": r["answerKey"],
                "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}
    if task == "winogrande":
        first, second = r["context_options"]
        same = 0
        while same < min(len(first), len(second)) and first[same] == second[same]:
            same += 1
        return {"sentence": first[:same] + "_ " + r["continuation"], "option1": first[same:], "option2": second[same:],
                "answer": str(r["gold"] + 1)}
    if task == "ag_news":
        if "title" in r:
            return {"text": r["title"] + " " + r["description"], "label": r["class"] - 1}
        return {"text": r["text"], "label": TOPICS.index(r["label"])}
    if task == "mmlu":
        return {"question": r["question"], "subject": r["subject"], "choices": [r[c] for c in "ABCD"],
                "answer": "ABCD".index(r["answer"])}
    if task == "qnli":
        return {**r, "label": ["entailment", "not_entailment"].index(r["label"])}
    return r


def config_of(task, subject=None):
    if task == "ag_news":
        question = "Question: Is this news about the world, sports, business or technology?"
        return {"task": "ag_news", "output_type": "multiple_choice", "doc_to_text": "{{text}}\n" + question + "\nAnswer:",
                "doc_to_target": "label", "doc_to_choice": ["world", "sports", "business", "technology"],
                "metric_list": [{"metric": "acc"}]}
    if task == "bbh_cot_fewshot":
        return load_yaml(FOLDER / f"bbh/cot_fewshot/{subject}.yaml", resolve_func=True)
    path = f"mmlu/default/mmlu_{subject}.yaml" if task == "mmlu" else CONFIGS[task]
    return load_yaml(FOLDER / path, resolve_func=True)


def make_task(task, scored, shots=0, pool=None, subject=None, **changes):
    """The harness's task on records of the published form; `pool`: of the few-shot examples, None: those scored;
    `changes` of its configuration."""
    config = {k: v for k, v in config_of(task, subject).items()
              if k not in ("dataset_path", "dataset_name", "tag", "training_split", "validation_split", "test_split",
                           "fewshot_split", "include", "group")}
    rows = {"scored": datasets.Dataset.from_list(scored)}
    if pool is not None:
        rows["pool"] = datasets.Dataset.from_list(pool)
    if task == "hellaswag" and "query" in scored[0]:  # its parts were joined already
        from lm_eval.tasks.hellaswag.utils import preprocess
        config["process_docs"] = lambda data: data.map(lambda r: {
            "query": preprocess(r["query"]), "choices": [preprocess(e) for e in r["endings"]], "gold": int(r["label"])})
    config |= {"custom_dataset": lambda **_: rows, "test_split": "scored", "num_fewshot": shots}
    if task != "bbh_cot_fewshot":  # whose few-shot examples stand in its configuration
        config |= {"fewshot_split": "scored" if pool is None else "pool", "fewshot_config": {"sampler": "first_n"}}
    config |= changes
    return ConfigurableTask(config=config)
