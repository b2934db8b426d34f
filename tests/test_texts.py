"""Text from its source to the network: what is read, refused, split, packed, ordered, stored and learnt.

pytest tests/test_texts.py
"""

import json
import shutil
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import WORDS, losses, sentence, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

import tlkeras
from tlkeras import config, configure, data, errors, network, preview, tasks
from tlkeras import run as runs
from tlkeras.backbones import Tokens
from tlkeras.config import Data
from tlkeras.data import pipeline, sources, texts
from tlkeras.progress import Progress
from tlkeras.run import read_json
from tlkeras.tasks import causal_lm, masked_lm, question_answering, token_classification

HEAD = {"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.01, "optimizer": "sgd"}
TOP = {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 1, "learning_rate": 0.003, "optimizer": "sgd"}
LAYER = {**TOP, "name": "layer", "train": ["head", "blocks[-2:]"]}


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def records(path, rows):
    """A JSON Lines table."""
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def configured(tmp_path, topics, tiny_bert):
    """Returns `f(name, **sections) -> path` of a config on text; a section given replaces the usual one."""

    def config(name="config", preset=tiny_bert, **sections):
        given = {
            "task": "text-classification",
            "data": {"path": str(topics)},
            "backbone": {"name": str(preset), "weights": "preset"},
            "train": {"batch": 16, "phases": [HEAD]},
            **sections,
        }
        return write(tmp_path / f"{name}.yaml", yaml.safe_dump(given))

    return config


@pytest.fixture
def reader(configured):
    """Returns `f(task, preset, **backbone)`: how the texts of a task become the rows of a network."""

    def make(task, preset, **backbone):
        name = str(preset)
        path = configured(task=task, backbone={"name": name, "weights": "preset", **backbone})
        answer = {"classes": ["a", "b"], "multi_label": False, "threshold": 0.5}
        return network.build(configure.load(path)[0], answer).reader

    return make


# --- Packing: special ids around and between texts, what is too long cut off

BERT = Tokens(length=12, vocabulary=1000, start=(2,), middle=(3,), end=(3,), pad=0, segments=True, mask=4)
ROBERTA = Tokens(length=13, vocabulary=1000, start=(0,), middle=(2, 2), end=(2,), pad=1)
KINDS = pytest.mark.parametrize("tokens", [BERT, ROBERTA], ids=["bert", "roberta"])


def by_hand(parts, tokens):
    """The row of one or two lists of ids, by the rule as it is written down: (ids, segments)."""
    parts, special = [list(p) for p in parts], len(tokens.start) + len(tokens.end)
    room = tokens.length - special - (len(tokens.middle) if len(parts) > 1 else 0)
    while sum(map(len, parts)) > room:
        max(reversed(parts), key=len).pop()
    if len(parts) == 1:
        ids = [*tokens.start, *parts[0], *tokens.end]
        return ids, [0] * len(ids)
    first = [*tokens.start, *parts[0], *tokens.middle]
    second = [*parts[1], *tokens.end]
    return [*first, *second], [0] * len(first) + [1] * len(second)


def ragged(rows):
    return texts.Ragged.of(rows).tensor()


ids = st.lists(st.integers(5, 99), max_size=25)


@KINDS
@settings(deadline=None, max_examples=10)
@given(rows=st.lists(ids, min_size=1, max_size=6), pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=6))
def test_packing_is_what_the_rule_says(tokens, rows, pairs):
    for samples in ([[r] for r in rows], pairs):
        found, segments = texts.pack([ragged(p) for p in zip(*samples, strict=True)], tokens)
        want = [by_hand(s, tokens) for s in samples]
        assert found.to_list() == [w[0] for w in want] and segments.to_list() == [w[1] for w in want]
        assert max(map(len, found.to_list())) <= tokens.length


@pytest.mark.parametrize("a, b", [(3, 30), (30, 3), (30, 30), (5, 4), (0, 30), (30, 0), (0, 0)])
def test_the_longer_of_two_texts_is_cut(a, b):
    first, second = list(range(10, 10 + a)), list(range(50, 50 + b))
    (row,) = texts.pack([ragged([first]), ragged([second])], BERT)[0].to_list()
    assert row == by_hand([first, second], BERT)[0]
    assert len(row) == min(a + b, 9) + 3 and (a > 5 or set(first) <= set(row)) and (b > 4 or set(second) <= set(row))


@KINDS
@pytest.mark.parametrize("padding", ["longest", "length"])
def test_rows_are_padded_masked_and_told_apart(tokens, padding):
    tokens = replace(tokens, padding=padding)
    pairs = [([7], [8]), ([9] * 4, [8] * 3), ([7], [])]
    x = {k: v.numpy() for k, v in texts.packed([ragged(p) for p in zip(*pairs, strict=True)], tokens).items()}
    want = [by_hand(p, tokens) for p in pairs]
    wide = tokens.length if padding == "length" else max(len(w[0]) for w in want)

    def filled(rows, value):
        return np.array([[*r, *[value] * (wide - len(r))] for r in rows])

    assert {v.dtype for v in x.values()} == {np.dtype("int32")}
    np.testing.assert_array_equal(x["token_ids"], filled([w[0] for w in want], tokens.pad))
    np.testing.assert_array_equal(x["padding_mask"], filled([[1] * len(w[0]) for w in want], 0))
    assert ("segment_ids" in x) == tokens.segments
    if tokens.segments:
        np.testing.assert_array_equal(x["segment_ids"], filled([w[1] for w in want], 0))


def test_a_network_that_takes_no_mask_is_given_none():
    x = texts.packed([ragged([[7], [7, 8]])], replace(BERT, masked=False, padding="length"))
    assert set(x) == {"token_ids", "segment_ids"} and x["token_ids"].shape == (2, BERT.length)


def test_a_table_reads_what_packing_gives(reader, tiny_bert):
    made = reader("text-classification", tiny_bert)
    pairs = [("the old piano", "we like soup"), ("bread", "a big race in my new team")]
    table = made.table(pairs, np.eye(2, dtype=np.float32), np.ones(2))
    x, y, w = texts.reading(table, made.tokens)(np.arange(2))
    want = texts.packed([made.ids([p[k] for p in pairs]).tensor() for k in range(2)], made.tokens)
    assert set(x) == set(want) == {"token_ids", "padding_mask", "segment_ids"}
    wide = want["token_ids"].shape[1]
    for name, value in want.items():
        assert (x[name].numpy()[:, :wide] == value.numpy()).all() and not x[name].numpy()[:, wide:].any()
    assert y.numpy().tolist() == [[1, 0], [0, 1]] and w.numpy().tolist() == [1, 1]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_rows_are_padded_by_less_than_a_quarter_or_eight(lengths):
    wide, n = texts.bucket(lengths), np.array(lengths)
    assert (wide >= n).all() and (wide - n < np.maximum(8, n / 4)).all()
    assert len(set(texts.bucket(np.arange(1, 513)).tolist())) <= 32, "few shapes, each of which a graph is made for"


# --- The order of an epoch

TOKENS = Tokens(length=64, vocabulary=1000, start=(2,), middle=(3,), end=(3,))


def numbered(lengths, together=1, per_token=False):
    """A table whose row i holds i in every token and as its target."""
    rows = texts.Ragged.of([[i + 10] * n for i, n in enumerate(lengths)])
    n = len(lengths)
    targets = rows if per_token else np.arange(n, dtype=np.float32)[:, None]
    hashes = [f"{i:064x}" for i in range(n)]
    return texts.Table({"token_ids": rows}, targets, np.ones(n, np.float32), hashes, np.arange(n), None, together)


def skewed(n=100):
    """Lengths of which a few are long, as those of texts are."""
    return np.clip(np.random.default_rng(0).lognormal(2, 0.8, n), 2, 64).astype(int)


def epochs(table, first, last, batch=8, seed=0, change=None):
    """Per epoch a list of batches: {'rows', 'x', 'y', 'w'}."""
    stream = texts.training(table, TOKENS, batch, seed, first, last, change=change)
    got = [SimpleNamespace(x={k: v.numpy() for k, v in x.items()}, y=y.numpy(), w=w.numpy()) for x, y, w in stream]
    for b in got:
        b.rows = (b.x["token_ids"][:, 0] - 10).tolist()
    n = pipeline.steps(table, batch)
    assert len(got) == n * (last - first)
    return [got[i : i + n] for i in range(0, len(got), n)]


def rows_of(epoch):
    return [b.rows for b in epoch]


