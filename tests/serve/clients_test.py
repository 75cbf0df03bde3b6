#!/usr/bin/env python3
"""Real clients against `linnet serve`: PyPI's openai, and lm-eval's own (local-completions).

    tests/serve/clients_test.py openai|lm_eval BIN MODELS

BIN: the folder of the program; MODELS: that of the models that ship. Exits 77, saying so, where a package is missing:
openai needs openai (3.57.0 was used); lm_eval needs lm-eval[api] (0.4.13 was used), datasets and transformers.
"""
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

which, bin_folder, models = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
NEEDED = {"openai": ["openai"], "lm_eval": ["lm_eval", "datasets", "transformers", "aiohttp", "tenacity"]}[which]
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    print(f"skipped: this Python has no {', '.join(missing)} (PyPI); LINNET_PYTHON names one that has")
    sys.exit(77)
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="none")
MODEL = models / "linnet-small-linear"
PLAIN = ["--dtype", "float32"]  # so that what is read in other pieces agrees to the last digits
PROMPT = "The history of the lighthouse begins"


def linnet(*arguments):
    return subprocess.run([bin_folder / "linnet", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def generated(folder, prompt, tokens, *more):
    """What `linnet generate` writes, as its JSON has it."""
    linnet("generate", MODEL, "-p", prompt, "-n", tokens, "--json", f"{folder}/out.json", *more, *PLAIN)
    return json.load(open(f"{folder}/out.json"))


def fails(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def try_openai(url, folder):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0, timeout=120)
    assert [m.id for m in client.models.list()] == [MODEL.name]
    assert client.models.retrieve(MODEL.name).id == MODEL.name
    ask = {"model": MODEL.name, "prompt": PROMPT, "max_tokens": 24, "seed": 7}
    for temperature in (0, 0.9):
        alone = generated(folder, PROMPT, 24, "--temperature", temperature, "--seed", 7, "--logprobs", 2, "--echo")
        answer = client.completions.create(**ask, temperature=temperature, logprobs=2, echo=True)
        choice = answer.choices[0]
        assert choice.text == alone["text"], (choice.text, alone["text"])
        assert choice.logprobs.token_logprobs == alone["logprobs"]["token_logprobs"]
        assert choice.logprobs.text_offset == alone["logprobs"]["text_offset"]
        assert answer.usage.completion_tokens == len(alone["token_ids"])
        pieces, usage = "", None
        for event in client.completions.create(**ask, temperature=temperature, stream=True,
                                               stream_options={"include_usage": True}):
            pieces += event.choices[0].text if event.choices else ""
            usage = event.usage or usage
        assert PROMPT + pieces == choice.text
        assert usage == answer.usage
    talk = {"model": MODEL.name, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**talk, logprobs=True, top_logprobs=3)
    message = whole.choices[0].message
    assert message.role == "assistant"
    assert message.content == generated(folder, PROMPT, 24, "--temperature", 0, "--chat", "--template",
                                        f"{folder}/chat.jinja")["text"]
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 3
    events = list(client.chat.completions.create(**talk, stream=True))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(e.choices[0].delta.content or "" for e in events) == message.content
    assert events[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert "expected 0 to 1" in fails(openai.BadRequestError, lambda: client.completions.create(**ask, top_p=2))
    fails(openai.NotFoundError, lambda: client.completions.create(**{**ask, "model": "another"}))
    with client.completions.create(**{**ask, "max_tokens": 4000}, stream=True, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))  # and away
    assert client.completions.create(**ask, temperature=0).choices[0].text
    print(f"openai {openai.__version__}: completions, chat, streams and errors are as they should be")


GOALS = ["open a jar", "dry wet boots", "sharpen a pencil", "boil an egg", "fold a map", "light a room"]


def try_bbh(lm_eval, make_task, lm, folder):
    """The harness's prompts, stops, reading of answers and scores of BBH, on texts that the server writes."""
    from harness_tasks import config_of

    subject = "sports_understanding"
    records = [{"task": subject, "idx": i, "input": f'Is the following sentence plausible? "{who} {what}."', "target": target}
               for i, (who, what, target) in enumerate([("A goalkeeper", "served an ace", "no"),
                                                        ("A pitcher", "threw a curveball", "yes"),
                                                        ("A rower", "took a penalty", "no")])]
    config = config_of("bbh_cot_fewshot", subject)
    shots = "\n\n".join(config["doc_to_text"].replace("{{input}}", s["input"]) + s["target"]
                        for s in config["fewshot_config"]["samples"])
    (Path(folder) / "bbh-test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (Path(folder) / "bbh-cot-prompts.jsonl").write_text(json.dumps({"task": subject, "prompt": config["description"] + shots}))
    linnet("evaluate", MODEL, "--tasks", "bbh", "--data", folder, "--json", f"{folder}/bbh.json", "--samples",
           f"{folder}/bbh.jsonl", "--alone", *PLAIN)
    ours = json.load(open(f"{folder}/bbh.json"))["results"][f"bbh_cot_fewshot_{subject}"]
    samples = [json.loads(line) for line in open(f"{folder}/bbh.jsonl")]
    theirs = lm_eval.evaluate(lm, {"bbh": make_task("bbh_cot_fewshot", records, 3, None, subject)}, bootstrap_iters=0)
    for mine, other in zip(samples, sorted(theirs["samples"]["bbh"], key=lambda s: s["doc_id"]), strict=True):
        assert mine["arguments"][0][0] == other["arguments"][0][0], (mine, other)
        assert mine["resps"] == other["resps"] and mine["filtered_resps"] == other["filtered_resps"], (mine, other)
    key = "exact_match,get-answer"
    assert ours[key] == theirs["results"]["bbh"][key]


def try_lm_eval(url, folder):
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "golden"))
    import lm_eval
    from harness_tasks import make_task
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    records = [{"goal": f"How do you {goal}?", "sol1": f"Take the {goal.split()[-1]} and turn it.",
                "sol2": "Leave it to the cat.", "label": i % 2} for i, goal in enumerate(GOALS)]
    (Path(folder) / "piqa-validation.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    linnet("evaluate", MODEL, "--tasks", "piqa", "--data", folder, "--json", f"{folder}/evaluated.json", "--samples",
           f"{folder}/samples.jsonl", *PLAIN)
    ours = json.load(open(f"{folder}/evaluated.json"))["results"]["piqa"]
    samples = [json.loads(line) for line in open(f"{folder}/samples.jsonl")]
    lm = LocalCompletionsAPI(base_url=url + "/v1/completions", model=MODEL.name, tokenizer=str(models / "linnet-small"),
                             batch_size=4, max_length=8192, add_bos_token=True)
    theirs = lm_eval.evaluate(lm, {"piqa": make_task("piqa", records)}, bootstrap_iters=0)
    for mine, other in zip(samples, sorted(theirs["samples"]["piqa"], key=lambda s: s["doc_id"]), strict=True):
        for (a, greedy), (b, other_greedy) in zip(mine["filtered_resps"], other["filtered_resps"], strict=True):
            assert abs(a - b) < 1e-4 and greedy == other_greedy, (mine, other)
    for metric in ("acc,none", "acc_norm,none"):
        assert ours[metric] == theirs["results"]["piqa"][metric]
    try_bbh(lm_eval, make_task, lm, folder)
    until = Instance("generate_until", {}, (PROMPT, {"until": ["."], "max_gen_toks": 40}), 0)
    written = lm.generate_until([until])[0]
    assert written == generated(folder, PROMPT, 40, "--temperature", 0, "--stop", ".")["text"], written
    print(f"lm-eval {lm_eval.__version__}: {2 * len(records)} log-likelihoods within 1e-4 of `linnet evaluate`, the same "
          f"scores, BBH's answers too, and the same text up to a full stop")


with tempfile.TemporaryDirectory() as folder:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    (Path(folder) / "chat.jinja").write_text(template)
    server = subprocess.Popen([bin_folder / "linnet", "serve", MODEL, "--port", "0", "--quiet", "--template",
                               f"{folder}/chat.jinja", *PLAIN], stdout=subprocess.PIPE, text=True)
    try:
        where = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", server.stdout.readline())
        assert where, "the server does not listen"
        {"openai": try_openai, "lm_eval": try_lm_eval}[which](where[1], folder)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
