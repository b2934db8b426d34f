"""Every task on text, end to end: a small network learns it, judges itself, answers new texts, is exported, and the
artefacts answer in the runtimes that serve them.

pytest tests/test_text_tasks.py
"""

import importlib.util
import json
import random
import subprocess
import sys

import numpy as np
import pytest
from conftest import WORDS, sentence

import tlkeras
from tlkeras import artefacts, evaluation
from tlkeras.errors import GateError, UsageError

EPOCHS = {"text-classification": 15, "masked-lm": 3}


def rows(task: str) -> list[dict]:
    """A hundred samples of a task, made of the topics' sentences."""
    draw, made = random.Random(0), []
    for i in range(120):
        topic = draw.choice(list(WORDS))
        text = sentence(topic, i)
        if task == "token-classification":
            tags = [next((f"B-{t}" for t in WORDS if w in WORDS[t]), "O") for w in text.split()]
            made.append({"text": text.split(), "label": tags})
        elif task == "question-answering":
            other = sentence(draw.choice([t for t in WORDS if t != topic]), i + 999)
            context = f"{text}. {other}"
            answer = next(w for w in text.split() if w in WORDS[topic])
            label = {"text": [answer], "answer_start": [context.index(answer)]}
            made.append({"question": f"a {draw.choice(WORDS[topic])}", "context": context, "label": label})
        elif task == "sentence-embedding":
            first, second = draw.sample(WORDS[topic], 2)
            made.append({"text": f"{first} {second} {text}", "pair": f"{second} {first}"})
        elif task == "seq2seq":
            made.append({"text": text, "label": " ".join(w for w in text.split() if w in WORDS[topic])})
        else:
            made.append({"text": text, "label": topic})
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_bert, tiny_gpt2, tiny_bart):
    """Returns `f(task)`: a finished run of it, trained once."""
    folder, runs = tmp_path_factory.mktemp("tasks"), {}
    presets = {"causal-lm": tiny_gpt2, "seq2seq": tiny_bart}

    def run(task):
        if task not in runs:
            data = folder / f"{task}.jsonl"
            data.write_text("\n".join(map(json.dumps, rows(task))), "utf8")
            written = ", max_tokens: 8" if task in presets else ""
            config = folder / f"{task}.yaml"
            config.write_text(
                f"task: {{name: {task}{written}}}\n"
                f"data: {{path: {data}}}\n"
                f"backbone: {{name: {presets.get(task, tiny_bert)}, weights: preset}}\n"
                f"train:\n  phases:\n    - {{name: all, train: all, epochs: {EPOCHS.get(task, 10)}, learning_rate: 3e-3}}\n"
            )
            runs[task] = tlkeras.train(config, folder / task, quiet=True)
        return runs[task]

    return run


LEARNT = {
    "text-classification": ("accuracy", 0.6),
    "token-classification": ("f1", 0.8),
    "question-answering": ("f1", 0.5),
    "sentence-embedding": ("recall_at_10", 0.5),
}


@pytest.mark.parametrize("task", LEARNT)
def test_a_task_is_learnt(task, trained):
    metric, least = LEARNT[task]
    assert tlkeras.evaluate(trained(task).folder, quiet=True)["metrics"][metric] >= least


@pytest.mark.parametrize("task", ["masked-lm", "causal-lm"])
def test_a_language_model_grows_less_perplexed(task, trained):
    history = (trained(task).history).read_text().splitlines()
    column = history[0].split(",").index("val_loss")
    losses = [float(line.split(",")[column]) for line in history[1:]]
    assert losses[-1] < losses[0]
    result = tlkeras.evaluate(trained(task).folder, quiet=True)
    assert result["metrics"]["perplexity"] == pytest.approx(np.exp(result["metrics"]["loss"]))


def test_perplexity_counts_every_token_once_whatever_the_batch(trained):
    small, large = (evaluation.evaluate(trained("causal-lm").folder, batch=b, quiet=True)["metrics"] for b in (3, 64))
    assert small["tokens"] == large["tokens"] and small["perplexity"] == pytest.approx(large["perplexity"], rel=1e-5)