@pytest.mark.parametrize("lengths", [skewed(), [5] * 40, [3], [9, 2], skewed(17)], ids=["100", "40", "1", "2", "17"])
def test_an_epoch_holds_every_row_once_padded_and_masked(lengths):
    for epoch in epochs(numbered(lengths), 0, 2):
        assert sorted(sum(rows_of(epoch), [])) == list(range(len(lengths)))
        for b in epoch:
            n = np.array(lengths)[b.rows]
            place = np.arange(b.x["token_ids"].shape[1])[None] < n[:, None]
            want = np.where(place, np.array(b.rows)[:, None] + 10, 0)
            assert (b.x["token_ids"] == want).all() and (b.x["padding_mask"] == place).all()
            assert b.y[:, 0].tolist() == b.rows and b.w.tolist() == [1] * len(n)
            assert b.x["token_ids"].shape[1] == min(int(texts.bucket(n).max()), TOKENS.length)


def test_an_epoch_has_its_own_order_and_always_the_same():
    table = numbered(skewed())
    first, second = (rows_of(e) for e in epochs(table, 0, 2))
    assert first != second and first == rows_of(epochs(table, 0, 1)[0])
    assert first != rows_of(epochs(table, 0, 1, seed=1)[0])
    # Rows of like length meet others too, and the batches do not come by length.
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}
    means = [np.mean(skewed()[b]) for b in first]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_a_stream_that_starts_later_gives_what_it_would_have_given():
    table = numbered(skewed())
    whole, late = epochs(table, 0, 3)[2], epochs(table, 2, 3)[0]
    for a, b in zip(whole, late, strict=True):
        assert a.rows == b.rows and all((a.x[k] == b.x[k]).all() for k in a.x)


def test_batches_of_like_length_hold_less_padding_than_batches_at_random():
    lengths = skewed(400)
    held = sum(b.x["token_ids"].size for b in epochs(numbered(lengths), 0, 1)[0])
    mixed = np.random.default_rng(1).permutation(lengths)
    loose = sum(8 * min(int(texts.bucket(part.max())), 64) for part in np.split(mixed, 50))
    tokens = lengths.sum()
    assert held - tokens < 0.4 * (loose - tokens), f"{held} and {loose} places for {tokens} tokens"


@pytest.mark.parametrize("batch", [8, 7, 1])
def test_rows_that_belong_together_stay_side_by_side(batch):
    table = numbered(skewed(60), together=2)
    for epoch in epochs(table, 0, 2, batch):
        assert sorted(sum(rows_of(epoch), [])) == list(range(60))
        for b in epoch:
            assert len(b.rows) <= max(batch, 2)
            assert all(one % 2 == 0 and two == one + 1 for one, two in zip(b.rows[::2], b.rows[1::2], strict=True))
    for x, _, _ in texts.held_out(table, TOKENS, batch):
        rows = (x["token_ids"].numpy()[:, 0] - 10).tolist()
        assert all(one % 2 == 0 and two == one + 1 for one, two in zip(rows[::2], rows[1::2], strict=True))


