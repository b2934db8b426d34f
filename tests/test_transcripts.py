"""Transcripts: error rates are jiwer's, the beam search finds what counting every alignment finds, times fit the frames.

pytest tests/test_transcripts.py
"""

import itertools

import numpy as np
import pytest

from tlkeras import ctc, transcripts
from tlkeras.errors import DataError
from tlkeras.tasks import speech_recognition as speech

OPTIONS = speech.Options()


def pairs(n: int = 200):
    rng, words = np.random.default_rng(0), ["one", "two", "three", "four", "five", "six"]
    for _ in range(n):
        truth = list(rng.choice(words, rng.integers(1, 9)))
        said = [w for w in truth if rng.random() > 0.2]
        for _ in range(rng.integers(0, 3)):
            said.insert(rng.integers(0, len(said) + 1), str(rng.choice(words)))
        yield " ".join(truth), " ".join(said)


def test_error_rates_are_jiwers():
    jiwer = pytest.importorskip("jiwer")
    truths, said = map(list, zip(*pairs(), strict=True))
    found = transcripts.rates(transcripts.counts(truths, said), np.arange(len(truths)))
    assert found["wer"] == pytest.approx(jiwer.wer(truths, said), abs=1e-12)
    assert found["cer"] == pytest.approx(jiwer.cer(truths, said), abs=1e-12)


def test_an_alignment_has_as_many_errors_as_the_distance_says():
    for truth, said in pairs(50):
        found = transcripts.aligned(truth.split(), said.split())
        assert [t for t, _ in found if t] == truth.split() and [s for _, s in found if s] == said.split()
        assert sum(t != s for t, s in found) == transcripts.errors(truth.split(), said.split())
    above, below = transcripts.written(transcripts.aligned(["a", "bee", "c"], ["a", "d"]))
    assert (above, below) == ("a BEE C", "a *** D")
    assert transcripts.written([("The", "the"), ("end", "and")]) == ("The END", "the AND")


def test_the_report_sets_what_was_understood_below_what_was_said():
    from types import SimpleNamespace

    from tlkeras.reports import mistakes

    worst = [{"id": "a.wav", "wer": 2 / 3, "alignment": ("a BEE C", "a *** <D>")}]
    page = mistakes.pictured(SimpleNamespace(predictions={"id": ["a.wav"]}, result={"worst": worst}))
    assert "<span><bdi>a</bdi><bdi>a</bdi></span>" in page
    assert '<b class="true"><bdi>BEE</bdi></b><b class="said"><bdi>–</bdi></b>' in page
    assert '<b class="said"><bdi>&lt;D&gt;</bdi></b>' in page and "67\u00a0% of its words" in page


def spelled(scores) -> dict:
    """The probability of every sequence of symbols, by counting all alignments."""
    found: dict = {}
    frames, columns = scores.shape
    for path in itertools.product(range(columns), repeat=frames):
        kept = tuple(k for k, _ in itertools.groupby(path) if k != columns - 1)
        found[kept] = found.get(kept, 0.0) + np.exp(sum(scores[t, c] for t, c in enumerate(path)))
    return found


def test_a_wide_beam_finds_the_likeliest_of_all_sequences():
    rng = np.random.default_rng(0)
    for _ in range(20):
        raw = rng.normal(0, 1.5, (5, 4))
        scores = raw - np.log(np.exp(raw).sum(1, keepdims=True))
        every = spelled(scores)
        assert tuple(ctc.beam(scores, 100)) == max(every, key=every.get)


def test_the_loss_is_the_probability_of_all_alignments_and_padding_does_not_count():
    rng = np.random.default_rng(1)
    raw = rng.normal(0, 1, (1, 5, 4)).astype("float32")
    scores = raw[0] - np.log(np.exp(raw[0]).sum(1, keepdims=True))
    silent = np.full((1, 3, 4), -speech.SURE, "float32")
    silent[..., -1] = speech.SURE
    y, loss = np.array([[0, 1, -1, -1]]), speech.loss(OPTIONS)
    expected = -np.log(spelled(scores)[(0, 1)]) / 2
    assert float(loss(y, raw)) == pytest.approx(expected, rel=1e-4)
    assert float(loss(y, np.concatenate([raw, silent], 1))) == pytest.approx(expected, rel=1e-4)


def said(text: str, symbols: list[str], sure: float = 4.0) -> np.ndarray:
    """Log-probabilities in which each symbol stands for two frames, with a blank behind."""
    columns = [c for s in text for c in (symbols.index(s), symbols.index(s), len(symbols))]
    raw = np.zeros((len(columns), len(symbols) + 1))
    raw[np.arange(len(columns)), columns] = sure
    return raw - np.log(np.exp(raw).sum(1, keepdims=True))


def test_a_lexicon_allows_its_words_alone_and_ngrams_prefer_what_was_said_before():
    symbols = list(" abct")
    scores = said("cab bat", symbols)
    assert "".join(symbols[i] for i in ctc.greedy(scores)) == "cab bat"
    only = ctc.Words(symbols, frozenset({"cat", "bat"}), {}, 1)
    assert "".join(symbols[i] for i in ctc.beam(scores, 32, only)) == "cat bat"
    unsure = said("ca", symbols) * 1.0
    either = np.concatenate([unsure, np.log((np.exp(said("t", symbols)) + np.exp(said("b", symbols))) / 2)])
    counts = ctc.counted([["cab", "bat"], ["cab", "cab"]], 2)
    assert (
        "".join(symbols[i] for i in ctc.beam(either, 32, ctc.Words(symbols, frozenset({"cat", "cab"}), counts, 2)))
        == "cab"
    )


def test_places_are_the_frames_of_each_symbol():
    symbols = list(" ab")
    scores = said("ab a", symbols)
    assert ctc.places(scores, ctc.greedy(scores)) == [(0, 2), (3, 5), (6, 8), (9, 11)]
    assert ctc.places(scores, []) == []


def test_transcripts_are_made_plain_as_asked():
    assert speech.plain("  Don\u2019t SHOUT, \u201cplease\u201d! ", OPTIONS) == "don't shout please"
    kept = speech.Options(case="keep", punctuation="keep")
    assert speech.plain("  Don't SHOUT, please! ", kept) == "Don't SHOUT, please!"


def test_characters_outside_the_alphabet_and_empty_transcripts_are_listed():
    with pytest.raises(DataError, match=r"hold 'é', which data.classes does not list(.|\n)*row 2: 'é' in 'café'"):
        speech.targets(["a fac", "café"], OPTIONS, list(" acef"))
    with pytest.raises(DataError, match=r"nothing is left of some(.|\n)*row 2: '\?!'"):
        speech.targets(["a", "?!"], OPTIONS)


def test_words_can_be_the_symbols():
    rows, answer = speech.targets(["one two", "two"], speech.Options(units="words"))
    assert answer["classes"] == ["one", "two"] and [r.tolist() for r in rows] == [[0, 1], [1]]
    assert speech.text_of(rows[0], answer) == "one two"


def test_the_text_of_an_artefact_is_the_greedy_one():
    symbols = list(" ab")
    scores = np.stack([said("ab a", symbols), said("bb  ", symbols)])
    answer = {"classes": symbols, "units": "characters"}
    texts = [t.decode() for t in speech.serving(scores.astype("float32"), answer)["text"].numpy()]
    assert texts == ["ab a", "bb"]
