"""Speech recognition by connectionist temporal classification (Graves et al. 2006): a symbol or a blank for every frame.

Frames of a batch that lie behind a sound say blank for sure, whatever the network says. So the loss over all frames
is that over the true ones, and a transcript needs no lengths beside it, in artefacts neither.
"""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from tlkeras import ctc, transcripts
from tlkeras import metrics as m
from tlkeras.config import Section
from tlkeras.errors import DataError, UsageError, listed
from tlkeras.tasks.lm import strata

__all__ = ["strata"]

OUTPUT = "scores"
RECIPE = "all"
WORST = 10  # transcripts whose alignment is kept
SURE = 1e9


class Options(Section):
    units: Literal["characters", "words"] = Field(
        "characters", description="What the network writes. words: from a small vocabulary that training holds whole."
    )
    case: Literal["lower", "upper", "keep"] = Field("lower", description="Of transcripts, before they are learnt.")
    punctuation: Literal["drop", "keep"] = Field(
        "drop", description="Of transcripts; an apostrophe inside a word stays."
    )
    decoder: Literal["greedy", "beam"] = Field(
        "greedy", description="beam weighs whole transcripts and knows words; slower. Artefacts are greedy."
    )
    beam: Annotated[int, Field(ge=1, le=1000)] = Field(16, description="Beam: transcripts that are followed at a time.")
    lexicon: str | None = Field(
        None,
        description="Beam: training, for the words of the training transcripts, or a file with a word a line. None: any.",
    )
    ngram: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="Beam: weigh words by those before them, up to so many together, as in training. 0: not."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Part of the features left out before the head while training."
    )


def plain(text: str, options: Options) -> str:
    """A transcript as it is learnt: case, punctuation and blanks as the options say."""
    text = unicodedata.normalize("NFC", str(text))
    text = {"lower": text.lower(), "upper": text.upper(), "keep": text}[options.case]
    if options.punctuation == "drop":
        text = text.replace("\u2019", "'")
        kept = (c if unicodedata.category(c)[0] not in "PS" or c == "'" else " " for c in text)
        text = " ".join(w.strip("'") for w in "".join(kept).split())
    return " ".join(text.split())


def targets(labels, options: Options, classes=None):
    """The symbols of each transcript as numbers, and {'classes', 'units', ...}: the symbols, and how they are read.

    Raises:
        DataError: for empty transcripts, or symbols not among `classes`.
    """
    if odd := next((x for x in labels if not isinstance(x, str)), None):
        raise DataError(f"A transcript is one text; received {str(odd)[:60]}. Name one column with data.label.")
    texts = [plain(x, options) for x in labels]
    if empty := [f"row {i + 1}: {labels[i]!r}" for i, t in enumerate(texts) if not t]:
        raise DataError(listed("Every sound needs a transcript; nothing is left of some", empty))
    parts = [t.split() if options.units == "words" else list(t) for t in texts]
    found = Counter(x for p in parts for x in p)
    names = list(classes) if classes else sorted(found)
    if strange := {x for x in found if x not in set(names)}:
        where = [
            f"row {i + 1}: {''.join(sorted(strange & set(p)))!r} in {t!r}"
            for i, (p, t) in enumerate(zip(parts, texts, strict=True))
            if strange & set(p)
        ]
        raise DataError(
            listed(
                f"Transcripts hold {', '.join(map(repr, sorted(strange)[:20]))}, which data.classes does not list",
                where,
            )
        )
    number = {x: i for i, x in enumerate(names)}
    answer = {"classes": names, "units": options.units, "decoder": options.decoder, "beam": options.beam}
    return [np.array([number[x] for x in p], np.int32) for p in parts], answer


