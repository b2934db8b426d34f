"""Metrics of texts from plain data, each equal to its reference (tests/test_text_metrics.py).

Entities as seqeval reads them, answers as the SQuAD evaluation scores them, BLEU and chrF by sacrebleu, ROUGE by
rouge-score. A metric that is a mean over samples has a `..._samples` beside it and entities have their counts per
sentence, so that `metrics.bootstrap` only adds up. Fractions are 0..1; BLEU and chrF are 0..100, as sacrebleu prints.
"""

import math
import re
import string
from collections import Counter
from itertools import zip_longest

import numpy as np

from tlkeras import metrics as m
from tlkeras.errors import DataError, UsageError, missing_extra

SCHEMES = (None, "plain")
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def entities(tags: list[str], scheme: str | None = None) -> list[tuple[str, int, int]]:
    """(type, first, last) of every entity of one sentence, ends included.

    Without a scheme IOB1, IOB2, IOE and BIOES are read alike, by the rules of conlleval that seqeval follows by
    default: I- after O or after another type starts an entity, E- and S- end one, a bare B or I has the type "_".
    These rules take the first letter of a tag for its place: where tags are whole types ("PER", "PER", "O"), ask
    for the scheme "plain", in which a run of equal tags is one entity.

    Raises: UsageError for a scheme that does not exist, DataError for an empty tag.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"The scheme of tags is 'plain' or None (IOB1, IOB2, IOE and BIOES alike), not {scheme!r}.")
    if "" in tags:
        raise DataError(
            f"Every token needs a tag, and tag {list(tags).index('')} is empty. Write 'O' outside entities."
        )
    found, first, place, kind = [], 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        before, kind_before = place, kind
        place, kind = _place_and_kind(f"I-{tag}" if scheme == "plain" and tag != "O" else tag)
        changed = kind != kind_before
        if before in "ES" or (before in "BI" and place in "BSO") or (changed and before not in "O."):
            found.append((kind_before, first, i - 1))
        if place in "BS" or (place in "IE" and before in "OES") or (changed and place not in "O."):
            first = i
    return found


def entity_counts(
    true: list[list[str]], guess: list[list[str]], scheme: str | None = None
) -> tuple[list[str], np.ndarray]:
    """The types, and per sentence and type how many entities were right, true and guessed: (sentences, types, 3).

    Raises: DataError when a sentence and its guess differ in length.
    """
    _same_number(true, guess)
    for i, (a, b) in enumerate(zip(true, guess, strict=True)):
        if len(a) != len(b):
            raise DataError(f"Sentence {i} has {len(a)} tags and its guess {len(b)}. Guess one tag for every token.")
    rows = [[set(entities(tags, scheme)) for tags in pair] for pair in zip(true, guess, strict=True)]
    types = sorted({kind for there, said in rows for kind, _, _ in there | said})
    number = {kind: c for c, kind in enumerate(types)}
    counts = np.zeros((len(rows), len(types), 3), int)
    for i, (there, said) in enumerate(rows):
        for j, group in enumerate((there & said, there, said)):
            for kind, _, _ in group:
                counts[i, number[kind], j] += 1
    return types, counts


def entity_scores(true: list[list[str]], guess: list[list[str]], scheme: str | None = None) -> dict:
    """Precision, recall and F1 over entities, micro, macro, weighted and per class: seqeval's with zero_division=0.

    Raises: DataError when a sentence and its guess differ in length.
    """
    types, counts = entity_counts(true, guess, scheme)
    return scores_of_counts(types, counts.sum(0))


def scores_of_counts(types: list[str], counts) -> dict:
    """The scores of `entity_counts` summed over sentences, (types, 3); the macro mean is over types that occur."""
    counts = np.asarray(counts, float).reshape(-1, 3)
    hit, true, guessed = np.vstack([counts, counts.sum(0)]).T  # the last row is micro
    precision, recall, f1 = m._divide(hit, guessed), m._divide(hit, true), m._divide(2 * hit, true + guessed)
    seen = (true + guessed)[:-1] > 0
    return {
        "precision": float(precision[-1]),
        "recall": float(recall[-1]),
        "f1": float(f1[-1]),
        "macro_f1": float(f1[:-1].sum() / max(seen.sum(), 1)),
        "weighted_f1": float(m._divide((f1 * true)[:-1].sum(), true[-1])),
        "per_class": {
            "class": list(types),
            "precision": precision[:-1].tolist(),
            "recall": recall[:-1].tolist(),
            "f1": f1[:-1].tolist(),
            "support": true[:-1].astype(int).tolist(),
        },
    }


def squad(answers: list[list[str]], guess: list[str]) -> dict[str, float]:
    """Exact match and F1 as the evaluation of SQuAD 2.0 (arXiv:1806.03822). Raises: as `squad_samples`."""
    return _means(squad_samples(answers, guess))


def squad_samples(answers: list[list[str]], guess: list[str]) -> dict[str, np.ndarray]:
    """Exact match and F1 of every question, each the best over its gold answers.

    Compared are words after lower case, without punctuation and articles. A gold answer of which nothing is left
    does not count; a question without gold answers wants the empty answer. On SQuAD 1.1 this is its evaluation too,
    but for a gold answer of only articles and punctuation.

    Raises: DataError when the numbers differ, there is nothing to score or `answers` is not lists of texts.
    """
    _check_texts(answers, guess)
    golds = [[words for text in texts if (words := _words(text))] or [[]] for texts in answers]
    rows = list(zip(golds, map(_words, guess), strict=True))
    return {
        "exact_match": np.array([float(said in gold) for gold, said in rows]),
        "f1": np.array([max(_overlap(words, said) for words in gold) for gold, said in rows]),
    }


def bleu(references: list[list[str]], guesses: list[str], tokenize: str = "13a") -> dict:
    """Corpus BLEU and chrF by sacrebleu (Post 2018, arXiv:1804.08771), 0..100, each with its signature.

    Samples may have different numbers of references. `tokenize` is sacrebleu's: "zh" or "char" where words are
    not parted by spaces.

    Raises: MachineError without sacrebleu, DataError without a sample or a reference.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise missing_extra("sacrebleu", "text") from None
    _check_texts(references, guesses, least=1)
    streams = list(zip_longest(*references))  # the first reference of every sample, the second, ...; None is none
    result: dict[str, float | str] = {}
    for name, metric in (("bleu", BLEU(tokenize=tokenize)), ("chrf", CHRF())):
        result[name] = float(metric.corpus_score(list(guesses), streams).score)
        result[f"{name}_signature"] = str(metric.get_signature())
    return result


