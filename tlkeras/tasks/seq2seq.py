"""Sequence to sequence: a text in, a text out, such as a summary or a translation. Judged by BLEU and ROUGE of what is
written for the held-out texts."""

from typing import Annotated

import numpy as np
from pydantic import Field

from tlkeras import metrics as m
from tlkeras import text_metrics
from tlkeras.data import texts
from tlkeras.errors import ConfigError, DataError
from tlkeras.tasks import sampling
from tlkeras.tasks.lm import RECIPE, learnt, logits, loss, metrics, strata

__all__ = ["RECIPE", "learnt", "logits", "loss", "metrics", "strata"]

OUTPUT = "text"
ENCODING = ("most_target",)
NAMES = {"rougeL": "rouge_l", "rouge1": "rouge_1", "rouge2": "rouge_2", "rougeLsum": "rouge_lsum"}

# What each family's decoder begins and ends with, as keras-hub's own preprocessors have it.
DECODER = {
    "BartTokenizer": (("end_token_id", "start_token_id"), ("end_token_id",)),
    "T5Tokenizer": (("pad_token_id",), ("end_token_id",)),
    "T5GemmaTokenizer": (("start_token_id",), ("end_token_id",)),
}


class Options(sampling.Sampling):
    most_target: Annotated[int, Field(ge=4)] = Field(128, description="Tokens of a target; more are cut off.")


def targets(labels, options, classes=None):
    """The texts that are to be written.

    Raises:
        DataError: when one is empty or no text.
    """
    if bad := [i for i, t in enumerate(labels, 1) if not isinstance(t, str) or not t.strip()]:
        raise DataError(
            f"Every sample needs a target text; without one: {', '.join(map(str, bad[:10]))} ({len(bad)} in all)."
        )
    return list(labels), {}


def encode(samples, rows, reader, most_target: int = 128):
    """A row a sample: the source for the encoder, the target for the decoder, and the target one token on."""
    kind = type(reader.tokenizer).__name__
    if kind not in DECODER:
        raise ConfigError(f"task seq2seq needs an encoder-decoder ({', '.join(DECODER)}); this backbone has a {kind}.")
    begin, end = ([int(getattr(reader.tokenizer, name)) for name in names] for names in DECODER[kind])
    inputs, _, owners, _ = texts.encode([(s[0],) for s in samples], None, reader)
    written = reader.ids([t if isinstance(t, str) else "" for t in rows])
    ids = [[*begin, *written[i][: most_target - len(begin) - 1], *end] for i in range(len(written))]
    given, goals = texts.Ragged.of([r[:-1] for r in ids]), texts.Ragged.of([r[1:] for r in ids])
    # The ids before the last of the beginning are given, not learnt.
    for start in goals.splits[:-1]:
        goals.values[start : start + len(begin) - 1] = -1
    return {"encoder_token_ids": inputs["token_ids"], "decoder_token_ids": given}, goals, owners, None


def token_head(states, inputs, base, answer, options):
    """Logits (B, length, vocabulary) of the decoder's tokens, by the transposed embeddings."""
    return logits(base, states)


def respond(trained, samples, batch=None, progress=None):
    """Yields {'text': what is written} for each sample."""
    return sampling.answers(writer(trained), [s[0] for s in samples], batch or 8)


def writer(trained):
    """A tf.function from texts (n,) to what is written."""
    return sampling.writer(trained.network, "Seq2SeqLM", trained.options, trained.options.max_tokens + 3)


def columns(rows, outputs, answer) -> dict:
    return {"label": list(rows), "predicted": [o["text"] for o in outputs]}


def MAIN(answer) -> tuple[str, bool]:
    return "rouge_l", True


def score(table: dict, answer) -> dict:
    references, guesses = [[t] for t in table["label"]], table["predicted"]
    each = text_metrics.rouge_samples(references, guesses)
    values = text_metrics.bleu(references, guesses)

    def figures(rows):
        return {NAMES[name]: float(each[name][rows].mean()) for name in NAMES}

    n = len(guesses)
    numbers = figures(np.arange(n)) | {name: values[name] for name in ("bleu", "chrf")}
    signatures = {name: values[f"{name}_signature"] for name in ("bleu", "chrf")}
    return {"metrics": numbers, "intervals": m.bootstrap(figures, n), "n": n, "signatures": signatures}


def decode(output: dict, answer) -> dict:
    return output
