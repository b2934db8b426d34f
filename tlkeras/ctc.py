"""Connectionist temporal classification: from the log-probabilities of frames to symbols (Graves et al. 2006).

`scores` are float (frames, symbols + 1), natural logarithms; the last column is the blank.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

BACKOFF = 0.4  # of an n-gram that was not seen, to the next shorter one (Brants et al. 2007, "stupid backoff")


def greedy(scores: np.ndarray) -> list[int]:
    """The symbols of the likeliest column of every frame: repetitions and blanks fall out."""
    best = scores.argmax(1)
    changed = np.concatenate([[True], best[1:] != best[:-1]]) if len(best) else np.zeros(0, bool)
    return [int(s) for s in best[changed & (best != scores.shape[1] - 1)]]


@dataclass(frozen=True)
class Words:
    """What a beam search may write: `symbols` are the letters by number, `blank` between words is one of them. `known`
    are the words, None where any is allowed, `counts` of n-grams as tuples of words, up to `order` of them; empty: all
    words are as likely."""

    symbols: list[str]
    known: frozenset[str] | None
    counts: dict
    order: int
    weight: float = 0.5

    def __post_init__(self):
        beginnings = {w[:n] for w in self.known or () for n in range(len(w) + 1)}
        object.__setattr__(self, "beginnings", beginnings)

    def begins(self, part: str) -> bool:
        return self.known is None or part in self.beginnings

    def whole(self, word: str) -> bool:
        return self.known is None or word in self.known

    def likely(self, before: tuple[str, ...], word: str) -> float:
        """The weighted logarithm of how likely a word is behind others."""
        if not self.counts:
            return 0.0
        factor = 1.0
        for n in range(min(self.order - 1, len(before)), -1, -1):
            context = before[len(before) - n :]
            if seen := self.counts.get((*context, word)):
                total = self.counts[context] if n else self.counts[()]
                return self.weight * math.log(factor * seen / total)
            factor *= BACKOFF
        return self.weight * math.log(factor / (self.counts[()] + 1))


def counted(transcripts: list[list[str]], order: int) -> dict:
    """How often each tuple of up to `order` words comes; () is the number of all words."""
    counts: Counter = Counter()
    for words in transcripts:
        counts[()] += len(words)
        for n in range(1, order + 1):
            counts.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    return dict(counts)


def beam(scores: np.ndarray, width: int, words: Words | None = None) -> list[int]:
    """The likeliest sequence of symbols that a prefix beam search finds (Hannun et al. 2014, arXiv:1408.2873): all
    alignments of a prefix count together. With `words` only these, as likely as their n-grams say."""
    blank = scores.shape[1] - 1
    gap = words.symbols.index(" ") if words and " " in words.symbols else None
    # prefix: log-probabilities of its alignments that end in a blank, and in its last symbol
    beams: dict[tuple, tuple[float, float]] = {(): (0.0, -math.inf)}
    told: dict[tuple, tuple] = {(): ((), "", 0.0)}  # whole words, the letters of the last one, what the words weigh
    for frame in scores.astype(float):
        chosen = [int(c) for c in np.argsort(-frame)[: max(width, 8)] if frame[c] > -14]
        found: dict[tuple, list[float]] = defaultdict(lambda: [-math.inf, -math.inf])
        for prefix, (by_blank, by_symbol) in beams.items():
            either = np.logaddexp(by_blank, by_symbol)
            for c in chosen:
                p = float(frame[c])
                if c == blank:
                    found[prefix][0] = np.logaddexp(found[prefix][0], either + p)
                    continue
                longer = (*prefix, c)
                if longer not in told and (after := _extended(told[prefix], c, words, gap)) is not None:
                    told[longer] = after
                if prefix and c == prefix[-1]:
                    found[prefix][1] = np.logaddexp(found[prefix][1], by_symbol + p)
                    if longer in told:
                        found[longer][1] = np.logaddexp(found[longer][1], by_blank + p)
                elif longer in told:
                    found[longer][1] = np.logaddexp(found[longer][1], either + p)
        best = sorted(found, key=lambda x: -(np.logaddexp(*found[x]) + told[x][2]))[:width]
        beams = {prefix: tuple(found[prefix]) for prefix in best}
        told = {prefix: told[prefix] for prefix in best}

    def final(prefix):
        before, part, weight = told[prefix]
        if words and part and not words.whole(part):
            return -math.inf
        return np.logaddexp(*beams[prefix]) + weight + (words.likely(before, part) if words and part else 0.0)

    best = max(beams, key=final)
    if final(best) == -math.inf:  # no beam ends with a whole word
        best = max(beams, key=lambda prefix: np.logaddexp(*beams[prefix]))
    return list(best)


def _extended(state: tuple, symbol: int, words: Words | None, gap: int | None):
    """What is told of a prefix with one symbol more, or None where it may not follow."""
    if words is None:
        return state
    before, part, weight = state
    if gap is None:  # symbols are words
        word = words.symbols[symbol]
        known = words.whole(word)
        return ((*before, word)[-words.order :], "", weight + words.likely(before, word)) if known else None
    if symbol != gap:
        longer = part + words.symbols[symbol]
        return (before, longer, weight) if words.begins(longer) else None
    if not part or not words.whole(part):
        return None
    return (*before, part)[-max(words.order, 1) :], "", weight + words.likely(before, part)


def places(scores: np.ndarray, symbols: list[int]) -> list[tuple[int, int]]:
    """(first frame, behind the last frame) of each symbol in the likeliest alignment of `symbols` with the frames."""
    if not symbols or not len(scores):
        return []
    blank = scores.shape[1] - 1
    states = [blank]
    for s in symbols:
        states += [s, blank]
    n, frames = len(states), len(scores)
    emitted = scores[:, states].astype(float)
    skips = np.array([k >= 2 and states[k] != blank and states[k] != states[k - 2] for k in range(n)])
    best, came = np.full(n, -np.inf), np.zeros((frames, n), np.int8)
    best[:2] = emitted[0, :2]
    for t in range(1, frames):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], best[:-2]]), -np.inf)
        options = np.stack([best, one, two])
        came[t] = options.argmax(0)
        best = options.max(0) + emitted[t]
    state = n - 1 if best[n - 1] >= best[n - 2] else n - 2
    path = np.zeros(frames, int)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= came[t, state]
    found = [np.flatnonzero(path == 2 * k + 1) for k in range(len(symbols))]
    return [(int(f[0]), int(f[-1]) + 1) if len(f) else (0, 0) for f in found]
