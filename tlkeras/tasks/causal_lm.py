"""Causal language modelling: learns to go on with a text; answers a prompt with what follows it."""

import numpy as np

from tlkeras.data import texts
from tlkeras.tasks import sampling
from tlkeras.tasks.lm import MAIN, RECIPE, columns, judged, learnt, logits, loss, metrics, score, strata, targets

__all__ = ["MAIN", "RECIPE", "columns", "judged", "learnt", "logits", "loss", "metrics", "score", "strata", "targets"]

OUTPUT = "text"


class Options(sampling.Sampling):
    pass


def encode(samples, rows, reader):
    """Rows of as much text as the network takes; the target of each token is the next, of the last none."""
    ids, owners = texts.chunks(samples, reader)
    following = np.append(ids.values[1:], -1)
    following[ids.splits[1:] - 1] = -1
    return texts.plain_inputs(ids, reader.tokens), texts.Ragged(following.astype("int32"), ids.splits), owners, None


def token_head(states, inputs, base, answer, options):
    """Logits (B, length, vocabulary), by the transposed embeddings; GPT-2 and its kin have no other head."""
    return logits(base, states)


def respond(trained, samples, batch=None, progress=None):
    """Yields {'text': the prompt and what follows} for each sample."""
    prompts = [s[0] for s in samples]
    found: dict[int, dict] = {}
    lengths = trained.network.reader.ids(prompts).lengths
    # Prompts of one length at a time, so that each is gone on with for as many tokens.
    for n in sorted(set(lengths)):
        rows = [i for i, k in enumerate(lengths) if k == n]
        write = writer(trained, int(n))
        found |= zip(rows, sampling.answers(write, [prompts[i] for i in rows], batch or 8), strict=True)
    return (found[i] for i in range(len(prompts)))


def writer(trained, prompt: int | None = None):
    """A tf.function from prompts (n,) of up to so many tokens to texts; None: as many as the network's rows hold."""
    most = getattr(trained.network.base, "max_sequence_length", None) or trained.network.input.length
    room = (prompt or trained.network.input.length) + 1 + trained.options.max_tokens
    return sampling.writer(trained.network, "CausalLM", trained.options, min(room, most))
