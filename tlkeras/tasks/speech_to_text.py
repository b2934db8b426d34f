"""Speech to text by a network that brings its own words: an encoder hears, a decoder writes one token after the other.

A recording that is longer than the network's window is cut where it is quietest, and written down piece by piece.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tlkeras import transcripts
from tlkeras.backbones import spoken_tokens, transcribers
from tlkeras.data import dictation, sounds
from tlkeras.errors import DataError, listed
from tlkeras.tasks import sampling, speech_recognition
from tlkeras.tasks.lm import RECIPE, learnt, loss, metrics, strata
from tlkeras.tasks.speech_recognition import MAIN, plain

__all__ = ["MAIN", "RECIPE", "learnt", "loss", "metrics", "strata"]

OUTPUT = "text"
NEVER = -1e9


class Options(sampling.Sampling):
    case: Literal["lower", "upper", "keep"] = Field("keep", description="Of transcripts, before they are learnt.")
    punctuation: Literal["drop", "keep"] = Field(
        "keep", description="Of transcripts; an apostrophe inside a word stays."
    )
    language: str | None = Field(
        None,
        description="Spoken, as Whisper calls it: en, de, fr, ... None: English, the only one that some networks know.",
    )
    translate: bool = Field(False, description="Whisper: write English whatever is spoken.")
    max_tokens: Annotated[int, Field(ge=1)] = Field(128, description="Most tokens that are written of one window.")


def prompt(tokenizer, options: Options) -> tuple[list[int], int]:
    """(ids that the decoder is given first, id of the end)."""
    return spoken_tokens.prompt(tokenizer, options.language, options.translate)


def targets(labels, options: Options, classes=None):
    """The transcripts that are to be written.

    Raises:
        DataError: when one is empty or no text.
    """
    if odd := next((x for x in labels if not isinstance(x, str)), None):
        raise DataError(f"A transcript is one text; received {str(odd)[:60]}. Name one column with data.label.")
    texts = [plain(x, options) for x in labels]  # type: ignore[arg-type]  # it has what `plain` asks for
    if empty := [f"row {i + 1}: {labels[i]!r}" for i, t in enumerate(texts) if not t]:
        raise DataError(listed("Every sound needs a transcript; nothing is left of some", empty))
    return texts, {}


def token_head(states, inputs, base, answer, options):
    """Logits (B, t, vocabulary) of the decoder's tokens, by the transposed embeddings."""
    return base.get_layer(transcribers.EMBEDDING)(states, reverse=True)