def learnt(rows, train, answer, options: Options):
    """The rows, weights of 1, and the answer with the words that a beam search may know."""
    said = [text_of(rows[i], answer).split() for i in train]
    words = None
    if options.lexicon == "training":
        words = sorted({w for s in said for w in s})
    elif options.lexicon:
        path = Path(options.lexicon)
        if not path.is_file():
            raise UsageError(f"task.lexicon: {path} is no file; expected a word a line, or 'training'.")
        words = sorted({plain(line, options) for line in path.read_text("utf8").splitlines()} - {""})
    grams = [[*key, n] for key, n in ctc.counted(said, options.ngram).items()] if options.ngram else []
    return rows, np.ones(len(rows), np.float32), {**answer, "words": words, "ngrams": grams, "order": options.ngram}


def text_of(numbers, answer) -> str:
    """The transcript that numbers of symbols stand for."""
    return (" " if answer["units"] == "words" else "").join(answer["classes"][int(i)] for i in numbers)


def symbols(answer) -> list[str]:
    """A name for every column of the scores, to be shown: no symbol is blank, and the last is CTC's blank."""
    return [*("<space>" if x == " " else x for x in answer["classes"]), "<blank>"]


def frame_head(features, frames, answer, options: Options):
    """Logits (B, f, symbols + 1) from features (B, f, c) of which the first `frames` (B,) are sound."""
    import keras
    from keras import layers, ops

    x = layers.Dropout(options.dropout, name="head_dropout")(features)
    x = layers.Dense(len(answer["classes"]) + 1, dtype="float32", name="head_logits")(x)
    silent = np.full(len(answer["classes"]) + 1, -SURE, np.float32)
    silent[-1] = SURE

    @keras.saving.register_keras_serializable("tlkeras")
    class Silence(layers.Layer):
        """The logits of frames behind the sound: blank, for sure."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def compute_mask(self, *masks):
            return None  # the loss would multiply by it

        def call(self, logits, frames):
            places = ops.expand_dims(ops.arange(ops.shape(logits)[1], dtype="int32"), 0)
            heard = ops.cast(ops.less(places, ops.expand_dims(frames, 1)), "float32")
            heard = ops.expand_dims(heard, -1)
            return logits * heard + ops.convert_to_tensor(silent) * (1 - heard)

        def compute_output_shape(self, logits_shape, frames_shape):
            return logits_shape

    return Silence(dtype="float32", name="head_silence")(x, frames)


def loss(options: Options):
    import keras
    from keras import ops

    class Alignments(keras.losses.Loss):
        """Minus the log-probability of all alignments of a transcript, by its length; targets are padded with -1."""

        def call(self, y, raw):
            y = ops.cast(y, "int32")
            length = ops.sum(ops.cast(y >= 0, "int32"), 1)
            rows, frames, blank = ops.shape(raw)[0], ops.shape(raw)[1], raw.shape[-1] - 1
            every = ops.zeros((rows,), "int32") + frames
            # keras.losses.CTC takes every frame and every label for true (Keras 3.15).
            found = ops.ctc_loss(ops.maximum(y, 0), raw, length, every, mask_index=blank)
            return found / ops.cast(ops.maximum(length, 1), found.dtype)

    return Alignments()


def metrics(options: Options) -> list:
    return []


def finish(raw, answer):
    from keras import ops

    # What is impossible has a logit of -1e9; nobody needs to know by how much.
    return ops.maximum(ops.log_softmax(raw, axis=-1), -100.0)


def gather(rows, table, answer) -> list[dict]:
    """For each sound {'scores' (frames, symbols + 1), 'step', 'start'}: of overlapping windows the frames that are
    nearest to the middle of one; seconds of a frame, and where the first begins."""
    found = []
    for owner in dict.fromkeys(table.owners.tolist()):
        mine = np.flatnonzero(table.owners == owner)
        begins = (table.starts[mine] - table.starts[mine[0]]) // table.step
        ends = begins + np.minimum([len(rows[i]) for i in mine], table.counts[mine] // table.step + 1)
        cuts = [0, *((ends[:-1] + begins[1:]) // 2), ends[-1]]
        parts = [rows[i][cuts[k] - begins[k] : cuts[k + 1] - begins[k]] for k, i in enumerate(mine)]
        start = float(table.starts[mine[0]]) / table.rate
        found.append({"scores": np.concatenate(parts), "step": table.step / table.rate, "start": start})
    return found


def read(scores, answer) -> list[int]:
    """The numbers of the symbols that log-probabilities (frames, symbols + 1) say."""
    if answer["decoder"] == "greedy":
        return ctc.greedy(scores)
    words = None
    if answer.get("words") or answer.get("order"):
        counts = {tuple(row[:-1]): row[-1] for row in answer["ngrams"]}
        known = frozenset(answer["words"]) if answer["words"] else None
        words = ctc.Words(answer["classes"], known, counts, max(answer["order"], 1))
    return ctc.beam(scores, answer["beam"], words)


def columns(rows, outputs, answer) -> dict:
    return {
        "label": [text_of(r, answer) for r in rows],
        "predicted": [text_of(read(o["scores"], answer), answer).strip() for o in outputs],
    }


def MAIN(answer) -> tuple[str, bool]:
    return "wer", False


def score(table: dict, answer) -> dict:
    """WER, CER and the part of transcripts with an error; 'worst': alignments of those with most errors a word."""
    truth, said = table["label"], table["predicted"]
    counted = transcripts.counts(truth, said)
    n = len(truth)
    each = counted["word_errors"] / np.maximum(counted["words"], 1)
    worst = [i for i in np.argsort(-each, kind="stable")[:WORST] if counted["word_errors"][i]]
    return {
        "metrics": transcripts.rates(counted, np.arange(n)),
        "intervals": m.bootstrap(lambda rows: transcripts.rates(counted, rows), n, times=1000 if n <= 20_000 else 200),
        "worst": [
            {
                "id": table["id"][i],
                "wer": float(each[i]),
                "alignment": transcripts.written(transcripts.aligned(truth[i].split(), said[i].split())),
            }
            for i in worst
        ],
        "n": n,
    }


def decode(output: dict, answer) -> dict:
    """{'text', 'words': [{'word', 'start', 'end', 'score'}]}: seconds, and how sure the network was of the word's frames."""
    scores, step, start = output["scores"], output["step"], output["start"]
    numbers = read(scores, answer)
    found: list[dict[str, Any]] = []
    open_: dict[str, Any] | None = None
    for number, (first, last) in zip(numbers, ctc.places(scores, numbers), strict=True):
        symbol = answer["classes"][number]
        if symbol == " ":
            open_ = None
            continue
        if open_ is None or answer["units"] == "words":
            open_ = {"word": "", "first": first, "sure": []}
            found.append(open_)
        open_["word"] += symbol
        open_["last"] = last
        open_["sure"].append(float(scores[first:last, number].max()) if last > first else 0.0)
    words = [
        {
            "word": w["word"],
            "start": round(start + w["first"] * step, 3),
            "end": round(start + w["last"] * step, 3),
            "score": round(float(np.exp(np.mean(w["sure"]))), 4),
        }
        for w in found
    ]
    return {"text": text_of(numbers, answer).strip(), "words": words}


def serving(scores, answer) -> dict:
    """The log-probabilities (n, frames, symbols + 1), and the text of the likeliest symbol of every frame."""
    import tensorflow as tf

    blank = len(answer["classes"])
    best = tf.argmax(scores, -1, tf.int32)
    before = tf.pad(best, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    kept = (best != before) & (best != blank)
    symbols = tf.gather(tf.constant([*answer["classes"], ""]), best)
    said = tf.ragged.boolean_mask(symbols, kept)
    text = tf.strings.reduce_join(said, axis=1, separator=" " if answer["units"] == "words" else "")
    return {"scores": scores, "text": tf.strings.strip(text)}
