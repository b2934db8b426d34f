"""Token classification: a tag for every word, such as the names of persons and places (B-PER I-PER O).

Words come as a list, or as a text with a blank between them, and as many tags. A word of several tokens is tagged by
its first (Devlin et al. 2019, arXiv:1810.04805, section 5.3).
"""

import re
from typing import Annotated

import numpy as np
from pydantic import Field

from tlkeras import metrics as m
from tlkeras import text_metrics
from tlkeras.config import Section
from tlkeras.data import texts
from tlkeras.errors import DataError, listed, nearest
from tlkeras.tasks.lm import strata

__all__ = ["strata"]

OUTPUT = "scores"


class Options(Section):
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Part of the features left out before the head while training."
    )


def targets(labels, options: Options, classes=None):
    """The tags of each sample as numbers, and {'classes'}: the tags.

    Raises:
        DataError: for empty tags, or tags not among `classes`.
    """
    cells = [c for label in labels for c in (label if isinstance(label, list) else [label])]
    if odd := next((c for c in cells if not isinstance(c, str)), None):
        raise DataError(f"Tags are a list of texts, or a text with blanks between them; received {str(odd)[:60]}.")
    tags = [label if isinstance(label, list) else str(label).split() for label in labels]
    if empty := [i + 1 for i, row in enumerate(tags) if not row or "" in row]:
        raise DataError(
            f"Every word needs a tag; samples without: {', '.join(map(str, empty[:10]))} ({len(empty)} in all)."
        )
    found = sorted({t for row in tags for t in row})
    names = list(classes) if classes else sorted(found, key=lambda t: (t != "O", t))
    if strange := [t for t in found if t not in set(names)]:
        raise DataError(f"Tags that data.classes does not list: {', '.join(strange[:10])}.{nearest(strange[0], names)}")
    number = {t: i for i, t in enumerate(names)}
    return [np.array([number[t] for t in row], np.int32) for row in tags], {"classes": names}


def learnt(rows, train, answer, options):
    return rows, np.ones(len(rows), np.float32), answer


def encode(samples, rows, reader):
    """Rows of as many words as the network takes; the target stands at the first token of each word."""
    tokens = reader.tokens
    tagged = len(rows) > 0 and not isinstance(rows, np.ndarray)
    places = [_split(s[0]) if tagged else texts.places(s[0], reader.tokenizer) for s in samples]
    if tagged:
        _check(samples, rows, places)
    pieces = [reader.ids([_word(s[0], p) for p in spans]) for s, spans in zip(samples, places, strict=True)]
    room = tokens.length - len(tokens.start) - len(tokens.end)
    ids, targets_, owners, spans = [], [], [], []
    for n, (found, words) in enumerate(zip(pieces, places, strict=True)):
        for first, last in _windows(found.lengths, room):
            row, target, firsts = list(tokens.start), [-1] * len(tokens.start), []
            for w in range(first, last):
                piece = list(found[w])[:room] or [tokens.pad]
                firsts.append(len(row))
                row += piece
                target += [int(rows[n][w]) if tagged else -1] + [-1] * (len(piece) - 1)
            ids.append(row + list(tokens.end))
            targets_.append(target + [-1] * len(tokens.end))
            owners.append(n)
            spans.append((samples[n][0], words[first:last], firsts))
    ragged = texts.Ragged.of(ids)
    return texts.plain_inputs(ragged, tokens), texts.Ragged.of(targets_), np.array(owners, int), spans


def _split(text: str) -> list[tuple[int, int]]:
    return [w.span() for w in re.finditer(r"[^ ]+", text)]


def _word(text: str, place) -> str:
    """A word with the blank before it, which tells byte pairs that a word begins."""
    begin, end = place
    return (" " if begin and text[begin - 1].isspace() else "") + text[begin:end]


def _check(samples, rows, places) -> None:
    wrong = [
        f"{len(p)} words and {len(r)} tags: {s[0][:60]}"
        for s, r, p in zip(samples, rows, places, strict=True)
        if len(p) != len(r)
    ]
    if wrong:
        raise DataError(listed("Every word needs one tag; a word may hold no blank", wrong))


