"""Extractive question answering: the span of a context that answers a question (SQuAD: Rajpurkar et al. 2016 and 2018,
arXiv:1606.05250, arXiv:1806.03822).

A context that is too long is read through windows that overlap. A question without an answer is answered by the first
token of the window.
"""

import re
from typing import Annotated

import numpy as np
from pydantic import Field

from tlkeras import metrics as m
from tlkeras import text_metrics
from tlkeras.config import Section
from tlkeras.data import texts
from tlkeras.errors import DataError, listed
from tlkeras.tasks.lm import strata

__all__ = ["strata"]

OUTPUT = "scores"
ENCODING = ("stride",)
MOST_QUESTION = 64  # tokens


class Options(Section):
    stride: Annotated[int, Field(ge=1)] = Field(128, description="Tokens that two windows of a long context share.")
    max_answer: Annotated[int, Field(ge=1)] = Field(30, description="Most tokens of an answer.")
    n_best: Annotated[int, Field(ge=1)] = Field(5, description="Answers that predict lists.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Part of the features left out before the head while training."
    )


def targets(labels, options: Options, classes=None):
    """[{'text': [...], 'answer_start': [...]}] as SQuAD has them; several answers are ways to say it, none means none.

    Raises:
        DataError: for labels of another form.
    """
    rows, bad = [], []
    for i, label in enumerate(labels, 1):
        row = label if isinstance(label, dict) else {}
        text, start = (_listed(row.get(k)) for k in ("text", "answer_start"))
        try:
            rows.append({"text": [str(t) for t in text], "answer_start": [int(s) for s in start]})
            if "text" not in row or len(text) != len(start):
                raise ValueError
        except (TypeError, ValueError):
            bad.append(f"sample {i}: {str(label)[:80]}")
    if bad:
        raise DataError(
            listed("Question answering reads answers as {text: [...], answer_start: [...]}, as many of each", bad)
        )
    answer = {"unanswerable": any(not r["text"] for r in rows)}
    return rows, answer | {k: getattr(options, k) for k in ("stride", "max_answer", "n_best")}


def _listed(value) -> list:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def learnt(rows, train, answer, options):
    return rows, np.ones(len(rows), np.float32), answer


