"""Text on its way through the network: how it is packed, ordered, stored and learnt.

pytest tests/test_texts.py
"""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TEXT_HEAD as HEAD
from conftest import WORDS, losses, records, sentence, weights_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

import tlkeras
from tlkeras import config, configure, errors, network, preview, tasks
from tlkeras import run as runs
from tlkeras.backbones import Tokens
from tlkeras.config import Data
from tlkeras.data import pipeline, sources, texts
from tlkeras.run import read_json
from tlkeras.tasks import causal_lm, masked_lm, question_answering, token_classification

TOP = {"name": "top", "train": ["head", "blocks[-1:]"], "epochs": 1, "learning_rate": 0.003, "optimizer": "sgd"}
LAYER = {**TOP, "name": "layer", "train": ["head", "blocks[-2:]"]}


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKERAS_CACHE", str(tmp_path / "cache"))


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
        assert len(found["tags"]) == len(texts.places(TEXT, None))
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
        words = texts.places(context, None)
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
                place for place in texts.places(context, None) if begin <= place[0] < begin + len(gold)
            }
            assert not whole, f"{gold!r} is whole in this window: {covered!r}"
    for n, (_, context, _) in enumerate(asked):
        words = texts.places(context, None)
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
    found = sources.read(Data(path=str(records(tmp_path / "t.jsonl", [row]))), texts=tasks.wanted("question-answering"))
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
    words = texts.places(text, None)
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
