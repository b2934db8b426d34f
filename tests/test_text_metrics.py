"""Metrics of texts equal seqeval, sacrebleu, rouge-score and the published definition of SQuAD, on malformed cases too."""

import itertools
import math
import re
import string
import sys

import numpy as np
import pytest
import sacrebleu
import seqeval.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import label_ranking_average_precision_score

from tlkeras import metrics
from tlkeras import text_metrics as t
from tlkeras.errors import DataError, MachineError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*seems not to be NE tag:UserWarning", "ignore::RuntimeWarning")
often = settings(max_examples=300, deadline=None, database=None, derandomize=True)

# Every place with every type, one type that ends in another, types with a dash, places without a type.
TAGS = ["O", *(f"{place}-{kind}" for place in "BIES" for kind in ("PER", "LOC", "A-B")), *"BIES", "I-"]
STRANGE = [*TAGS, ".", "X", "PER", "ORG", "O-PER", "X-PER", "-PER", "BPER", "B-_", "-"]


def well_formed(kinds, bioes: bool):
    """One sentence of IOB2 or BIOES: entities of one to four tokens between runs of O."""
    entity = st.tuples(st.sampled_from(kinds), st.integers(1, 4)).map(lambda e: spelled(*e, bioes))
    return st.lists(st.one_of(entity, st.just(["O"])), max_size=8).map(lambda parts: [*itertools.chain(*parts)])


def spelled(kind, n, bioes):
    if bioes:
        return [f"S-{kind}"] if n == 1 else [f"B-{kind}", *[f"I-{kind}"] * (n - 2), f"E-{kind}"]
    return [f"B-{kind}", *[f"I-{kind}"] * (n - 1)]


def pairs_of(tags):
    """Sentences and guesses of the same lengths."""
    pair = st.lists(st.tuples(tags, tags), max_size=12).map(lambda rows: ([a for a, _ in rows], [b for _, b in rows]))
    return st.lists(pair, min_size=1, max_size=6).map(lambda pairs: tuple(map(list, zip(*pairs, strict=True))))


# --- entities


