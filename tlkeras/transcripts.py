"""Transcripts held against each other: word and character error rates, as jiwer counts them, and alignments."""

import numpy as np


def distances(truth: list, said: list) -> np.ndarray:
    """Edit distances (len(truth) + 1, len(said) + 1) of all beginnings of two sequences."""
    number = {x: i for i, x in enumerate(dict.fromkeys([*truth, *said]))}
    a, b = (np.array([number[x] for x in side], int) for side in (truth, said))
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[0] = np.arange(len(b) + 1)
    steps = np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        row = np.minimum(table[i - 1, 1:] + 1, table[i - 1, :-1] + (b != a[i - 1]))
        row = np.concatenate([[i], row])
        # An insertion costs one a place: the least of what came before, counted back to where it would start.
        table[i] = np.minimum.accumulate(row - steps) + steps
    return table


def errors(truth: list, said: list) -> int:
    """The least number of substitutions, deletions and insertions that turn one sequence into another."""
    return int(distances(truth, said)[-1, -1])


def aligned(truth: list, said: list) -> list[tuple]:
    """Pairs (of truth or None, of what was said or None) of one alignment with the fewest errors."""
    table, pairs = distances(truth, said), []
    i, j = len(truth), len(said)
    while i or j:
        if i and j and table[i, j] == table[i - 1, j - 1] + (truth[i - 1] != said[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((truth[i], said[j]))
        elif i and table[i, j] == table[i - 1, j] + 1:
            i -= 1
            pairs.append((truth[i], None))
        else:
            j -= 1
            pairs.append((None, said[j]))
    return pairs[::-1]


def counts(truths: list[str], said: list[str]) -> dict[str, np.ndarray]:
    """Per transcript: errors and number of the words, and of the characters."""
    words = [(t.split(), s.split()) for t, s in zip(truths, said, strict=True)]
    letters = [(list(t.strip()), list(s.strip())) for t, s in zip(truths, said, strict=True)]
    return {
        "word_errors": np.array([errors(*pair) for pair in words], float),
        "words": np.array([len(t) for t, _ in words], float),
        "character_errors": np.array([errors(*pair) for pair in letters], float),
        "characters": np.array([len(t) for t, _ in letters], float),
    }


def rates(counted: dict, rows) -> dict[str, float]:
    """WER and CER of these rows: errors over all of them by what was said in all of them."""
    c = {name: x[rows] for name, x in counted.items()}
    return {
        "wer": float(c["word_errors"].sum() / max(c["words"].sum(), 1)),
        "cer": float(c["character_errors"].sum() / max(c["characters"].sum(), 1)),
        "sentences_wrong": float((c["word_errors"] > 0).mean()),
    }


def written(pairs: list[tuple]) -> tuple[str, str]:
    """An alignment of words as two lines, one below the other: what was said in truth, and what was understood. Stars
    stand where the other has a word more; words that differ are in capitals."""
    above, below = [], []
    for t, s in pairs:
        t, s = (x if x is not None else "*" * len(str(y)) for x, y in ((t, s), (s, t)))
        wide = max(len(t), len(s))
        # Words that differ in their case alone would look alike in capitals.
        both = (t, s) if t.upper() == s.upper() else (t.upper(), s.upper())
        above.append(both[0].ljust(wide)), below.append(both[1].ljust(wide))
    return " ".join(above).rstrip(), " ".join(below).rstrip()