def rouge(references: list[list[str]], guesses: list[str], stem: bool = False) -> dict[str, float]:
    """Mean F of ROUGE-1, -2, -L and -Lsum (Lin 2004) by rouge-score. Raises: as `rouge_samples`."""
    return _means(rouge_samples(references, guesses, stem))


def rouge_samples(references: list[list[str]], guesses: list[str], stem: bool = False) -> dict[str, np.ndarray]:
    """The F of every sample, the best over its references; Lsum takes every line for a sentence.

    rouge-score knows the letters a-z and digits only: in other scripts every score is 0.

    Raises: MachineError without rouge-score, DataError without a sample or a reference.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise missing_extra("rouge-score", "text") from None
    _check_texts(references, guesses, least=1)
    scorer = RougeScorer(ROUGE, use_stemmer=stem)
    rows = [scorer.score_multi(r, g) for r, g in zip(references, guesses, strict=True)]
    return {name: np.array([row[name].fmeasure for row in rows], float) for name in ROUGE}


def perplexity(log_likelihood: float, tokens: int) -> float:
    """exp(-log_likelihood / tokens), of the natural logarithm summed over all tokens; inf where it is past a float.

    Raises: DataError without a token.
    """
    if tokens < 1:
        raise DataError(f"Perplexity is a mean over tokens, and there are {tokens}.")
    try:
        return math.exp(-float(log_likelihood) / tokens)
    except OverflowError:
        return math.inf


def recall_at(similarity, relevant, ks=(1, 5, 10)) -> dict[str, float]:
    """Mean recall@k and mean reciprocal rank ("mrr") of queries over documents. Raises: as `recall_samples`."""
    return _means(recall_samples(similarity, relevant, ks))


def recall_samples(similarity, relevant, ks=(1, 5, 10)) -> dict[str, np.ndarray]:
    """recall@k and 1 / rank of the first right document ("mrr") of every query, from similarities (n, m).

    `relevant` holds the number of the right document of every query, or the set of them; recall@k is the part of
    them among the k most similar. Ties count against the query: a wrong document as similar as a right one comes
    first, and so does what is not a number, so that equal scores everywhere earn nothing.

    Raises: DataError when the numbers differ, or a query has no right document or one that does not exist.
    """
    similarity = np.asarray(similarity, float)
    _same_number(relevant, similarity)
    found: dict[str, list] = {**{f"recall@{k}": [] for k in ks}, "mrr": []}
    for i, (scores, right) in enumerate(zip(similarity, relevant, strict=True)):
        right = np.unique(list(right) if np.iterable(right) else right).astype(int)
        if not len(right) or right.min() < 0 or right.max() >= len(scores):
            raise DataError(
                f"Every query needs right documents among 0..{len(scores) - 1}, and query {i} has {right.tolist()}."
            )
        own = np.sort(np.where(np.isnan(scores[right]), -np.inf, scores[right]))[::-1]
        others = np.delete(scores, right)
        ranks = 1 + np.arange(len(own)) + len(others) - (others < own[:, None]).sum(1)
        for k in ks:
            found[f"recall@{k}"].append((ranks <= k).mean())
        found["mrr"].append(1 / ranks[0])
    return {name: np.array(values, float) for name, values in found.items()}


def _place_and_kind(tag: str) -> tuple[str, str]:
    return tag[0], tag[1:].split("-", 1)[-1] or "_"


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(gold: list[str], said: list[str]) -> float:
    """F1 of two bags of words; two empty ones agree."""
    if not gold or not said:
        return float(gold == said)
    return 2 * (Counter(gold) & Counter(said)).total() / (len(gold) + len(said))


def _means(samples: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in samples.items()}


def _same_number(true, guess) -> None:
    if len(true) != len(guess):
        raise DataError(f"Truth and guesses must be of the same samples, and there are {len(true)} and {len(guess)}.")
    if not len(true):
        raise DataError("There is nothing to score: no sample was given.")


def _check_texts(references, guesses, least: int = 0) -> None:
    _same_number(references, guesses)
    for i, texts in enumerate(references):
        if isinstance(texts, str) or len(texts) < least:
            raise DataError(f"Every sample needs a list of reference texts, and sample {i} has {texts!r}.")