def writer(trained):
    """A tf.function from (samples (n, m), count (n,)) to what is written (n,)."""
    import tensorflow as tf
    from keras import ops

    from tlkeras.backbones.encoder_decoder import silence

    network, options = trained.network, trained.options
    base, tokenizer = network.base, network.reader.tokenizer
    begin, end = network.reader.begin, network.reader.end
    layer = {x.name: x for x in base.layers}
    depth = sum(name.startswith("decoder") and name[7:].isdigit() for name in layer)
    decoders = [layer[f"decoder{n}"] for n in range(1, depth + 1)]
    embedding, places, top = (layer.get(n) for n in (transcribers.EMBEDDING, transcribers.PLACES, transcribers.END))
    encoder = transcribers.encoder(base)
    beams = options.beams if options.sampler == "beam" else 1
    length = min(len(begin) + options.max_tokens, network.reader.places or 10**6)
    allowed = np.zeros(embedding.vocabulary, np.float32)
    kept = {i for i in tokenizer.special_token_ids if i is not None and i < len(allowed)}
    allowed[sorted(kept | set(range(tokenizer.vocabulary_size(), len(allowed))))] = NEVER
    allowed[end] = 0

    def write(samples, count):
        given = {"samples": samples, "count": count} if "count" in base.input else samples
        states = encoder(given, training=False)
        heard = layer["heard"](states, count) if "heard" in layer else None
        several = [] if beams == 1 else [beams]

        def each(x):
            return ops.repeat(x, *several, axis=0) if several else x

        unheard = None if heard is None else each(silence(heard))
        frames = [tuple(map(each, d.across.pair(states))) for d in decoders]
        rows, heads = tf.shape(samples)[0], decoders[0].heads
        shape = (rows, depth, 2, heads, length, states.shape[-1] // heads)
        cache = tf.zeros(shape, states.dtype)

        def following(prompt, cache, index):
            at = index - 1
            x = embedding(tf.gather(prompt, [at], axis=1))
            x = x if places is None else places(x, first=at)
            made = []
            for n, decoder in enumerate(decoders):
                x, own = decoder.step(x, cache[:, n], at, frames[n], unheard)
                made.append(own)
            scores = embedding(top(x), reverse=True)[:, 0] + allowed
            # A text that has ended goes on with its end, for sure: what is drawn behind it must not count among beams.
            before = tf.range(tf.shape(prompt)[1])
            ended = tf.reduce_any((prompt == end) & (before >= len(begin)) & (before < index), 1, keepdims=True)
            over = tf.one_hot(end, len(allowed), 0.0, NEVER)
            return tf.where(ended, over, scores), None, tf.ensure_shape(tf.stack(made, 1), cache.shape)

        start = tf.tile(tf.constant([[*begin, *[0] * (length - len(begin))]], tf.int32), [rows, 1])
        known = tf.tile(tf.constant([[n < len(begin) for n in range(length)]]), [rows, 1])
        ids = options.made()(
            following, start, cache=cache, index=1, mask=known, stop_token_ids=[end], model=network.model
        )
        ids = tf.cast(ids, tf.int32)
        ended = tf.cumsum(tf.cast((ids == end) & ~known, tf.int32), axis=1) > 0
        return tf.strings.strip(tokenizer.detokenize(tf.ragged.boolean_mask(ids, ~known & ~ended)))

    wide = network.input.length if network.input.fixed else None
    specs = [tf.TensorSpec([None, wide], tf.float32, name="samples"), tf.TensorSpec([None], tf.int32, name="count")]
    return tf.function(write, input_signature=specs, autograph=False)


def respond(trained, samples, batch=None, progress=None):
    """Yields {'text', 'segments': [{'start', 'end', 'text'}]} for each file, seconds."""
    write, sound = writer(trained), trained.network.input
    waiting: list = []
    if progress:
        progress.start()
    for n, path in enumerate(samples):
        pieces = []
        for part in _few(dictation.stretches(path, sound), batch or 8):
            waves = [x for _, x in part]
            wide = sound.length if sound.fixed else max(max(map(len, waves)), sound.step * 4)
            said = write(sounds.filled(waves, wide), np.array([len(x) for x in waves], np.int32)).numpy()
            pieces += [
                {
                    "start": round(start / sound.rate, 3),
                    "end": round((start + len(x)) / sound.rate, 3),
                    "text": text.decode("utf8", "replace"),
                }
                for (start, x), text in zip(part, said, strict=True)
            ]
        waiting = pieces
        yield {"text": " ".join(p["text"] for p in waiting if p["text"]), "segments": waiting}
        if progress:
            progress.step("write", n + 1, len(samples))


def _few(items, size: int):
    some = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def columns(rows, outputs, answer) -> dict:
    return {"label": list(rows), "predicted": [o["text"] for o in outputs]}


def score(table: dict, answer) -> dict:
    """As of speech-recognition; 'wer_plain' leaves case and punctuation out on both sides."""
    found = speech_recognition.score(table, answer)
    usual = speech_recognition.Options()
    both = ([plain(t, usual) for t in table[k]] for k in ("label", "predicted"))
    counted = transcripts.counts(*both)
    found["metrics"]["wer_plain"] = transcripts.rates(counted, np.arange(len(table["label"])))["wer"]
    return found


def decode(output: dict, answer) -> dict:
    return output
