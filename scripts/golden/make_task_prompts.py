#!/usr/bin/env python3
"""Makes tests/data/tasks/prompts.json: for records of our own, the prompts that lm-eval's code makes of each task.

    scripts/golden/make_task_prompts.py tests/data/tasks/prompts.json

Each case has the records in the forms that Linnet reads ("records", then few-shot examples "pool"), how many of these
stand before the prompt, and for each record the harness's requests and the index of the right one. Also samples of
golds and choices with the harness's f1, mcc and acc and their errors, and what it reads out of written answers. Made with lm-eval 0.4.13.
"""
import json
import sys

from harness_tasks import config_of, make_task, published
from lm_eval.api import metrics

ARC = {"question": {"stem": "Which of these melts in the sun? ", "choices": [
    {"text": "ice", "label": "1"}, {"text": " a stone", "label": "2"}, {"text": "Wörter", "label": "3"}]}, "answerKey": "3"}
ARC_TRAIN = [{"idx": 0, "question": "What do bees make?", "A": "milk", "B": "honey", "C": "bread", "D": "glass", "answer": "B"},
             {"idx": 1, "question": "What is wet?", "A": "sand", "B": "fire", "C": "water", "D": "dust", "answer": "3"}]
MMLU = [{"subject": "high_school_physics", "question": " What falls?\n", "A": "a feather", "B": "nothing ", "C": "x", "D": "1",
         "answer": "A"},
        {"subject": "high_school_physics", "question": "Light is", "A": "fast", "B": "slow", "C": "heavy", "D": "blue",
         "answer": "D"}]
LOCAL = [  # task, shots, records, pool
    ("piqa", 0, [{"goal": "Keep soup warm", "sol1": "Put a lid on it.", "sol2": "Put a hat on it.", "label": 0}], None),
    ("piqa", 1, [{"goal": "Keep soup warm", "sol1": "Put a lid on it.", "sol2": "Put a hat on it.", "label": 0},
                 {"goal": "Open a jar", "sol1": "Sing to it", "sol2": "Turn its lid", "label": 1}], None),
    ("copa", 1, [{"id": 1, "asks-for": "effect", "most-plausible-alternative": 2, "p": "It rained all day. ",
                  "a1": "The street was dry.", "a2": "I Stayed at home."}],
     [{"id": 2, "asks-for": "cause", "most-plausible-alternative": 1, "p": "The cup broke.", "a1": "It fell.", "a2": "It was red."}]),
    ("arc_challenge", 2, [ARC], ARC_TRAIN),
    ("arc_easy", 0, [{"query": "Question: Who swims?", "choices": ["fish", "trees", "hills", "roads"], "gold": 0}], None),
    ("hellaswag", 1, [{"query": "Roofing: A man is on a roof. he", "label": 3, "endings": ["sings.", "sleeps.", "eats [a] hat.", "works  on."]},
                      {"query": "Cooking: [header] How to cook [title] Take a pot. [step] Fill it  with water.", "label": 0,
                       "endings": [" Then [substeps] heat it. [title] Wait.", "Throw it.", "Sell it [away", "Burn it]."]}], None),
    ("winogrande", 1, [{"context_options": ["The cup hit the plate so the cup", "The cup hit the plate so the plate"],
                        "continuation": "broke first.", "gold": 1},
                       {"context_options": ["Ann saw Eve when Ann", "Ann saw Eve when Eve"], "continuation": "came by. ", "gold": 0}], None),
    ("ag_news", 1, [{"class": 4, "title": "A new chip", "description": "It computes  fast."}],
     [{"text": "A team won by two goals.", "label": "Sports"}]),
    ("mmlu", 1, MMLU[:1], MMLU[1:]),
    ("cola", 1, [{"source": "x", "label": 0, "mark": "*", "sentence": "Him sings well."}],
     [{"source": "x", "label": 1, "mark": "", "sentence": "He sings well."}]),
    ("sst2", 1, [{"sentence": "a film of great charm ", "label": 1}], [{"sentence": "a bore", "label": 0}]),
    ("mrpc", 1, [{"index": 0, "sentence1": "He left .", "sentence2": "He went away .", "label": 1}],
     [{"index": 1, "sentence1": "It rains .", "sentence2": "It does not .", "label": 0}]),
    ("qnli", 1, [{"index": 0, "question": "Who came?", "sentence": "It was cold.", "label": "not_entailment"},
                 {"index": 1, "question": "When?", "sentence": "In May.", "label": "entailment"}], None),
    ("rte", 1, [{"index": 0, "sentence1": "All cats sleep.", "sentence2": "My cat sleeps.", "label": 0}],
     [{"index": 1, "sentence1": "Some fly.", "sentence2": "All fly.", "label": 1}]),
]
PUBLISHED = [  # records as the published sets have them
    ("hellaswag", 0, [{"activity_label": "Roofing", "ctx_a": "A man is on a roof.", "ctx_b": "he", "label": "3",
                       "endings": ["sings.", "sleeps.", "eats.", "works."]},
                      {"activity_label": "How to", "ctx_a": "Take a pot. [step] Fill it.", "ctx_b": "the Ämter", "label": "0",
                       "endings": ["a", "b", "c", "d"]}], None),
]


def layout(system):
    """A chat template; without `system` one that refuses such a message."""
    def render(messages, add_generation_prompt=True):
        if not system and messages[0]["role"] == "system": messages = messages[1:]  # as lm-eval's models do
        return "<s>" + "".join(f"[{m['role']}]{m['content']}</s>" for m in messages) + "[assistant]"
    return render