def _windows(lengths, room: int):
    """(first, last) words of rows that hold `room` tokens."""
    first, used = 0, 0
    for w, n in enumerate(np.clip(lengths, 1, room)):
        if used + n > room:
            yield first, w
            first, used = w, 0
        used += n
    yield first, len(lengths)


def token_head(states, inputs, base, answer, options: Options):
    from keras import layers

    x = layers.Dropout(options.dropout, name="head_dropout")(states)
    return layers.Dense(len(answer["classes"]), dtype="float32", name="head_logits")(x)


def loss(options):
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def metrics(options) -> list:
    import keras

    return [keras.metrics.SparseCategoricalAccuracy("accuracy")]


def finish(raw, answer):
    from keras import ops

    return ops.softmax(raw, axis=-1)


def gather(rows, table, answer) -> list[dict]:
    """For each sample its text, the places of its words, and their scores (words, tags)."""
    found: dict[int, dict] = {}
    for row, owner, (text, words, firsts) in zip(rows, table.owners, table.spans, strict=True):
        one = found.setdefault(int(owner), {"text": text, "words": [], "scores": []})
        one["words"] += words
        one["scores"] += [row[f] for f in firsts]
    return [found[k] for k in sorted(found)]


def _tags(output: dict, answer) -> list[str]:
    return [answer["classes"][int(np.argmax(s))] for s in output["scores"]]


def columns(rows, outputs, answer) -> dict:
    return {
        "label": [[answer["classes"][t] for t in row] for row in rows],
        "predicted": [_tags(o, answer) for o in outputs],
        "text": [o["text"] for o in outputs],
    }


def _scheme(answer) -> str | None:
    """How tags name entities: B- and I-, or each tag by itself."""
    return None if any(c.startswith(("B-", "I-")) for c in answer["classes"]) else "plain"


def MAIN(answer) -> tuple[str, bool]:
    """Whole entities where the tags name any, else single words."""
    return ("accuracy" if _scheme(answer) else "f1"), True


def score(table: dict, answer) -> dict:
    true, guess, scheme = table["label"], table["predicted"], _scheme(answer)
    types, counts = text_metrics.entity_counts(true, guess, scheme)
    words = np.array([len(t) for t in true], float)
    right = np.array([sum(a == b for a, b in zip(t, g, strict=True)) for t, g in zip(true, guess, strict=True)], float)

    def figures(rows):
        entities = text_metrics.scores_of_counts(types, counts[rows].sum(0))
        found = {k: entities[k] for k in ("f1", "precision", "recall", "macro_f1")}
        return found | {"accuracy": float(right[rows].sum() / max(words[rows].sum(), 1))}

    n = len(true)
    per_class = text_metrics.entity_scores(true, guess, scheme)["per_class"]
    return {
        "metrics": figures(np.arange(n)),
        "intervals": m.bootstrap(figures, n, times=1000 if n <= 20_000 else 200),
        "per_class": per_class if per_class["class"] else None,
        "n": n,
    }


def decode(output: dict, answer) -> dict:
    """{'entities': [{'type', 'text', 'start', 'end', 'score'}], 'tags'}: places in the text as it was given."""
    tags, words = _tags(output, answer), output["words"]
    found = []
    for kind, first, last in text_metrics.entities(tags, _scheme(answer)):
        start, end = words[first][0], words[last][1]
        sure = float(np.mean([max(output["scores"][w]) for w in range(first, last + 1)]))
        found.append(
            {"type": kind, "text": output["text"][start:end], "start": start, "end": end, "score": round(sure, 6)}
        )
    return {"entities": found, "tags": tags}


def serving(scores, answer) -> dict:
    """The scores (n, length, tags) of every token, and the likeliest tag of each."""
    import tensorflow as tf

    return {"scores": scores, "tags": tf.gather(tf.constant(answer["classes"]), tf.argmax(scores, -1))}