def test_held_out_rows_come_once_by_length_and_again_the_same():
    lengths = skewed()
    stream = texts.held_out(numbered(lengths), TOKENS, 8)
    first, second = ([x["token_ids"].numpy()[:, 0] - 10 for x, _, _ in stream] for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    order = np.concatenate(first)
    assert sorted(order) == list(range(100)) and (np.diff(lengths[order]) >= 0).all()


def test_targets_of_tokens_weigh_nothing_where_there_are_none():
    rows = [[3, -1, 0], [-1, 5]]
    table = replace(numbered([3, 2]), targets=texts.Ragged.of(rows), weights=np.array([1, 2], np.float32))
    _, y, w = texts.reading(table, TOKENS)(np.arange(2))
    assert y.numpy()[:, :4].tolist() == [[3, 0, 0, 0], [0, 5, 0, 0]]
    assert w.numpy()[:, :4].tolist() == [[1, 0, 1, 0], [0, 2, 0, 0]]


def test_views_hold_rows_of_one_padded_length():
    table = numbered(skewed())
    wide = texts.padded(table, TOKENS)
    order = texts.arranged(table, TOKENS, [(i, 0) for i in range(100)])
    seen = []
    for mask, tokens in texts.views(table, TOKENS, order, 8, 0):
        rows = (tokens[:, 0] - 10).tolist()
        assert {int(wide[r]) for r in rows} == {tokens.shape[1]} and (mask.sum(1) == table.lengths[rows]).all()
        seen += rows
    assert seen == [r for r, _ in order] and sorted(seen) == list(range(100))


# --- Training from stored features

TAGS = {word: topic.upper() for topic, words in WORDS.items() for word in words}


@pytest.fixture(scope="session")
def tagged(tmp_path_factory):
    """Words of the topics, tagged by them."""
    rows = [sentence(topic, i).split() for i in range(20) for topic in WORDS]
    made = [{"text": r, "label": [f"B-{TAGS[w]}" if w in TAGS else "O" for w in r]} for r in rows]
    return records(tmp_path_factory.mktemp("texts") / "tagged.jsonl", made)


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """Questions whose answer is the word of a topic in a context of several sentences."""
    made = []
    for i in range(45):
        topic = list(WORDS)[i % 3]
        parts = [sentence(t, i + 1000 * k) for k, t in enumerate(WORDS)]
        context = ". ".join(parts[: 1 + i % 3] if topic in list(WORDS)[: 1 + i % 3] else parts) + "."
        word = next(w for w in context.replace(".", "").split() if w in WORDS[topic])
        answer = {"text": [word], "answer_start": [context.index(word)]}
        made.append({"question": f"the {topic}", "context": context, "label": answer})
    return records(tmp_path_factory.mktemp("texts") / "asked.jsonl", made)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Two sentences of one topic."""
    rows = [f"{sentence(t, i)},{sentence(t, i + 500)}" for i in range(16) for t in WORDS]
    return write(tmp_path_factory.mktemp("texts") / "pairs.csv", "\n".join(["text,pair", *rows]) + "\n")


def the_same(stored, live):
    """Both runs have the same losses and weights, and one trained from stored features."""
    assert all(p["stored"] for p in read_json(stored.plan)["prefix"].values())
    assert not any(p["stored"] for p in read_json(live.plan)["prefix"].values())
    for key, values in losses(stored).items():
        assert values == pytest.approx(losses(live)[key], rel=1e-5, abs=1e-5), key
    for a, b in zip(weights_of(stored), weights_of(live), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def both_ways(config, folder):
    """The runs of a config that train from stored features and without."""
    return (tlkeras.train(config, folder / way, [f"prefix.store={way}"], quiet=True) for way in ("on", "off"))


@pytest.mark.parametrize(
    "preset, phases, dropout",
    [("tiny_bert", [HEAD, TOP], 0.2), ("tiny_gpt2", [HEAD, LAYER], 0.0)],
    ids=["encoder", "decoder"],
)
def test_training_from_stored_features_gives_the_numbers_of_training_without(
    preset, phases, dropout, configured, request, tmp_path
):
    """In the second phase the padding mask crosses the cut."""
    config = configured(
        task={"name": "text-classification", "dropout": dropout},
        preset=request.getfixturevalue(preset),
        train={"batch": 16, "phases": phases},
    )
    the_same(*both_ways(config, tmp_path))


def test_pairs_learn_the_same_from_stored_features(configured, pairs, tmp_path):
    """Texts of a batch judge each other, so the batches of the held-out texts must be the same too."""
    task = {"name": "sentence-embedding", "dimension": 8}
    config = configured(task=task, data={"path": str(pairs)}, train={"batch": 7, "phases": [HEAD]})
    the_same(*both_ways(config, tmp_path))


TEXT = "  We see bread, my old piano...   and the BALL! " * 3


@pytest.mark.parametrize("task, table", [("token-classification", "tagged"), ("question-answering", "asked")])
def test_tasks_on_tokens_learn_the_same_from_stored_features_and_answer_with_places(
    task, table, configured, request, tmp_path
):
    config = configured(
        task={"name": task, "dropout": 0.0},
        data={"path": str(request.getfixturevalue(table))},
        train={"batch": 7, "phases": [HEAD]},
    )
    stored, live = both_ways(config, tmp_path)
    assert 0 <= tlkeras.evaluate(live.folder, quiet=True)["metrics"]["f1"] <= 1
    if task == "token-classification":
        (found,) = tlkeras.predict(live.folder, given=[TEXT], quiet=True)
        assert len(found["tags"]) == len(token_classification.WORD.findall(TEXT))
        assert all(TEXT[e["start"] : e["end"]] == e["text"] for e in found["entities"])
    else:
        (found,) = tlkeras.predict(live.folder, given=["the food", TEXT], quiet=True)
        assert found["answer"] and TEXT[found["start"] : found["end"]] == found["answer"]
    the_same(stored, live)


class Died(BaseException):
    pass


def test_an_interrupted_filling_goes_on_where_it_stopped(configured, tmp_path, monkeypatch):
    from tlkeras.prefix import features, store

    config = configured(prefix={"store": "on"})
    monkeypatch.setattr(features, "CHUNK", 1)
    whole = weights_of(tlkeras.train(config, tmp_path / "whole", quiet=True))
    for one in store.prune():
        assert one["rows"] == 96
    append = store.Store.append

    def dying(self, samples, arrays):
        append(self, samples, arrays)
        if self.count >= 16:
            raise Died

    with monkeypatch.context() as m:
        m.setattr(store.Store, "append", dying)
        with pytest.raises(Died):
            tlkeras.train(config, tmp_path / "died", quiet=True)
    (left,) = store.listing()
    assert 16 <= left["rows"] < 96
    run = tlkeras.train(tmp_path / "died", resume=True, quiet=True)
    assert read_json(run.plan)["prefix"]["head"]["why"] == f"{96 - left['rows']} of 96 computed now"
    assert all((a == b).all() for a, b in zip(whole, weights_of(run), strict=True))


@pytest.mark.parametrize("task", ["text-classification", "masked-lm"])
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(task, configured, tmp_path):
    """With stored features and dropout in the head; with dropout everywhere and masks that are drawn anew."""
    all_ = {"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.01}
    phases = [HEAD] if task == "text-classification" else [all_]
    config = configured(task=task, train={"batch": 16, "phases": phases})
    run = tlkeras.train(config, tmp_path / "run", quiet=True)
    whole, before = weights_of(run), run.history.read_text()
    # As if it had died in the last epoch.
    run.model.unlink()
    shutil.rmtree(sorted(run.checkpoints.glob("phase-*-epoch-*"))[-1])
    tlkeras.train(run.folder, resume=True, quiet=True)
    assert all((a == b).all() for a, b in zip(whole, weights_of(run), strict=True))

    def timeless(text):
        return [[c for n, c in enumerate(line.split(",")) if n != 2] for line in text.splitlines()]

    assert timeless(run.history.read_text()) == timeless(before)


@pytest.mark.parametrize("train", ["all", ["head", "blocks[-3:]"]], ids=["all", "layers"])
def test_activations_that_are_computed_again_change_nothing(train, configured, tiny_gpt2):
    """What `auto` does where memory is short; the padding mask is handed on from stage to stage."""
    import keras
    import tensorflow as tf

    from tlkeras import plans, prefix
    from tlkeras.config import Phase

    answer = {"classes": ["a", "b"], "multi_label": False, "threshold": 0.5}
    task = {"name": "text-classification", "dropout": 0.0}
    net = network.build(configure.load(configured(task=task, preset=tiny_gpt2))[0], answer)
    phase = Phase.model_validate({**TOP, "train": train})
    (cut,) = prefix.cuts(net, plans.make([phase], list(net.blocks), "tiny"))
    table = net.reader.table([("the old song",), ("we like bread and soup",)], np.eye(2, dtype=np.float32), np.ones(2))
    x, _, _ = texts.reading(table, net.input)(np.arange(2))
    x = cut.prefix(x, training=False) if cut.prefix else x
    again = prefix.rematerialised(cut.suffix, net)
    found = []
    for model in (cut.suffix, again):
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(model(x, training=True) ** 2)
        moving = net.model.trainable_variables
        found.append([loss, *(g for g in map(tf.convert_to_tensor, tape.gradient(loss, moving)))])
    assert len(found[0]) > 10 and len(again.stages) == len(
        [b for b in net.blocks if train == "all" or b != "embeddings"]
    )
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "deberta_v3", "f_net"])
def test_a_network_of_any_family_can_be_cut_for_a_phase_and_saved(name, configured, tmp_path):
    """Its layers say how they were made: what lies below a cut is known by that, and a model file holds it."""
    from tlkeras import backbones, plans, prefix
    from tlkeras.backbones.keras_hub_text import TEXT_FAMILIES
    from tlkeras.config import Phase

    known = TEXT_FAMILIES[name]
    base = known.small()
    tokens = Tokens(length=32, vocabulary=60, masked="padding_mask" in base.input, segments="segment_ids" in base.input)
    record = backbones.Backbone(name, name, None, known.blocks, None, known.pool, opened=known.opened, kind="text")
    answer = {"classes": ["a", "b"], "multi_label": False, "threshold": 0.5}
    net = network._assemble(configure.load(configured())[0], answer, record, base, tokens, None)
    rng, real = np.random.default_rng(0), np.arange(9) < np.array([[9], [6]])
    every = {"token_ids": np.where(real, rng.integers(1, 60, (2, 9)), 0), "padding_mask": real, "segment_ids": real * 0}
    x = {k: every[k].astype("int32") for k in net.model.input}
    for train in (["head"], ["head", "blocks[-2:]"]):
        (cut,) = prefix.cuts(net, plans.make([Phase.model_validate({**TOP, "train": train})], list(net.blocks), name))
        out = cut.suffix(cut.prefix(x, training=False), training=False)
        np.testing.assert_allclose(out, net.model(x, training=False), rtol=1e-5, atol=1e-6)
    net.model.save(tmp_path / "model.keras")


@pytest.mark.parametrize("task", ["text-classification", "masked-lm", "causal-lm", "token-classification"])
def test_nothing_need_be_held_out(task, reader, tiny_bert, tiny_gpt2):
    made = reader(task, tiny_gpt2 if task == "causal-lm" else tiny_bert)
    none = [] if task == "token-classification" else np.zeros((0, 2), np.float32)
    assert len(made.table([], none, np.zeros(0, np.float32))) == 0


# --- Sources


def read(path=None, task="text-classification", **section):
    return sources.read(Data(path=path and str(path), **section), texts=tasks.wanted(task))


def refused(match, path=None, task="text-classification", **section):
    with pytest.raises(errors.DataError, match=match) as caught:
        read(path, task, **section)
    return str(caught.value)


ROWS = [
    ("we like bread, and soup", "food", "7"),
    ('the "old" song', "music", "1"),
    ("a naïve 漢字 race 🏃", "sport", "3"),
]


def as_csv(path, mark=","):
    import csv

    with path.open("w", encoding="utf8", newline="") as f:
        rows = csv.writer(f, delimiter=mark)
        rows.writerows([("text", "label", "stars"), *ROWS])
    return path


def as_parquet(path):
    import pyarrow
    import pyarrow.parquet

    t, c, s = zip(*ROWS, strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": t, "label": c, "stars": [int(x) for x in s]}), path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "T.CSV"])
def test_every_table_gives_the_same_samples(name, tmp_path):
    path = tmp_path / name
    if name.endswith("jsonl"):
        records(path, [{"text": t, "label": c, "stars": int(s)} for t, c, s in ROWS])
    elif name.endswith("parquet"):
        as_parquet(path)
    else:
        as_csv(path, "\t" if "tsv" in name else ",")
    found = read(path)
    assert found.inputs == [(t,) for t, _, _ in ROWS] and found.labels == [c for _, c, _ in ROWS]
    assert found.splits == found.groups == [None] * 3 and len(set(found.ids)) == 3
    # Other columns are left alone, and numbers are labels as they are written.
    assert read(path, label="stars").labels == [s for _, _, s in ROWS]


def test_splits_and_groups_come_from_columns(tmp_path):
    path = write(tmp_path / "t.csv", "text,label,part,who\na,x,Train,p1\nb,x,validation,\nc,x,,p1\n")
    found = read(path, split="part", group="who")
    assert found.splits == ["train", "val", None] and found.groups == ["p1", None, "p1"]
    path.write_text(path.read_text().replace("validation", "dev"))
    refused("line 3: split 'dev' is not train, val or test", path, split="part")


def test_pairs_come_from_two_columns(tmp_path):
    path = write(tmp_path / "t.csv", "id,premise,hypothesis,label\n1,a b,c,yes\n2,d,e f,no\n")
    assert read(path, text=["premise", "hypothesis"]).inputs == [("a b", "c"), ("d", "e f")]
    assert read(path, "sentence-embedding", text=["premise", "hypothesis"]).labels == ["", ""]
    refused("data.text must name 2 columns for this task, such as", path, "question-answering", text="premise")
    for task in ("masked-lm", "causal-lm", "token-classification", "seq2seq"):
        # A second text that such a task does not look at would be lost without a word.
        refused("one column", path, task, text=["premise", "hypothesis"])


def test_missing_columns_are_named_with_the_nearest(tmp_path):
    path = write(tmp_path / "t.csv", "txt,lable\na,x\n")
    said = refused("there is no column", path)
    assert "'text', 'label'. Did you mean txt? It has: txt, lable. Name columns with data.text and data.label." in said
    assert "Did you mean lable?" in refused("no column 'label'", path, text="txt")
    refused("no column 'who'", path, text="txt", label="lable", group="who")
    assert read(path, "masked-lm", text="txt").labels == [""], "no label is asked of a language model"


def test_a_folder_of_classes_of_texts(tmp_path):
    for name in (
        "pos/1.txt",
        "pos/deep/2.txt",
        "neg/1.txt",
        "two words 🌸/x y.TXT",
        "pos/.hidden.txt",
        "pos/image.png",
    ):
        write(tmp_path / "d" / name, f"\ufeffa text\nof {name}")
    write(tmp_path / "d" / "loose.txt", "x")
    found = read(tmp_path / "d")
    assert dict(zip(found.ids, found.labels, strict=True)) == {
        "pos/1.txt": "pos", "pos/deep/2.txt": "pos", "neg/1.txt": "neg", "two words 🌸/x y.TXT": "two words 🌸",
    }  # fmt: skip
    assert found.inputs[found.ids.index("neg/1.txt")] == ("a text\nof neg/1.txt",)
    assert found.ignored == {"not in a class folder": 1} and found.splits == [None] * 4
    assert len(read(tmp_path / "d", "masked-lm")) == 5, "without labels every text counts"
    (tmp_path / "empty").mkdir()
    refused(r"expected class folders with texts in them \(CLASS/\*.txt\); found 0 texts", tmp_path / "empty")


def test_folders_called_like_splits_state_the_splits(tmp_path):
    for name in ("train/pos/1", "train/neg/1", "Validation/pos/1", "test/neg/1", "test/readme", "unsup/1"):
        write(tmp_path / f"{name}.txt", "x")
    found = read(tmp_path)
    assert sorted(zip(found.ids, found.labels, found.splits, strict=True)) == [
        ("Validation/pos/1.txt", "pos", "val"), ("test/neg/1.txt", "neg", "test"),
        ("train/neg/1.txt", "neg", "train"), ("train/pos/1.txt", "pos", "train"),
    ]  # fmt: skip
    assert found.ignored == {"not in a class folder": 2}, "what lies in no split is no class beside the splits"


@pytest.mark.parametrize("key", [{"group": "who"}, {"split": "part"}, {"label": "class"}, {"text": "body"}])
def test_columns_asked_of_what_has_none_are_refused(tmp_path, key):
    write(tmp_path / "d" / "pos" / "1.txt", "x")
    refused(f"data.{next(iter(key))} name columns of a table", tmp_path / "d", **key)
    path = write(tmp_path / "dev.json", json.dumps(SQUAD))
    key = {"text": ["question", "context"]} if "text" in key else key
    refused(f"data.{next(iter(key))} name columns of a table", path, "question-answering", **key)


SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "Soup",
            "paragraphs": [
                {
                    "context": "  We like soup.",
                    "qas": [
                        {"id": 7, "question": "what?", "answers": [{"text": "soup", "answer_start": 10}]},
                        {"id": "b", "question": "who?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "No.", "qas": [{"id": "c", "question": "why?", "answers": []}]},
            ],
        }
    ],
}


def test_squad_json(tmp_path):
    found = read(write(tmp_path / "dev.json", json.dumps(SQUAD)), "question-answering")
    assert found.ids == ["7", "b", "c"] and found.groups == ["0.0", "0.0", "0.1"]
    assert found.inputs == [("what?", "  We like soup."), ("who?", "  We like soup."), ("why?", "No.")]
    assert found.labels[0] == {"text": ["soup"], "answer_start": [10]} and found.labels[1]["text"] == []
    rows, answer = question_answering.targets(found.labels, question_answering.Options())
    assert answer["unanswerable"] and rows[0] == found.labels[0]
    refused("which the task question-answering reads", tmp_path / "dev.json")


@pytest.mark.parametrize(
    "text",
    ['{"data": [{', "[1, 2]", "{}", '{"data": 3}', '{"data": [{"paragraphs": [{"context": "a", "qas": [{}]}]}]}', "[" * 5000,
     '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1, "question": null}]}]}]}',
     '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "\\ud800", "question": "q"}]}]}]}'],
    ids=["cut", "list", "empty", "number", "no question", "deep", "null", "half an id"],
)  # fmt: skip
def test_damaged_json_is_refused(tmp_path, text):
    refused(r"x.json: not in SQuAD's form", write(tmp_path / "x.json", text), "question-answering")


def value(dtype="string"):
    return {"dtype": dtype, "_type": "Value"}


NEG_POS = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def saved(folder, columns, features, parts=1):
    """A dataset as Hugging Face's save_to_disk lays it down."""
    import pyarrow

    folder.mkdir(parents=True, exist_ok=True)
    table, names = pyarrow.table(columns), []
    for k in range(parts):
        names.append(f"data-{k:05d}-of-{parts:05d}.arrow")
        rows = table.slice(k * len(table) // parts, (k + 1) * len(table) // parts - k * len(table) // parts)
        with (folder / names[-1]).open("wb") as f, pyarrow.ipc.new_stream(f, rows.schema) as stream:
            stream.write_table(rows)
    state = {"_data_files": [{"filename": n} for n in names], "_fingerprint": "0", "_format_type": None, "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features, "license": ""}))
    return folder


def test_a_dataset_that_hugging_face_saved(tmp_path):
    features = {"text": value(), "label": NEG_POS, "stars": value("float32")}
    columns = {"text": ["a b", "c", "d"], "label": [0, 1, 1], "stars": [0.5, 1.0, None]}
    found = read(saved(tmp_path / "one", columns, features, parts=2))
    assert found.inputs == [("a b",), ("c",), ("d",)] and found.labels == ["neg", "pos", "pos"]
    assert read(tmp_path / "one", label="stars").labels == ["0.5", "1.0", ""]
    assert "Did you mean text?" in refused("no column 'txt'", tmp_path / "one", text="txt")


def test_the_splits_of_a_saved_dataset(tmp_path):
    features = {"text": value(), "label": NEG_POS}
    for name, label in (("train", 0), ("validation", 1), ("test", 1), ("unsupervised", -1)):
        saved(tmp_path / name, {"text": [f"of {name}", f"more {name}"], "label": [label, label]}, features)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test", "unsupervised"]}))
    found = read(tmp_path)
    assert found.splits == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert found.labels == ["neg"] * 2 + ["pos"] * 4, "-1 stands for a label that is kept secret"
    assert len(set(found.ids)) == 6 and found.inputs[2] == ("of validation",)
    assert found.ignored == {"without a label": 2}
    assert len(read(tmp_path, "masked-lm")) == 8


@pytest.mark.parametrize(
    "form", [lambda f: {"feature": f, "_type": "Sequence"}, lambda f: [f]], ids=["Sequence", "list"]
)
def test_lists_of_a_saved_dataset(tmp_path, form):
    features = {"tokens": form(value()), "tags": form({"names": ["O", "B-X"], "_type": "ClassLabel"})}
    saved(tmp_path, {"tokens": [["the", "soup"], ["a"]], "tags": [[0, 1], [0]]}, features)
    found = read(tmp_path, "token-classification", text="tokens", label="tags")
    assert found.inputs == [("the soup",), ("a",)] and found.labels == [["O", "B-X"], ["O"]]


def test_answers_of_a_saved_dataset(tmp_path):
    inner = {"text": value(), "answer_start": value("int32")}
    features = {"question": value(), "context": value(), "answers": {"feature": inner, "_type": "Sequence"}}
    answers = [{"text": ["soup"], "answer_start": [8]}, {"text": [], "answer_start": []}]
    saved(tmp_path, {"question": ["q", "r"], "context": ["We like soup", "No"], "answers": answers}, features)
    found = read(tmp_path, "question-answering", label="answers")
    assert question_answering.targets(found.labels, question_answering.Options())[0] == answers


def test_a_damaged_saved_dataset_is_refused(tmp_path):
    good = saved(tmp_path / "good", {"text": ["a"], "label": [0]}, {"text": value(), "label": NEG_POS})
    arrow = next(good.glob("*.arrow"))
    for name, text in (
        (arrow.name, arrow.read_bytes()[:40]),
        ("state.json", "{"),
        ("state.json", "{}"),
        ("state.json", json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]})),
        ("state.json", json.dumps({"_data_files": [{"filename": "missing.arrow"}]})),
        ("state.json", json.dumps({"_data_files": []})),
        ("dataset_info.json", "[not json"),
    ):
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        write(bad / name, text)
        refused("not a dataset as Hugging Face's save_to_disk writes it", bad)
    for text in ('{"splits": ', "{}", '{"splits": ["nowhere"]}'):
        write(tmp_path / "dict" / "dataset_dict.json", text)
        refused("dict", tmp_path / "dict")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a small TensorFlow dataset of texts."""
    import tensorflow_datasets as tfds

    f = tfds.features

    class TinyTexts(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "text": f.Text(), "label": f.ClassLabel(names=["neg", "pos"]), "who": f.Text(), "stars": f.Scalar(np.float32),
                "tokens": f.Sequence(f.Text()), "tags": f.Sequence(f.ClassLabel(names=["O", "B-X"])),
                "question": f.Text(), "answers": f.Sequence({"text": f.Text(), "answer_start": np.int32}),
            }  # fmt: skip
            return tfds.core.DatasetInfo(builder=self, features=f.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            parts = {"train": (0, 6), "validation": (6, 8), "unsupervised": (8, 10)}
            return {name: self._generate_examples(*part) for name, part in parts.items()}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield (
                    str(i),
                    {
                        "text": f"a naïve text {i}", "label": -1 if i >= 8 else i % 2, "who": f"p{i % 3}", "stars": i / 2,
                        "tokens": ["naïve", "text"], "tags": [0, i % 2], "question": "which?",
                        "answers": {"text": ["naïve"] * (i % 3), "answer_start": [2] * (i % 3)},
                    },
                )  # fmt: skip

    builder = TinyTexts(data_dir=str(tmp_path_factory.mktemp("tfds")))
    builder.download_and_prepare()
    return str(builder.data_path)


def test_a_tensorflow_dataset(prepared):
    found = read(tfds=prepared)
    assert sorted(zip(found.splits, found.inputs, found.labels, strict=True)) == sorted(
        ("train" if i < 6 else "val", (f"a naïve text {i}",), ["neg", "pos"][i % 2]) for i in range(8)
    )
    assert found.ignored == {"without a label": 2}
    assert len(read(task="masked-lm", tfds=prepared)) == 10, "without labels every text counts"
    assert sorted(read(task="text-regression", tfds=prepared, label="stars").labels)[:2] == ["0.0", "0.5"]
    tags = read(task="token-classification", tfds=prepared, text="tokens", label="tags")
    assert set(tags.inputs) == {("naïve text",)} and set(map(tuple, tags.labels)) == {("O", "O"), ("O", "B-X")}
    assert "Did you mean text?" in refused("has no feature 'txt'", tfds=prepared, text="txt")
    assert set(read(tfds=prepared, group="who").groups) == {"p0", "p1", "p2"}


def test_answers_of_a_tensorflow_dataset(prepared):
    found = read(task="question-answering", tfds=prepared, text=["question", "text"], label="answers")
    rows, _ = question_answering.targets(found.labels, question_answering.Options())
    assert sorted(len(r["text"]) for r in rows) == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(r == {"text": ["naïve"] * len(r["text"]), "answer_start": [2] * len(r["text"])} for r in rows)


def test_what_is_not_there_or_no_text_is_told(tmp_path):
    write(tmp_path / "topics.csv", "text,label\na,x\n")
    assert "Did you mean topics.csv?" in refused("there is no such file or folder", tmp_path / "topic.csv")
    refused("texts come in a .csv, .tsv, .jsonl, .parquet table", write(tmp_path / "t.xlsx", "x"))


# --- Bad input: told in full, nothing lost


def collected(path, task="text-classification", run=None, **section):
    """The samples of a source as a run holds them."""
    module, wanted = tasks.get(task), tasks.wanted(task)
    section = Data(path=str(path), **section)
    return data.collect(section, module, module.Options(), Progress(True), run=run, texts=wanted)


GOOD = [{"text": f"{a} {b}", "label": c} for c in ("food", "music") for a in WORDS[c][:4] for b in WORDS[c][4:]]
BAD = {
    "an empty text": "",
    "empty text": " \t\n\u00a0\u3000",
    "NUL character": "a\0b",
    r"half of a character \(a lone surrogate\)": "a \ud83c b",
    "10,000,001 characters; one text has at most": "x" * 10_000_001,
}


def test_texts_that_cannot_be_used_are_all_named(tmp_path):
    path = records(tmp_path / "t.jsonl", [*GOOD, *({"text": t, "label": "food"} for t in BAD.values())])
    with pytest.raises(errors.DataError) as caught:
        collected(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 of 37 texts cannot be used:" and "data.on_bad: skip" in lines[-1]
    import re

    for n, (line, why) in enumerate(zip(lines[1:], BAD, strict=False), len(GOOD) + 1):
        assert line.startswith(f"  line {n}: ") and re.search(why, line)


def test_texts_that_are_left_out_are_listed_in_the_data_report(tmp_path):
    path = records(tmp_path / "t.jsonl", [*GOOD, *({"text": t, "label": "food"} for t in BAD.values())])
    run = runs.create(tmp_path / "run")
    held = collected(path, run=run, on_bad="skip")
    report = read_json(run.data_report)
    assert len(held.ids) == report["used"] == 32 and report["found"] == 37
    assert [s["file"] for s in report["skipped"]] == [f"line {n}" for n in range(33, 38)]
    assert held.inputs == [(g["text"],) for g in GOOD]


def test_one_of_a_pair_that_is_empty_is_told(tmp_path):
    rows = [{"a": g["text"], "b": "" if n == 3 else "x", "label": g["label"]} for n, g in enumerate(GOOD)]
    with pytest.raises(errors.DataError, match="line 4: an empty text"):
        collected(records(tmp_path / "t.jsonl", rows), text=["a", "b"])


def test_bytes_that_are_no_utf8_are_told_with_file_and_line(tmp_path):
    for name in ("t.csv", "t.tsv", "t.jsonl"):
        path = write(tmp_path / name, b"text,label\na,x\ncaf\xe9,x\n")
        refused(rf"{name}:3: text must be UTF-8; byte 18 \(0xe9\)", path)
        refused(rf"{name}:2: a NUL character", write(path, "text,label\na\0,x\n"))
        refused("UTF-16", write(path, "text,label\na,x\n".encode("utf-16")))
    refused(r"x.json:1: text must be UTF-8", write(tmp_path / "x.json", b"{\xff}"), "question-answering")


def test_a_file_of_a_folder_that_cannot_be_read_is_one_bad_text(tmp_path):
    for g, n in zip(GOOD, range(99), strict=False):
        write(tmp_path / "d" / g["label"] / f"{n}.txt", g["text"])
    write(tmp_path / "d" / "food" / "latin.txt", b"good\ncaf\xe9")
    write(tmp_path / "d" / "music" / "nul.txt", "a\0b")
    (tmp_path / "d" / "music" / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d" / "music" / "folder.txt").mkdir()
    with pytest.raises(errors.DataError) as caught:
        collected(tmp_path / "d")
    said = str(caught.value)
    assert "food/latin.txt" in said and ":2: text must be UTF-8" in said and "music/nul.txt" in said, said
    assert "music/gone.txt" in said
    run = runs.create(tmp_path / "run")
    held = collected(tmp_path / "d", run=run, on_bad="skip")
    assert len(held.ids) == len(GOOD)
    skipped = {s["file"] for s in read_json(run.data_report)["skipped"]}
    assert skipped == {"food/latin.txt", "music/nul.txt", "music/gone.txt"}


def test_json_lines_that_are_damaged_or_differ_are_told(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n\n{"text": "b"}\n{"text": "c", "label": "x", "more": 1}\n')
    said = refused("every line needs the keys of the first; missing or too much", path)
    assert "line 3: label" in said and "line 4: more" in said
    for text, match in (
        ('{"text": "a", "label": "x"}\n{"text": "b", \n', r"t.jsonl:2: not one JSON object"),
        ('["a", "x"]\n', r"t.jsonl:1: every line must be a JSON object"),
        ('{"text": "a"} {"text": "b"}\n', r"t.jsonl:1: not one JSON object"),
        ("\n \n", "there is no line in it"),
        ("[" * 5000 + "\n", "t.jsonl:1: not one JSON object"),
    ):
        path.write_text(text)
        refused(match, path)
    records(path, [{"text": {"en": "a"}, "label": "x"}, {"text": [1, ["a"]], "label": "x"}])
    assert "line 1: 'text' holds a record" in refused("cannot be used", path)


@pytest.mark.parametrize("cell", [{"a": 1}, [["x"]]], ids=["record", "lists"])
@pytest.mark.parametrize("column", ["label", "who"])
def test_a_label_or_group_that_is_no_text_is_told(tmp_path, column, cell):
    path = records(tmp_path / "t.jsonl", [{"text": g["text"], "label": "x", "who": "p", column: cell} for g in GOOD])
    with pytest.raises(errors.DataError):
        collected(path, group="who")


@pytest.mark.parametrize("column", ["label", "who"])
def test_half_a_character_in_a_label_or_group_is_told(tmp_path, column, configured):
    rows = [{**g, "who": f"p{n}"} for n, g in enumerate(GOOD)]
    for row in rows[:6]:
        row[column] = "\ud800" + row[column]
    config = configured(data={"path": str(records(tmp_path / "t.jsonl", rows)), "group": "who"})
    with pytest.raises(errors.DataError, match="half of a character"):
        tlkeras.train(config, tmp_path / "run", quiet=True)


def test_a_plan_refuses_texts_that_training_would_refuse(tmp_path, configured):
    rows = [*GOOD, {"text": "a \ud800", "label": "food"}, {"text": " ", "label": "food"}]
    with pytest.raises(errors.DataError, match="half of a character"):
        tlkeras.plan(configured(data={"path": str(records(tmp_path / "t.jsonl", rows))}))


def test_one_class_only_is_refused(tmp_path):
    with pytest.raises(errors.DataError, match="at least two classes; the data has 1: food"):
        collected(records(tmp_path / "t.jsonl", [g for g in GOOD if g["label"] == "food"]))
    with pytest.raises(errors.DataError, match="1 have an empty label"):
        collected(records(tmp_path / "t.jsonl", [*GOOD, {"text": "x", "label": None}]))


def test_answers_must_stand_where_they_say(reader, tiny_bert):
    made = reader("question-answering", tiny_bert)
    for answer, match in (
        ({"text": ["soup"], "answer_start": [0]}, "'We l' stands at 0, not 'soup'"),
        ({"text": ["soup"], "answer_start": [99]}, "stands at 99, not 'soup'"),
    ):
        with pytest.raises(errors.DataError, match=match):
            made.table([("what?", "We like soup")], [answer], np.ones(1))
    for label in (
        {"text": ["a"]},
        {"text": ["a"], "answer_start": [1, 2]},
        "soup",
        {"text": ["a"], "answer_start": ["x"]},
    ):
        with pytest.raises(errors.DataError, match="sample 2: "):
            question_answering.targets([{"text": [], "answer_start": []}, label], question_answering.Options())


def test_tags_must_be_as_many_as_the_words(reader, tiny_bert):
    made = reader("token-classification", tiny_bert)
    with pytest.raises(errors.DataError, match="2 words and 3 tags: the soup"):
        made.table([("a",), ("the soup",)], [np.array([0]), np.array([0, 1, 1])], np.ones(2))
    for label in ({"a": "O"}, [["O"]], [{"a": "O"}]):
        with pytest.raises(errors.DataError, match="Tags are a list of texts"):
            token_classification.targets([["O"], label], token_classification.Options())
    with pytest.raises(errors.DataError, match="Every word needs a tag; samples without: 2"):
        token_classification.targets([["O"], ["O", ""]], token_classification.Options())
    with pytest.raises(errors.DataError, match="B-PRE.*Did you mean B-PER"):
        token_classification.targets([["B-PRE"]], token_classification.Options(), ["O", "B-PER"])


LONG = {
    "words": "bread soup with cheese and the old piano " * 25_000,
    "one letter": "x" * 1_000_000,
    "ideographs": "漢字。" * 120_000,
}


@pytest.mark.parametrize("preset", ["tiny_bert", "tiny_gpt2"])
def test_a_megabyte_of_text_is_cut_off_in_seconds(reader, preset, request):
    made = reader("text-classification", request.getfixturevalue(preset))
    started = time.monotonic()
    for text in LONG.values():
        table = made.table([(text,), ("a song",)], np.zeros((2, 2), np.float32), np.ones(2))
        # A BERT takes what it does not know for one token, however long.
        assert table.lengths[0] == (3 if text.isalpha() and preset == "tiny_bert" else made.tokens.length)
        assert table.lengths[1] < 12
        assert ("may be cut off" in texts.lengths(table, made.tokens)) == (table.lengths[0] > 3)
    assert time.monotonic() - started < 60


def test_one_unbroken_run_of_letters_does_not_hold_up_its_neighbours(reader, tiny_gpt2):
    """Such as data in base64: a byte-pair tokenizer merges in all words of a call until it has done the longest."""
    made = reader("text-classification", tiny_gpt2)
    rng = np.random.default_rng(0)

    def drawn(n, most):
        return ["".join(rng.choice(list("breadsoup"), most)) + f" {i}" for i in range(n)]

    def seconds(given):
        began = time.process_time()
        made.ids(given)
        return time.process_time() - began

    made.ids(["a"])
    apart = seconds([" ".join(drawn(10, 9)) for _ in range(500)]) + seconds(drawn(1, 1500))
    together = seconds([*(" ".join(drawn(10, 9)) for _ in range(500)), *drawn(1, 1500)])
    assert together < 2 * apart + 1, f"{together:.1f} s together, {apart:.1f} s apart"


def test_ideographs_between_marks_are_no_unbroken_run(reader, tiny_gpt2):
    """Texts without blanks are tokenised many at a time too."""
    made = reader("text-classification", tiny_gpt2)
    calls, whole = [], made._tokenise
    made.__dict__["_tokenise"] = lambda given: calls.append(len(given)) or whole(given)
    made.ids(["。".join(["我們喜歡麵包和湯" * 3] * 10)] * 50)
    assert calls == [50]


def test_texts_keep_their_order_whatever_is_tokenised_together(reader, tiny_gpt2):
    made = reader("text-classification", tiny_gpt2)
    given = ["bread", "z" * 300, "", "the old song", "." * 200, "a"]
    found = made.ids(given)
    assert [row.tolist() for row in found.rows()] == [made.ids([t])[0].tolist() for t in given]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "d/food/long.txt"])
def test_a_megabyte_of_text_is_read(tmp_path, name):
    text = "bread soup with cheese and the old piano " * 25_000
    path = tmp_path / name
    if name.endswith("jsonl"):
        records(path, [{"text": text, "label": "food"}])
    elif name.endswith("txt"):
        path = write(path, text).parent.parent
    else:
        mark = "\t" if "tsv" in name else ","
        write(path, f"text{mark}label\n{text}{mark}food\n")
    found = read(path)
    assert found.inputs[0][0].strip() == text.strip() and found.labels == ["food"]


def test_a_vocabulary_that_does_not_match_the_weights_is_refused(tmp_path, tiny_bert, configured):
    import keras_hub

    preset = shutil.copytree(tiny_bert, tmp_path / "preset")
    old = keras_hub.tokenizers.BertTokenizer.from_preset(str(preset))
    words = [*old.get_vocabulary(), "further", "words"]
    keras_hub.tokenizers.BertTokenizer(vocabulary=words, lowercase=True).save_to_preset(str(preset))
    said = rf"{len(words)} ids, the network {len(words) - 2} embeddings: they do not belong together"
    with pytest.raises(errors.ModelError, match=said):
        tlkeras.train(configured(preset=preset), tmp_path / "run", quiet=True)


def test_copies_of_a_text_stay_in_one_split(tmp_path):
    forms = ["Bread  SOUP {}", "bread soup {}", "BREAD\u00a0soup\t{} ", "\n bread\nsoup {}", "other {}"]
    rows = [{"text": f.format(i), "label": "xy"[i % 2]} for i in range(30) for f in forms]
    held = collected(records(tmp_path / "t.jsonl", rows))
    where: dict[str, set] = {}
    for (text,), split in zip(held.inputs, held.splits, strict=True):
        where.setdefault(" ".join(text.lower().split()), set()).add(split)
    assert len(where) == 60 and all(len(s) == 1 for s in where.values())
    assert {s for found in where.values() for s in found} == {"train", "val", "test"}


def test_copies_of_a_pair_stay_in_one_split_and_halves_do_not_bind(tmp_path):
    rows = [{"a": f"{x} {i}", "b": "the same", "label": "xy"[i % 2]} for i in range(30) for x in ("Soup", "soup")]
    held = collected(records(tmp_path / "t.jsonl", rows), text=["a", "b"])
    pairs = list(zip(held.splits[::2], held.splits[1::2], strict=True))
    assert all(a == b for a, b in pairs) and len({a for a, _ in pairs}) == 3


# --- Language models


def masked(made, rows, rate=0.15, key=(0, 0)):
    """(token ids before, inputs after, targets, weights) of a batch of sentences whose tokens are masked."""
    table = made.table(rows, np.zeros((len(rows), 1), np.float32), np.ones(len(rows)))
    x, y, w = texts.reading(table, made.tokens)(np.arange(len(table)))
    change = masked_lm.change(made, masked_lm.Options(rate=rate))
    after, targets, weights_ = change(x, y, w, np.array(key, np.int64))
    return x["token_ids"].numpy(), {k: v.numpy() for k, v in after.items()}, targets.numpy(), weights_.numpy()


@pytest.fixture
def sentences():
    return [(" ".join(sentence(t, 7 * i + k) for k in range(3)),) for t in WORDS for i in range(150)]


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_masks_hit_real_tokens_at_the_rate_that_was_asked_for(reader, tiny_bert, sentences, rate):
    made = reader("masked-lm", tiny_bert)
    before, x, targets, w = masked(made, sentences, rate)
    special = [*made.tokens.start, *made.tokens.end, made.tokens.pad]
    free = ~np.isin(before, special)
    assert (w.sum(1) == np.maximum(np.round(np.float32(rate) * free.sum(1).astype(np.float32)), 1)).all()
    rows = np.repeat(np.arange(len(before))[:, None], w.shape[1], 1)
    hit = np.zeros_like(before)
    np.add.at(hit, (rows[w > 0], x["mask_positions"][w > 0]), 1)
    assert hit.max() == 1 and not hit[~free].any(), "each token once, and no special one"
    true = before[rows, x["mask_positions"]]
    assert (targets[w > 0] == true[w > 0]).all()
    assert (x["token_ids"][hit == 0] == before[hit == 0]).all(), "nothing else is changed"
    now, was = x["token_ids"][hit == 1], before[hit == 1]
    n, mask = len(now), now == made.tokens.mask
    assert n > 1000 and abs(mask.mean() - 0.8) < 4 * np.sqrt(0.16 / n)
    assert abs((now == was).mean() - 0.1) < 0.01 + 4 * np.sqrt(0.09 / n)
    other = now[~mask & (now != was)]
    assert abs(len(other) / n - 0.1) < 0.01 + 4 * np.sqrt(0.09 / n)
    assert len(set(other.tolist())) > 30 and other.max() < made.tokens.vocabulary


def test_another_key_masks_other_tokens_and_the_same_the_same(reader, tiny_bert, sentences):
    made = reader("masked-lm", tiny_bert)
    _, a, _, _ = masked(made, sentences[:20])
    _, again, _, _ = masked(made, sentences[:20])
    _, other, _, _ = masked(made, sentences[:20], key=(0, 1))
    assert all((a[k] == again[k]).all() for k in a)
    assert (a["token_ids"] != other["token_ids"]).any(1).mean() > 0.9


def test_a_row_of_special_tokens_alone_is_asked_nothing(reader, tiny_bert):
    _, _, _, w = masked(reader("masked-lm", tiny_bert), [("",), ("the soup",)])
    assert w.sum(1).tolist() == [0, 1]


def test_masks_are_drawn_anew_every_epoch_and_are_those_of_a_run_from_the_start(reader, tiny_bert, sentences):
    made = reader("masked-lm", tiny_bert)
    table = made.table(sentences[:40], np.zeros((40, 1), np.float32), np.ones(40))
    change = masked_lm.change(made, masked_lm.Options())

    def stream(first, last):
        found = texts.training(table, made.tokens, 8, 3, first, last, change=change)
        return [{k: v.numpy() for k, v in x.items()} for x, _, _ in found]

    whole, late = stream(0, 3), stream(2, 3)
    assert all((a[k] == b[k]).all() for a, b in zip(whole[10:], late, strict=True) for k in a)
    first, second = ({tuple(r) for x in whole[i : i + 5] for r in x["token_ids"].tolist()} for i in (0, 5))
    assert len(first & second) < 10
    held = [[x["token_ids"].numpy() for x, _, _ in texts.held_out(table, made.tokens, 8, change)] for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*held, strict=True)), "held-out texts are always masked alike"


def test_a_tokenizer_without_a_mask_is_refused(reader, tiny_gpt2):
    with pytest.raises(errors.ConfigError, match="needs a tokenizer with a mask token"):
        masked_lm.change(reader("masked-lm", tiny_gpt2), masked_lm.Options())


@pytest.mark.parametrize("task, preset", [("causal-lm", "tiny_gpt2"), ("masked-lm", "tiny_bert")])
def test_long_texts_are_cut_into_rows_and_no_token_is_lost(reader, task, preset, request, sentences):
    made = reader(task, request.getfixturevalue(preset), length=16)
    given = [(" ".join(s for (s,) in sentences[:n]),) for n in (1, 4, 9)] + [("a",)]
    table = made.table(given, np.zeros((4, 1), np.float32), np.ones(4))
    start, end = list(made.tokens.start), list(made.tokens.end)
    rows = table.inputs["token_ids"]
    for n, (text,) in enumerate(given):
        own = [rows[i].tolist() for i in np.flatnonzero(table.owners == n)]
        assert all(r[: len(start)] == start and r[-len(end) :] == end and len(r) <= 16 for r in own)
        assert all(len(r) == 16 for r in own[:-1])
        assert sum((r[len(start) : -len(end)] for r in own), []) == made.ids([text])[0].tolist()


def test_the_target_of_a_token_is_the_next(reader, tiny_gpt2, sentences):
    made = reader("causal-lm", tiny_gpt2, length=16)
    table = made.table(sentences[:5], np.zeros((5, 1), np.float32), np.ones(5))
    x, y, w = (texts.reading(table, made.tokens))(np.arange(len(table)))
    ids_, mask, y, w = x["token_ids"].numpy(), x["padding_mask"].numpy(), y.numpy(), w.numpy()
    assert (w[:, :-1] == mask[:, 1:]).all() and not w[:, -1].any()
    assert (y[:, :-1][w[:, :-1] > 0] == ids_[:, 1:][w[:, :-1] > 0]).all()
    raw = np.full((*y.shape, made.tokens.vocabulary), -20.0, np.float32)
    np.put_along_axis(raw, y[..., None], 20.0, -1)
    judged = causal_lm.judged(raw, y, w).numpy()
    assert (judged[:, 1] == w.sum(1)).all() and (judged[:, 2] == w.sum(1)).all() and np.abs(judged[:, 0]).max() < 1e-3


# --- Questions and tags


def contexts():
    """(question, context, answer as SQuAD has it), contexts of one to eight sentences with all kinds of marks."""
    rng = np.random.default_rng(5)
    marks = [". ", ", ", "; ", " - ", "!\n", " (", ")\t", "'s ", "... "]
    for i in range(30):
        context = ""
        for k in range(int(rng.integers(1, 8))):
            context += sentence(list(WORDS)[k % 3], 100 * i + k) + str(rng.choice(marks))
        words = [m.span() for m in question_answering.WORD.finditer(context)]
        first = int(rng.integers(0, len(words) - 3))
        begin, end = words[first][0], words[first + int(rng.integers(0, 3))][1]
        yield "the old team", context, {"text": [context[begin:end]], "answer_start": [begin]}


@pytest.mark.parametrize("preset, length", [("tiny_bert", 20), ("tiny_gpt2", 32), ("tiny_bert", None)])
def test_the_answer_stands_in_every_window_that_holds_it(reader, preset, length, request):
    made = reader(
        {"name": "question-answering", "stride": 8}, request.getfixturevalue(preset), **({"length": length} if length else {})
    )  # fmt: skip
    asked = list(contexts())
    table = made.table([(q, c) for q, c, _ in asked], [a for _, _, a in asked], np.ones(len(asked)))
    assert table.lengths.max() <= made.tokens.length
    assert length is None or np.bincount(table.owners).max() > 3
    seen: dict[int, set] = {}
    for i, ((context, offset, places), (first, last)) in enumerate(zip(table.spans, table.targets, strict=True)):
        n = int(table.owners[i])
        begin = asked[n][2]["answer_start"][0]
        gold = asked[n][2]["text"][0]
        assert context == asked[n][1]
        seen.setdefault(n, set()).update(places)
        here = [j for j, (b, e) in enumerate(places) if b >= begin and e <= begin + len(gold)]
        covered = "".join(context[slice(*places[j])] for j in dict.fromkeys(here))
        if first:
            assert (first, last) == (offset + here[0], offset + here[-1])
            assert context[places[int(first) - offset][0] : places[int(last) - offset][1]] == gold
        else:
            whole = {places[j] for j in here} == {
                m.span() for m in question_answering.WORD.finditer(context) if begin <= m.start() < begin + len(gold)
            }
            assert not whole, f"{gold!r} is whole in this window: {covered!r}"
    for n, (_, context, _) in enumerate(asked):
        words = [m.span() for m in question_answering.WORD.finditer(context)]
        assert seen[n] >= {w for w in words if len(made.ids([context[slice(*w)]])[0])}, "no word is in no window"
    learnt = np.unique(table.owners[table.targets[:, 0] > 0])
    assert len(learnt) > 0.9 * len(asked)


def test_the_best_span_over_all_windows_is_the_answer(reader, tiny_bert):
    made = reader({"name": "question-answering", "stride": 8}, tiny_bert, length=20)
    asked = list(contexts())
    table = made.table([(q, c) for q, c, _ in asked], [a for _, _, a in asked], np.ones(len(asked)))
    rows = []
    for i, ends in enumerate(table.targets.astype(int)):
        row = np.full((2, 20), -9.0)
        row[[0, 1], ends] = -0.1
        rows.append(row + 0.01 * np.random.default_rng(i).random(row.shape))
    for unanswerable in (False, True):
        answer = {"unanswerable": unanswerable, "max_answer": 30, "n_best": 3}
        found = question_answering.gather(rows, table, answer)
        assert len(found) == len(asked)
        if unanswerable:
            continue
        for n in np.unique(table.owners[table.targets[:, 0] > 0]):
            got = question_answering.decode(found[n], answer)
            _, context, gold = asked[n]
            assert got["answer"] == gold["text"][0] == context[got["start"] : got["end"]]
            assert got["start"] == gold["answer_start"][0] and len(got["n_best"]) == 3


def test_a_long_question_leaves_room_for_the_context(reader, tiny_bert):
    made = reader("question-answering", tiny_bert)
    answer = {"text": ["soup"], "answer_start": [8]}
    table = made.table([("the old " * 60, "We like soup")], [answer], np.ones(1))
    assert table.lengths.max() <= made.tokens.length and table.targets.any()


def test_blanks_around_an_answer_do_not_hide_it(reader, tiny_bert):
    made = reader("question-answering", tiny_bert)
    for text, start in ((" soup", 7), ("soup ", 8), (" soup ", 7)):
        answer = {"text": [text], "answer_start": [start]}
        table = made.table([("what", "We like soup now")], [answer], np.ones(1))
        (first, last), (_, offset, places) = table.targets[0].astype(int), table.spans[0]
        assert [places[first - offset], places[last - offset]] == [(8, 12), (8, 12)]


def test_places_count_from_the_context_as_it_is_written(tmp_path, reader, tiny_bert):
    answer = {"text": ["soup"], "answer_start": [10]}
    row = {"question": "what?", "context": "  We like soup\n", "label": answer}
    found = read(records(tmp_path / "t.jsonl", [row]), "question-answering")
    made = reader("question-answering", tiny_bert)
    rows, _ = question_answering.targets(found.labels, question_answering.Options())
    assert made.table(found.inputs, rows, np.ones(1)).targets.any()


@pytest.mark.parametrize("preset", ["tiny_bert", "tiny_gpt2"])
def test_the_first_piece_of_each_word_carries_its_tag(reader, preset, request):
    made = reader("token-classification", request.getfixturevalue(preset), length=16)
    rng, every = np.random.default_rng(0), [w for words in WORDS.values() for w in words]
    # Words of one piece, of many, of more than a row holds, and of none that the vocabulary knows.
    odd = ["breadsoupxyz", "q" * 40, "3.14159", "naïve", "漢", "☃", "don't"]
    given = [[str(w) for w in rng.choice([*every, *odd], int(n))] for n in rng.integers(1, 60, 20)]
    tags = [np.arange(len(words)) for words in given]
    table = made.table([(" ".join(w),) for w in given], tags, np.ones(len(given)))
    assert table.lengths.max() <= 16
    seen: dict[int, list] = {}
    for i, (text, places, firsts) in enumerate(table.spans):
        target, ids_ = table.targets[i], table.inputs["token_ids"][i]
        n = int(table.owners[i])
        assert len(target) == len(ids_) and len(places) == len(firsts)
        assert np.flatnonzero(target >= 0).tolist() == firsts
        for (begin, end), place in zip(places, firsts, strict=True):
            word = text[begin:end]
            assert given[n][target[place]] == word
            alone = made.ids([(" " if begin else "") + word])[0]
            if len(alone):
                assert ids_[place] == alone[0]
            seen.setdefault(n, []).append(word)
    assert [seen[n] for n in range(len(given))] == given, "no word is lost or comes twice"


def test_entities_are_places_in_the_text_as_it_was_given():
    text = "the  naïve bread\tsoup"
    words = [m.span() for m in token_classification.WORD.finditer(text)]
    answer = {"classes": ["O", "B-FOOD", "I-FOOD"]}
    scores = np.eye(3)[[0, 0, 1, 2]] * 0.9
    found = token_classification.decode({"text": text, "words": words, "scores": list(scores)}, answer)
    (one,) = found["entities"]
    assert one["text"] == "bread\tsoup" == text[one["start"] : one["end"]] and one["type"] == "FOOD"
    assert found["tags"] == ["O", "O", "B-FOOD", "I-FOOD"]


# --- Runs, plans and kinds


def test_a_finished_run_is_a_backbone(configured, tmp_path, tiny_bert):
    phase = {"name": "all", "train": "all", "epochs": 1, "learning_rate": 0.01}
    adapted = tlkeras.train(
        configured(task="masked-lm", train={"batch": 16, "phases": [phase]}), tmp_path / "mlm", quiet=True
    )
    from tlkeras.evaluation import open_trained

    learnt = open_trained(adapted.folder).network.base
    preset = network.build(configure.load(configured())[0], {"classes": ["a", "b"]}).base
    config = configured("next", backbone={"name": str(adapted.folder)})
    taken = network.build(configure.load(config)[0], {"classes": ["a", "b"]}).base
    differ = 0
    for new, old, before in zip(taken.weights, learnt.weights, preset.weights, strict=True):
        if not new.path.startswith("pooled"):  # which no task uses
            assert (new.numpy() == old.numpy()).all()
            differ += not (new.numpy() == before.numpy()).all()
    assert differ > 30
    run = tlkeras.train(config, tmp_path / "next", quiet=True)
    # The run stands on its own.
    shutil.rmtree(adapted.folder)
    assert 0 <= tlkeras.evaluate(run.folder, quiet=True)["metrics"]["accuracy"] <= 1


def test_a_run_on_a_backbone_of_the_catalogue_is_a_backbone_that_can_be_built_again(configured, colours, tmp_path):
    images = {"task": "image-classification", "data": {"path": str(colours)}}
    backbone = {"name": "efficientnet_lite0", "weights": None, "size": 32}
    cfg, _ = configure.load(configured(**images, backbone=backbone))
    answer = {"classes": ["a", "b"], "multi_label": False, "threshold": 0.5}
    first = network.build(cfg, answer)
    run = runs.create(tmp_path / "run")
    runs.write_text(run.config, config.render(cfg))
    runs.write_json(run.backbone, first.backbone)
    runs.write_json(run.manifest, {"schema": 1, "answer": answer})
    first.model.save(run.model)
    cfg, _ = configure.load(configured(**images, backbone={"name": str(run.folder), "size": 32}))
    made = network.build(cfg, answer)
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(made.base.weights, first.base.weights, strict=True))
    again = network.rebuild(cfg, answer, json.loads(json.dumps(made.backbone)))
    assert [v.shape for v in again.model.weights] == [v.shape for v in made.model.weights]


def test_a_plan_tells_how_long_the_texts_are(configured, topics):
    rows = tlkeras.plan(configured())
    words = [len(line.split(",")[0].split()) + 2 for line in topics.read_text().splitlines()[1:]]
    said = f"{min(words)} to {max(words)} a text, median {int(np.median(words))}"
    assert {r["tokens"] for r in rows} == {rows[0]["tokens"]} and rows[0]["tokens"].startswith(said)
    assert f"  tokens: {said}" in preview.text(rows) and "none is cut off" in preview.text(rows)
    short = tlkeras.plan(configured(), ["backbone.length=8"])[0]["tokens"]
    assert f"{sum(w >= 8 for w in words)} of 120 reach 8 and may be cut off" in short
    with pytest.raises(errors.ConfigError, match="has 48 positions; received 49"):
        tlkeras.plan(configured(), ["backbone.length=49"])


@pytest.mark.parametrize("verb", ["train", "plan"])
@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_a_backbone_of_the_other_kind_is_refused(
    verb, task, configured, tiny_bert, tiny_backbone, colours, topics, tmp_path
):
    text = task.startswith("text")
    config = configured(
        task=task, data={"path": str(topics if text else colours)}, backbone={"name": str(tiny_backbone if text else tiny_bert)}
    )  # fmt: skip
    said = f"task {task} needs a backbone for {'text' if text else 'image'}, and .* reads {'image' if text else 'text'}"
    with pytest.raises(errors.ConfigError, match=said):
        tlkeras.train(config, tmp_path / "run", quiet=True) if verb == "train" else tlkeras.plan(config)


def test_reading_texts_imports_no_framework(tmp_path):
    import subprocess

    path = as_csv(tmp_path / "t.csv")
    code = (
        "import sys; from tlkeras.config import Data; from tlkeras.data import sources; from tlkeras import tasks\n"
        f"found = sources.read(Data(path={str(path)!r}), texts=tasks.wanted('text-classification'))\n"
        "print(len(found), {'tensorflow', 'keras', 'keras_hub'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["3", "set()"]
