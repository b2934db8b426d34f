"""How the next token is chosen, for tasks that answer with text."""

from typing import Annotated, Literal

from pydantic import Field

from tlkeras.config import Section
from tlkeras.errors import ConfigError


class Sampling(Section):
    sampler: Literal["greedy", "top_k", "top_p", "beam", "random"] = Field(
        "greedy",
        description="greedy: the likeliest token; top_k, top_p: drawn among the likeliest; beam: the likeliest of several texts; random.",
    )
    max_tokens: Annotated[int, Field(ge=1)] = Field(64, description="Most tokens that are written.")
    k: Annotated[int, Field(ge=1)] = Field(40, description="top_k: tokens to draw from; top_p: at most so many.")
    p: Annotated[float, Field(gt=0, le=1)] = Field(0.9, description="top_p: their part of the probability.")
    beams: Annotated[int, Field(ge=1)] = Field(4, description="beam: texts that are followed.")
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Below 1 surer, above 1 more varied.")
    sample_seed: Annotated[int, Field(ge=0)] = Field(0, description="Of what is drawn; the same gives the same text.")

    def made(self):
        """The sampler of keras-hub."""
        from keras_hub import samplers

        drawn = {"seed": self.sample_seed, "temperature": self.temperature}
        if self.sampler == "top_k":
            return samplers.TopKSampler(self.k, **drawn)
        if self.sampler == "top_p":
            return samplers.TopPSampler(self.p, self.k, **drawn)
        if self.sampler == "beam":
            return samplers.BeamSampler(self.beams, temperature=self.temperature)
        return samplers.RandomSampler(**drawn) if self.sampler == "random" else samplers.GreedySampler()


def writer(network, role: str, options: Sampling, length: int):
    """Returns a tf.function from texts (n,) to what is written, by keras-hub's own task over the layers of a network,
    which keeps the keys and values of the tokens before.

    Args:
        role: 'CausalLM' or 'Seq2SeqLM', as keras-hub names its classes.
        length: tokens of the prompt and what is written together (CausalLM), or of what is written (Seq2SeqLM).

    Raises:
        ConfigError: when keras-hub has no such task for the network.
    """
    import keras_hub
    import tensorflow as tf

    name = type(network.base).__name__.removesuffix("Backbone")
    task = getattr(keras_hub.models, f"{name}{role}", None)
    if task is None:
        raise ConfigError(f"keras-hub has no {name}{role}, so {network.backbone['name']} cannot write text.")
    lengths = (
        {"sequence_length": length}
        if role == "CausalLM"
        else {"encoder_sequence_length": network.input.length, "decoder_sequence_length": length}
    )
    reading = getattr(keras_hub.models, f"{name}{role}Preprocessor")(network.reader.tokenizer, **lengths)
    made = task(backbone=network.base, preprocessor=reading)
    made.compile(sampler=options.made(), optimizer=None, loss=None)
    stops = [reading.tokenizer.end_token_id]

    # In a graph, as training tokenised: outside of one keras-hub's byte pairs are cut otherwise (0.32).
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def write(text):
        out = made.generate_step(reading.generate_preprocess(text), stops)
        side = "decoder_" if role == "Seq2SeqLM" else ""
        return _text(reading.tokenizer, out[f"{side}token_ids"], out[f"{side}padding_mask"])

    return write


def _text(tokenizer, ids, mask):
    """Ids (n, length) as texts, special ones and what is masked left out. keras-hub's own way works outside of a graph
    only (0.32)."""
    import tensorflow as tf

    special = tf.constant(list(tokenizer.special_token_ids), ids.dtype)
    kept = tf.cast(mask, tf.bool) & tf.reduce_all(tf.not_equal(ids[:, :, None], special), -1)
    return tokenizer.detokenize(tf.ragged.boolean_mask(ids, kept))


def answers(write, samples: list[str], size: int):
    """Yields {'text'} for each prompt, `size` at a time."""
    import tensorflow as tf

    for start in range(0, len(samples), size):
        for text in write(tf.constant(samples[start : start + size])).numpy():
            yield {"text": text.decode("utf8", "replace")}