@pytest.mark.parametrize(
    "tags, found",
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("I-PER I-PER B-PER O", [("PER", 0, 1), ("PER", 2, 2)]),  # IOB1 parts neighbours by B-
        ("S-PER B-LOC I-LOC E-LOC", [("PER", 0, 0), ("LOC", 1, 3)]),
        ("O I-PER I-LOC", [("PER", 1, 1), ("LOC", 2, 2)]),  # I- without B-, and a change of type
        ("B-PER O I-PER", [("PER", 0, 0), ("PER", 2, 2)]),
        ("E-PER E-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-A-B I-A-B", [("A-B", 0, 1)]),
        ("B I O S", [("_", 0, 1), ("_", 3, 3)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities_of_every_scheme_and_of_malformed_tags(tags, found):
    assert t.entities(tags.split()) == found == get_entities(tags.split())


@often
@given(st.lists(st.sampled_from(STRANGE), max_size=20))
def test_entities_of_any_tags_are_those_of_seqeval(tags):
    assert t.entities(tags) == get_entities(tags)


def test_every_sequence_of_four_tags_is_read_as_seqeval_reads_it():
    places = ["O", *(f"{place}-{kind}" for place in "BIES" for kind in "xy")]
    for tags in itertools.product(places, repeat=4):
        assert t.entities(list(tags)) == get_entities(list(tags))


def equals_seqeval(true, guess, **how):
    """The scores and the report, each by its name, within rounding."""
    got = t.entity_scores(true, guess, **how)
    if how.get("scheme") == "plain":
        true, guess = ([[tag if tag == "O" else f"I-{tag}" for tag in row] for row in rows] for rows in (true, guess))
    report = seqeval.metrics.classification_report(true, guess, output_dict=True, zero_division=0)
    micro, macro, weighted = (report.pop(f"{how} avg") for how in ("micro", "macro", "weighted"))
    assert got["per_class"]["class"] == list(report)
    assert (got["precision"], got["recall"], got["f1"]) == pytest.approx(
        (micro["precision"], micro["recall"], micro["f1-score"]), abs=1e-12
    )
    assert got["f1"] == pytest.approx(seqeval.metrics.f1_score(true, guess, zero_division=0), abs=1e-12)
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"), ("support", "support")):
        assert got["per_class"][ours] == pytest.approx([row[theirs] for row in report.values()], abs=1e-12)
    if report:  # seqeval's macro mean over no class is not a number
        assert got["macro_f1"] == pytest.approx(macro["f1-score"], abs=1e-12)
    assert got["weighted_f1"] == pytest.approx(weighted["f1-score"], abs=1e-12)


@often
@given(pairs_of(st.sampled_from(TAGS)))
def test_scores_of_random_and_malformed_tags_equal_seqeval(pair):
    equals_seqeval(*pair)


@often
@given(st.data(), st.booleans())
def test_scores_of_well_formed_tags_equal_seqeval(data, bioes):
    true = data.draw(st.lists(well_formed(["PER", "LOC", "MISC"], bioes), min_size=1, max_size=6))
    guess = [data.draw(st.one_of(st.just(row), st.permutations(row))) for row in true]
    equals_seqeval(true, guess)


@often
@given(pairs_of(st.sampled_from(["O", "PER", "ORG", "B", "Other", "E-mail"])))
def test_plain_tags_are_runs_of_whole_types(pair):
    equals_seqeval(*pair, scheme="plain")


def test_plain_tags_keep_their_name_and_are_not_taken_for_places():
    tags = ["ORG", "ORG", "PER", "O", "PER"]
    assert t.entities(tags, "plain") == [("ORG", 0, 1), ("PER", 2, 2), ("PER", 4, 4)]
    assert t.entities(tags) == [("ER", 2, 2), ("ER", 4, 4)]  # the first letter is the place, and O is outside


def test_sentences_without_an_entity_score_nothing():
    scores = t.entity_scores([["O", "O"]], [["O", "O"]])
    per_class = scores.pop("per_class")
    assert set(scores.values()) == {0.0}
    assert per_class == {"class": [], "precision": [], "recall": [], "f1": [], "support": []}


def test_counts_of_resampled_sentences_give_the_scores_of_those_sentences():
    rng = np.random.default_rng(0)
    true, guess = ([rng.choice(TAGS, 3).tolist() for _ in range(20)] for _ in range(2))
    guess[::2] = true[::2]
    types, counts = t.entity_counts(true, guess)
    assert counts.shape == (20, len(types), 3)
    for rows in [*np.arange(20)[:, None], *rng.integers(0, 20, (5, 20))]:
        again = t.entity_scores([true[i] for i in rows], [guess[i] for i in rows])
        resampled = t.scores_of_counts(types, counts[rows].sum(0))
        for scores in (again, resampled):
            scores.pop("per_class")
        assert resampled == pytest.approx(again, abs=1e-12)
    low, high = metrics.bootstrap(lambda rows: {"f1": t.scores_of_counts(types, counts[rows].sum(0))["f1"]}, 20)["f1"]
    assert low < t.entity_scores(true, guess)["f1"] < high


def test_tags_that_cannot_be_scored_are_refused():
    with pytest.raises(DataError, match="Sentence 1 has 2 tags and its guess 1"):
        t.entity_scores([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="1 and 2"):
        t.entity_scores([["O"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="tag 1 is empty"):
        t.entities(["O", ""])
    with pytest.raises(UsageError, match="'IOB9'"):
        t.entities(["O"], "IOB9")


# --- answers


@pytest.mark.parametrize(
    "answers, guess, exact, f1",
    [
        (["The Broncos"], "broncos", 1, 1),  # case and articles
        (["Denver, Broncos!"], "Denver  Broncos", 1, 1),  # punctuation and white space
        (["Denver Broncos"], "Broncos", 0, 2 / 3),  # precision 1, recall 1/2
        (["a b c d"], "b c x", 0, 2 / 3),  # "a" is an article: two of three each way
        (["x x y"], "x x x", 0, 2 / 3),  # a word counts as often as both have it
        (["Broncos", "Denver Broncos"], "Denver Broncos", 1, 1),  # the best gold answer
        (["red blue", "red green house"], "green house", 0, 0.8),
        (["x-ray"], "xray", 1, 1),  # punctuation leaves no space
        (["x-ray"], "x ray", 0, 0),
        (["U.S."], "US", 1, 1),
        (["Theatre"], "atre", 0, 0),  # only whole words are articles
        (["“yes”"], "yes", 0, 0),  # only the punctuation of ASCII
        ([], "", 1, 1),  # no answer
        ([], "the", 1, 1),  # nothing is left of it
        ([], "Denver", 0, 0),
        (["Denver"], "", 0, 0),
        (["The", "Denver"], "", 0, 0),  # a gold answer of nothing does not count beside another
        (["The"], "", 1, 1),  # and alone it is no answer
    ],
)
def test_answers_score_as_the_definition_says(answers, guess, exact, f1):
    assert t.squad([answers], [guess]) == pytest.approx({"exact_match": exact, "f1": f1})


def plainly(answers, guess):
    """(exact match, F1) of one question, letter by letter and word by word."""

    def clean(text):
        letters = "".join(c for c in text.lower() if c not in string.punctuation)
        parts = re.findall(r"\w+|\s+|[^\w\s]+", letters)
        return "".join(" " if part in ("a", "an", "the") else part for part in parts).split()

    said, best = clean(guess), (0.0, 0.0)
    golds = [words for words in map(clean, answers) if words]
    if not golds:
        return float(not said), float(not said)
    for gold in golds:
        left, common = list(gold), 0
        for word in said:
            if word in left:
                left.remove(word)
                common += 1
        if common:
            precision, recall = common / len(said), common / len(gold)
            best = max(best[0], float(said == gold)), max(best[1], 2 * precision * recall / (precision + recall))
    return best


WORDS = [
    "a",
    "An",
    "THE",
    "then",
    "Denver",
    "denver",
    "x-ray",
    "xray",
    "U.S.",
    "!",
    "é",
    "\t",
    " ",
    "“the”",
    "the-a",
    "_",
]
phrase = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@often
@given(
    st.lists(st.tuples(st.lists(st.one_of(phrase, st.text(max_size=8)), max_size=3), phrase), min_size=1, max_size=5)
)
@example([(["the"], "the"), (["a!", "b"], "")])
def test_answers_of_any_text_equal_a_plain_count(questions):
    answers, guess = map(list, zip(*questions, strict=True))
    want = np.array([plainly(*q) for q in questions])
    got = t.squad_samples(answers, guess)
    assert got["exact_match"].tolist() == want[:, 0].tolist()
    assert got["f1"] == pytest.approx(want[:, 1], abs=1e-12)
    assert t.squad(answers, guess) == pytest.approx(dict(zip(got, want.mean(0), strict=True)), abs=1e-12)


def test_answers_that_cannot_be_scored_are_refused():
    with pytest.raises(DataError, match="sample 0 has 'Denver'"):
        t.squad(["Denver"], ["Denver"])
    with pytest.raises(DataError, match="2 and 1"):
        t.squad([["x"], []], ["x"])
    with pytest.raises(DataError, match="nothing to score"):
        t.squad([], [])


# --- BLEU, chrF and ROUGE

GUESSES = ["The dog bit the man.", "It wasn't surprising.\nThe man had just bitten him.", ""]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected."],
    ["Nobody spoke.", "Nobody"],
]

WRITTEN = ["the", "dog", "bit", "a", "man", ".", ",", "running", "runs\n", "Café", "42"]
lines = st.lists(st.sampled_from(WRITTEN), max_size=9).map(" ".join)
texts = st.lists(st.tuples(st.lists(lines, min_size=1, max_size=3), lines), min_size=1, max_size=5)


def test_bleu_is_what_sacrebleu_prints_for_the_same_lines():
    streams = [["The dog bit the man.", "It was not unexpected.", "Nobody spoke."]]
    got = t.bleu([[line] for line in streams[0]], GUESSES)
    assert got["bleu"] == sacrebleu.corpus_bleu(GUESSES, streams).score > 10
    assert got["chrf"] == sacrebleu.corpus_chrf(GUESSES, streams).score > 10
    assert got["bleu_signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert got["chrf_signature"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}"


@often
@given(texts)
def test_bleu_of_any_number_of_references_equals_sacrebleu(samples):
    references, guesses = map(list, zip(*samples, strict=True))
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(max(map(len, references)))]
    got = t.bleu(references, guesses)
    assert got["bleu"] == sacrebleu.corpus_bleu(guesses, streams).score
    assert got["chrf"] == sacrebleu.corpus_chrf(guesses, streams).score
    nrefs = {len(r) for r in references}
    assert got["bleu_signature"].startswith(f"nrefs:{nrefs.pop() if len(nrefs) == 1 else 'var'}|")


def test_bleu_takes_another_tokenizer_and_signs_it():
    got = t.bleu([["我喜欢读书吗"]], ["我喜欢读书"], tokenize="zh")
    assert "tok:zh" in got["bleu_signature"] and got["bleu"] > t.bleu([["我喜欢读书吗"]], ["我喜欢读书"])["bleu"]


def test_a_text_that_equals_a_reference_has_the_highest_score():
    guesses = [reference[-1] for reference in REFERENCES[:2]]
    got = t.bleu(REFERENCES[:2], guesses)
    assert (got["bleu"], got["chrf"]) == pytest.approx((100, 100))
    assert set(t.rouge(REFERENCES[:2], guesses).values()) == {1.0}


@pytest.mark.parametrize("stem", [False, True])
@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(samples=texts)
def test_rouge_is_the_mean_of_the_best_f_over_the_references(stem, samples):
    references, guesses = map(list, zip(*samples, strict=True))
    scorer = RougeScorer(t.ROUGE, use_stemmer=stem)
    want = {
        name: [max(scorer.score(one, guess)[name].fmeasure for one in some) for some, guess in samples]
        for name in t.ROUGE
    }
    got = t.rouge_samples(references, guesses, stem)
    assert {name: values.tolist() for name, values in got.items()} == want
    assert t.rouge(references, guesses, stem) == pytest.approx(
        {name: np.mean(v) for name, v in want.items()}, abs=1e-12
    )


def test_rouge_of_a_known_pair():
    """Four of six words each way, two of five pairs, and the longest common subsequence is "the cat on the"."""
    got = t.rouge([["the cat sat on the mat"]], ["the cat lay on the rug"])
    assert got == pytest.approx({"rouge1": 2 / 3, "rouge2": 2 / 5, "rougeL": 2 / 3, "rougeLsum": 2 / 3})


def test_rouge_lsum_takes_lines_for_sentences():
    got = t.rouge([["one two three\nfour five six"]], ["four five six\none two three"])
    assert got["rougeLsum"] == 1 > got["rougeL"] == 0.5


@pytest.mark.parametrize("score", [t.bleu, t.rouge, t.rouge_samples])
def test_texts_that_cannot_be_scored_are_refused(score):
    for references, guesses, said in [
        ([], [], "nothing to score"),
        ([["x"]], ["x", "y"], "1 and 2"),
        ([["x"], []], ["x", "y"], r"sample 1 has \[\]"),
        (["x"], ["x"], "sample 0 has 'x'"),
    ]:
        with pytest.raises(DataError, match=said):
            score(references, guesses)


@pytest.mark.parametrize("score, package, module", [(t.bleu, "sacrebleu", "sacrebleu"), (t.rouge, "rouge-score", "rouge_score")])  # fmt: skip
def test_without_its_library_a_metric_names_the_extra(score, package, module, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError, match=rf"'{package}'.*tlkeras\[text\]"):
        score([["x"]], ["x"])


# --- perplexity


def test_perplexity_of_even_chances_is_their_number():
    assert t.perplexity(20 * math.log(1 / 50), 20) == pytest.approx(50)
    assert t.perplexity(0.0, 7) == 1
    assert t.perplexity(-1e6, 1) == math.inf == t.perplexity(-math.inf, 3)
    assert math.isnan(t.perplexity(math.nan, 3))
    with pytest.raises(DataError, match="there are 0"):
        t.perplexity(0.0, 0)


# --- retrieval


def worst(scores, right, ks):
    """recall@k and 1 / rank in the worst of all orders that the similarities allow."""
    orders = itertools.permutations(range(len(scores)))
    allowed = [o for o in orders if all(scores[a] >= scores[b] for a, b in itertools.pairwise(o))]
    recall = [min(len(right & set(o[:k])) / len(right) for o in allowed) for k in ks]
    return [*recall, min(1 / (1 + min(map(o.index, right))) for o in allowed)]


@pytest.mark.parametrize("m", [1, 2, 4, 6])
def test_retrieval_is_that_of_the_worst_order_of_ties(m):
    rng = np.random.default_rng(m)
    scores = rng.integers(0, 4, (40, m)) / 4
    relevant = [set(rng.choice(m, rng.integers(1, m + 1), replace=False).tolist()) for _ in scores]
    want = np.array([worst(s, r, (1, 3, 10)) for s, r in zip(scores, relevant, strict=True)]).T
    got = t.recall_samples(scores, relevant, (1, 3, 10))
    assert list(got) == ["recall@1", "recall@3", "recall@10", "mrr"]
    assert list(got.values()) == [pytest.approx(row) for row in want]
    assert t.recall_at(scores, relevant, (1, 3, 10)) == pytest.approx(dict(zip(got, want.mean(1), strict=True)))


@pytest.mark.parametrize("tied", [False, True])
def test_one_right_document_gives_the_reciprocal_rank_of_scikit_learn(tied):
    rng = np.random.default_rng(0)
    scores = np.round(rng.random((200, 30)), 1 if tied else 9)
    right = rng.integers(0, 30, 200)
    got = t.recall_at(scores, right)
    assert got["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(30)[right], scores))
    assert got == t.recall_at(scores, [{int(r)} for r in right]) == t.recall_at(scores, [[r] for r in right])
    if not tied:
        order = np.argsort(-scores, axis=1)
        for k in (1, 5, 10):
            assert got[f"recall@{k}"] == pytest.approx((order[:, :k] == right[:, None]).any(1).mean())


def test_equal_scores_and_scores_that_are_no_numbers_earn_nothing():
    last = {"recall@1": 0.0, "recall@5": 0.0, "recall@10": 0.0, "mrr": 1 / 20}
    for value in (0.0, math.nan, math.inf, -math.inf):
        assert t.recall_at(np.full((3, 20), value), [0, 7, 19]) == pytest.approx(last)
    assert t.recall_at([[1.0, math.nan]], [0], (1,)) == {"recall@1": 0.0, "mrr": 0.5}
    assert t.recall_at([[math.nan, 0.0]], [0], (1,)) == {"recall@1": 0.0, "mrr": 0.5}


def test_queries_that_cannot_be_scored_are_refused():
    for relevant, said in [([set()], r"has \[\]"), ([2], r"0\.\.1"), ([{-1, 0}], r"\[-1, 0\]"), ([0, 1], "2 and 1")]:
        with pytest.raises(DataError, match=said):
            t.recall_at([[0.1, 0.2]], relevant)