@pytest.mark.skipif(not importlib.util.find_spec("sacrebleu"), reason="needs the extra `text`")
def test_what_is_written_is_judged_by_bleu_and_rouge(trained):
    result = tlkeras.evaluate(trained("seq2seq").folder, quiet=True)
    assert {"rouge_l", "rouge_1", "rouge_2", "bleu", "chrf"} <= set(result["metrics"])
    assert "version:" in result["signatures"]["bleu"]


def test_predict_names_entities_by_their_place_in_the_text(trained):
    text = "We like bread, and a song."
    (answer,) = tlkeras.predict(trained("token-classification").folder, given=[text], quiet=True)
    assert len(answer["tags"]) == 8
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert {e["text"] for e in answer["entities"]} & {"bread", "song"}


def test_predict_answers_with_a_span_of_the_context(trained):
    context = "we like the piano. they play with a ball"
    (answer,) = tlkeras.predict(trained("question-answering").folder, given=["a violin", context], quiet=True)
    assert context[answer["start"] : answer["end"]] == answer["answer"]
    scores = [a["score"] for a in answer["n_best"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)


def test_a_single_text_has_an_embedding_of_length_one(trained):
    one, two = tlkeras.predict(trained("sentence-embedding").folder, given=["bread soup", "bread soup"], quiet=True)
    assert one["embedding"] == two["embedding"] and np.linalg.norm(one["embedding"]) == pytest.approx(1, abs=1e-4)


def test_each_sampler_writes_its_own_way_and_the_same_each_time(trained):
    folder, said = trained("causal-lm").folder, {}
    for sampler in ("greedy", "top_k", "top_p", "beam", "random"):
        sets = [f"task.sampler={sampler}", "task.temperature=1.5"]
        (first,) = tlkeras.predict(folder, given=["we like the"], sets=sets, quiet=True)
        assert first["text"].startswith("we like the")
        said[sampler] = first["text"]
    assert len(set(said.values())) > 1
    again = tlkeras.predict(folder, given=["we like the"], sets=sets, quiet=True)
    assert again[0]["text"] == said["random"]
    other = tlkeras.predict(folder, given=["we like the"], sets=[*sets, "task.sample_seed=7"], quiet=True)
    assert other[0]["text"] != said["random"]


def test_a_prompt_is_gone_on_with_for_as_many_tokens_however_long_its_neighbours_are(trained):
    folder = trained("causal-lm").folder
    alone = tlkeras.predict(folder, given=["we"], quiet=True)[0]["text"]
    beside = tlkeras.predict(folder, given=["we play with a big red ball and the team", "we"], quiet=True)[1]["text"]
    assert alone == beside


def test_a_masked_run_says_what_it_is_for(trained):
    with pytest.raises(UsageError, match="adapts a backbone"):
        tlkeras.predict(trained("masked-lm").folder, given=["a text"], quiet=True)


SERVED = (*LEARNT, "causal-lm", "seq2seq")
GIVEN = {"text": ["we like bread", "they play the piano in a concert"]}
SPANS = {"question": ["a song", "a goal"], "context": ["we play. the piano is big", "my bread and a ball"]}
LOAD = """
import json, sys, tensorflow as tf, tensorflow_text
found = {}
for task, (path, given) in json.loads(sys.argv[1]).items():
    loaded = tf.saved_model.load(path)
    out = loaded.signatures["serving_default"](**{k: tf.constant(v) for k, v in given.items()})
    lists = {k: v.numpy().ravel().tolist() for k, v in out.items()}
    found[task] = {k: [x.decode() if isinstance(x, bytes) else x for x in v] for k, v in lists.items()}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def served(trained):
    """What the SavedModel of each task answers, in a process that knows nothing of tlkeras."""
    asked = {}
    for task in SERVED:
        artefacts.export(trained(task).folder, ["saved_model"], quiet=True)
        given = SPANS if task == "question-answering" else GIVEN
        asked[task] = (str(trained(task).artefact("saved_model") / "1"), given)
    command = [sys.executable, "-c", LOAD, json.dumps(asked)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


@pytest.mark.parametrize("task", SERVED)
def test_a_saved_model_answers_texts_as_predict_does(task, trained, served):
    got, given = served[task], SPANS if task == "question-answering" else GIVEN
    typed = [t for pair in zip(*given.values(), strict=True) for t in pair]
    said = tlkeras.predict(trained(task).folder, given=typed, quiet=True)
    if task == "text-classification":
        assert got["label"] == [s["label"] for s in said]
    elif task == "token-classification":
        assert [t for t in got["tags"] if t] == [t for s in said for t in s["tags"]]
        starts = [e["start"] for e in said[0]["entities"]]
        assert [s for s, t in zip(got["start"], got["tags"], strict=True) if t.startswith("B-")][
            : len(starts)
        ] == starts
    elif task == "question-answering":
        assert got["answer"] == [s["answer"] for s in said] and got["start"] == [s["start"] for s in said]
    elif task == "sentence-embedding":
        np.testing.assert_allclose(got["embedding"], [v for s in said for v in s["embedding"]], atol=2e-6)
    else:
        # An artefact writes up to its length, predict a number of tokens.
        assert all(g.startswith(s["text"][:12]) for g, s in zip(got["text"], said, strict=True))


def test_tflite_and_its_tokenizer_answer_as_predict_does(trained):
    """Ids by the client that lies beside the file, the network in LiteRT, labels from the file."""
    from tlkeras.artefacts import metadata, tflite

    run, forms = trained("text-classification"), ["tflite", "tflite-float16", "tflite-dynamic"]
    artefacts.export(run.folder, forms, max_drop=0.2, quiet=True)
    texts = ["we like bread and soup", "Piano!"]
    said = tlkeras.predict(run.folder, given=texts, quiet=True)
    for form in forms:
        folder = run.artefact(form)
        contract, files = metadata.read((folder / "model.tflite").read_bytes())
        answer = tflite.load(folder)
        for text, expected in zip(texts, said, strict=True):
            command = [sys.executable, "-S", str(folder / "tokenizer.py"), text]
            x = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout)
            assert set(x) == set(contract["input"]["tensors"])
            scores = answer({name: np.array([ids], np.int32) for name, ids in x.items()})["scores"][0]
            assert files["labels.txt"].decode().split("\n")[scores.argmax()] == expected["label"]


def test_what_tflite_cannot_hold_is_refused_with_what_to_do(trained):
    with pytest.raises(GateError, match="numbers of tokens cannot be quantised"):
        artefacts.export(trained("text-classification").folder, ["tflite-int8"], quiet=True)
    with pytest.raises(GateError, match="fits a SavedModel only"):
        artefacts.export(trained("causal-lm").folder, ["tflite"], quiet=True)


def test_every_text_run_has_a_report(trained):
    for task in (*LEARNT, "causal-lm", "masked-lm"):
        run = trained(task)
        tlkeras.evaluate(run.folder, quiet=True)
        page = tlkeras.report(run.folder).read_text("utf8")
        assert (
            "held-out texts" in page and "images" not in page.split("<footer")[0].split("</style>")[1].split("<pre")[0]
        )


def test_the_server_answers_texts(trained, served):
    from fastapi.testclient import TestClient

    from tlkeras import server

    run = trained("text-classification")
    client = TestClient(server.app({"topics": run.artefact("saved_model")}))
    answer = client.post("/v1/models/topics:predict", json={"instances": ["we like bread"]}).json()
    (said,) = tlkeras.predict(run.folder, given=["we like bread"], quiet=True)
    assert answer["predictions"][0]["label"] == said["label"]
    assert answer["predictions"][0]["score"] == pytest.approx(said["score"], abs=1e-5)