def case(task, shots, records, pool, convert=True, chat=None):
    as_published = (lambda r: published(task, r)) if convert else (lambda r: r)
    subject = records[0].get("subject")
    made = make_task(task, [as_published(r) for r in records], shots, pool and [as_published(r) for r in pool], subject)
    if chat is None:
        made.build_all_requests()
    else:
        made.build_all_requests(apply_chat_template=True, fewshot_as_multiturn=True, chat_template=layout(chat), tokenizer_name="t")
    expected = []
    for i, doc in made.doc_iterator():
        requests = [r.args for r in made.instances if r.doc_id == i]
        gold = made.doc_to_text(doc) if made.multiple_input else made.doc_to_target(doc)
        if isinstance(gold, str):
            gold = made.doc_to_choice(doc).index(gold)
        expected.append({"requests": requests, "gold": gold})
    names = [m["metric"] for m in config_of(task, subject)["metric_list"]]
    made_case = {"task": task, "shots": shots, "records": records, "pool": pool, "expected": expected, "metrics": names}
    return made_case if chat is None else {**made_case, "system": chat}


BBH = {  # of a configuration of the harness: its own prompts are BBH's
    "description": "Say whether it holds.\n\n",
    "samples": [{"input": "1 < 2 is", "target": "One is less.\n\nSo the answer is True."},
                {"input": "not True is", "target": "True is turned round. So the answer is False."},
                {"input": "2 < 1 is", "target": "No. So the answer is False."}]}
WRITTEN = ["So the answer is True.", "the answer is True", "the answer is  True . ", "So the answer is\nTrue.", "the answer is ",
           "The answer is True.", "Is the answer is \nno? the answer is True.\nthe answer is False.", "the answer is ä", "",
           "the answer is the answer is x.", "the answer is .", "the answer is True..", "the answer is (A) \u00e9\u3000.\n"]


def bbh_case(shots):
    subject, records = "boolean_expressions", [{"task": "boolean_expressions", "idx": 3, "input": "True is", "target": "True"},
                                               {"task": "boolean_expressions", "idx": 4, "input": "1 is\nnot", "target": "(A)"}]
    made = make_task("bbh_cot_fewshot", records, shots, None, subject, description=BBH["description"],
                     fewshot_config={"sampler": "first_n", "samples": BBH["samples"]})
    made.build_all_requests()
    question = "Q: {}\nA: Let's think step by step."
    # As the authors' file has them; one of its tasks has a space behind the dots.
    worked = "\n\n".join(question.format(s["input"]) + (" " if i == 1 else "\n") + s["target"]
                         for i, s in enumerate(BBH["samples"]))
    pool = [{"task": subject, "prompt": f"A notice.\n-----\n{BBH['description']}{worked}"},
            {"task": "another", "prompt": "Other words.\n\nQ: x\nA: Let's think step by step.\ny"}]
    expected = []
    for i, doc in made.doc_iterator():
        context, generation = next(r.args for r in made.instances if r.doc_id == i)
        expected.append({"requests": [[context, ""]], "gold": made.doc_to_target(doc), "generation": generation})
    return {"task": "bbh_cot_fewshot", "shots": shots, "records": records, "pool": pool, "expected": expected,
            "metrics": [m["metric"] for m in config_of("bbh_cot_fewshot", subject)["metric_list"]]}


def written():
    """What the harness reads out of texts, and whether that is "True"."""
    from lm_eval.api.instance import Instance
    made = make_task("bbh_cot_fewshot", [{"input": "", "target": "True"}], 0, None, "boolean_expressions")
    rows = []
    for text in WRITTEN:
        made._instances = [Instance("generate_until", {"target": "True"}, ("", {}), 0, doc_id=0)]
        made._instances[0].resps = [text]
        made.apply_filters()
        answer = made._instances[0].filtered_resps["get-answer"]
        right = made.process_results({"input": "", "target": "True"}, [answer])["exact_match"]
        rows.append({"text": text, "answer": answer, "right": bool(right)})
    return rows


def scores():
    pairs = [(i * 7 % 3 % 2, i * i % 5 % 2) for i in range(37)]
    right = [1.0 if g == p else 0.0 for g, p in pairs]
    iterations = 2000
    return {"pairs": pairs, "bootstrap": iterations,
            "acc": [metrics.mean(right), metrics.mean_stderr(right)],
            "f1": [metrics.f1_score(pairs), metrics.bootstrap_stderr(metrics.f1_score, pairs, iterations)],
            "mcc": [metrics.matthews_corrcoef(pairs), metrics.bootstrap_stderr(metrics.matthews_corrcoef, pairs, iterations)],
            "pooled": {"errors": [0.1, 0.02, 0.3], "sizes": [10, 20, 5],
                       "error": float(metrics.pooled_sample_stderr([0.1, 0.02, 0.3], [10, 20, 5]))}}


if __name__ == "__main__":
    cases = [case(*row) for row in LOCAL] + [case(*row, convert=False) for row in PUBLISHED]
    cases += [bbh_case(shots) for shots in (0, 2, 3)]
    # The published forms of the same records give the same prompts: Linnet reads them too.
    for task, shots, records, pool in LOCAL:
        if task != "hellaswag":
            cases.append(case(task, shots, [published(task, r) for r in records], pool and [published(task, r) for r in pool], False))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        chats = [case(*row, chat=True) for row in LOCAL] + [case(*row, chat=False) for row in LOCAL if row[0] == "mmlu"]
        json.dump({"made_with": "lm-eval 0.4.13", "cases": cases, "chats": chats, "scores": scores(), "written": written()}, out, indent=1, ensure_ascii=False,
                  default=lambda x: x.item())
        out.write("\n")
