"""How the next token is chosen, for tasks that answer with text."""

from typing import Annotated, Literal

from pydantic import Field

from tlkeras.config import Section


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
    """keras-hub's own task over the layers of a network, which knows how to write text step by step.

    Args:
        role: 'CausalLM' or 'Seq2SeqLM', as keras-hub names its classes.
        length: tokens of the prompt and what is written together (CausalLM), or of what is written.
    """
    import keras_hub

    name = type(network.base).__name__.removesuffix("Backbone")
    task, preprocessor = (getattr(keras_hub.models, f"{name}{role}{end}") for end in ("", "Preprocessor"))
    lengths = (
        {"sequence_length": length}
        if role == "CausalLM"
        else {"encoder_sequence_length": network.input.length, "decoder_sequence_length": length}
    )
    made = task(backbone=network.base, preprocessor=preprocessor(network.reader.tokenizer, **lengths))
    made.compile(sampler=options.made(), optimizer=None, loss=None)
    return made