def encode(samples, rows, reader, stride: int = 128):
    """Rows of the question and a window of the context; targets are the first and last token of the answer."""
    tokens = reader.tokens
    asked = isinstance(rows, list)
    if asked:
        _check(samples, rows)
    questions = reader.ids([s[0] for s in samples])
    ids, segments, goals, owners, spans = [], [], [], [], []
    for n, (_, context) in enumerate(samples):
        pieces, places = _context(context, reader)
        head = [*tokens.start, *questions[n][: most_question(tokens)], *tokens.middle]
        room = tokens.length - len(head) - len(tokens.end)
        step = max(room - stride, room // 2, 1)
        for first in range(0, max(len(pieces) - room, 0) + step, step):
            part = pieces[first : first + room]
            if not part and first:
                break
            here = places[first : first + room]
            ids.append([*head, *part, *tokens.end])
            segments.append([0] * len(head) + [1] * (len(part) + len(tokens.end)))
            owners.append(n)
            spans.append((context, len(head), here))
            goals.append(_goal(rows[n], here, len(head)) if asked else (0, 0))
            if first + room >= len(pieces):
                break
    inputs = {"token_ids": texts.Ragged.of(ids)}
    if tokens.segments:
        inputs["segment_ids"] = texts.Ragged.of(segments)
    return inputs, np.array(goals, np.float32).reshape(-1, 2), np.array(owners, int), spans


def most_question(tokens) -> int:
    """Tokens of a question that are read: no more than half of what the network takes."""
    free = tokens.length - len(tokens.start) - len(tokens.middle) - len(tokens.end)
    return min(MOST_QUESTION, free // 2)


def _context(context: str, reader) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a context and the place of each one's word. Words are cut where the tokenizers themselves cut,
    but SentencePiece: it knows no border but blanks."""
    if "SentencePiece" in _kind(reader.tokenizer):
        words = [w.span() for w in re.finditer(r"\S+", context)]
    else:
        words = texts.places(context, reader.tokenizer)
    found = reader.ids([(" " if b and context[b - 1].isspace() else "") + context[b:e] for b, e in words])
    return found.values.tolist(), [place for place, k in zip(words, found.lengths, strict=True) for _ in range(k)]


def _kind(tokenizer) -> str:
    return " ".join(c.__name__ for c in type(tokenizer).__mro__)


def _goal(row: dict, places, offset: int) -> tuple[int, int]:
    """The first answer's tokens in a window, or the first token of all where it is not whole inside."""
    if not row["text"]:
        return 0, 0
    text, begin = row["text"][0], row["answer_start"][0]
    end = begin + len(text.rstrip())
    begin += len(text) - len(text.lstrip())
    inside = [i for i, (b, e) in enumerate(places) if b < end and e > begin]
    whole = inside and places[inside[0]][0] <= begin and places[inside[-1]][1] >= end
    return (offset + inside[0], offset + inside[-1]) if whole else (0, 0)


def _check(samples, rows) -> None:
    wrong = [
        f"{context[start : start + len(text)]!r} stands at {start}, not {text!r}"
        for (_, context), row in zip(samples, rows, strict=True)
        for text, start in zip(row["text"], row["answer_start"], strict=True)
        if context[start : start + len(text)] != text
    ]
    if wrong:
        raise DataError(listed("An answer must stand in its context at answer_start (in characters)", wrong))


def token_head(states, inputs, base, answer, options: Options):
    """Logits (B, 2, length): where the answer begins and where it ends."""
    from keras import layers, ops

    x = layers.Dropout(options.dropout, name="head_dropout")(states)
    x = layers.Dense(2, dtype="float32", name="head_span")(x)
    x = layers.Permute((2, 1), name="head_turn")(x)
    if "padding_mask" not in inputs:
        return x
    return x + (ops.cast(ops.expand_dims(inputs["padding_mask"], 1), "float32") - 1.0) * 1e9


def loss(options):
    import keras
    from keras import ops

    class Span(keras.losses.Loss):
        """The mean of both ends' crossentropy, one number a row."""

        def call(self, ends, raw):
            return ops.mean(keras.losses.sparse_categorical_crossentropy(ends, raw, from_logits=True), -1)

    return Span()


def metrics(options) -> list:
    import keras
    from keras import ops

    def exact(ends, raw):
        same = ops.equal(ops.cast(ends, "int32"), ops.cast(ops.argmax(raw, -1), "int32"))
        return ops.cast(ops.all(same, -1), "float32")

    return [keras.metrics.MeanMetricWrapper(exact, name="accuracy")]


def finish(raw, answer):
    from keras import ops

    # What is masked has a logit of -1e9; nobody needs to know by how much it is impossible.
    return ops.maximum(ops.log_softmax(raw, axis=-1), -100.0)


def gather(rows, table, answer) -> list[list[dict]]:
    """The best spans of each sample over all its windows: [{'text', 'start', 'end', 'score'}], the best first."""
    found: dict[int, list] = {}
    nothing: dict[int, float] = {}
    for row, owner, (context, offset, places) in zip(rows, table.owners, table.spans, strict=True):
        n, (first, last) = int(owner), row[:, offset : offset + len(places)]
        if answer["unanswerable"]:
            nothing[n] = min(nothing.get(n, np.inf), float(row[0, 0] + row[1, 0]))
        for i in np.argsort(-first)[:20]:
            for j in np.argsort(-last)[:20]:
                if i <= j < i + answer["max_answer"]:
                    begin, end = places[i][0], places[j][1]
                    found.setdefault(n, []).append((float(first[i] + last[j]), begin, end, context[begin:end]))
        found.setdefault(n, [])
    return [_best(found[n], nothing.get(n), answer["n_best"]) for n in sorted(found)]


def _best(spans: list, nothing: float | None, many: int) -> list[dict]:
    if nothing is not None:
        spans = [*spans, (nothing, 0, 0, "")]
    once: dict[str, tuple] = {}
    for span in sorted(spans, key=lambda s: -s[0]):
        once.setdefault(span[3], span)
    top = list(once.values())[:many] or [(0.0, 0, 0, "")]
    odds = np.exp(np.array([s[0] for s in top]) - top[0][0])
    return [
        {"text": t, "start": b, "end": e, "score": round(float(p), 6)}
        for (_, b, e, t), p in zip(top, odds / odds.sum(), strict=True)
    ]


def columns(rows, outputs, answer) -> dict:
    return {
        "label": [r["text"] for r in rows],
        "predicted": [o[0]["text"] for o in outputs],
        "score": [float(o[0]["score"]) for o in outputs],
    }


def MAIN(answer) -> tuple[str, bool]:
    return "f1", True


def score(table: dict, answer) -> dict:
    each = text_metrics.squad_samples(table["label"], table["predicted"])

    def figures(rows):
        return {name: float(each[name][rows].mean()) for name in ("f1", "exact_match")}

    n = len(table["label"])
    return {"metrics": figures(np.arange(n)), "intervals": m.bootstrap(figures, n), "n": n}


def decode(output: list[dict], answer) -> dict:
    """{'answer', 'start', 'end', 'score', 'n_best'}: places are characters of the context."""
    best = output[0]
    return {
        "answer": best["text"],
        "start": best["start"],
        "end": best["end"],
        "score": best["score"],
        "n_best": output,
    }


def serving(scores, answer) -> dict:
    """Log-probabilities (n, 2, length) of each token to be the first and the last of the answer."""
    return {"scores": scores}
