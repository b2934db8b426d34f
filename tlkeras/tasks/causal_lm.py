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
    options = trained.options
    prompts = [s[0] for s in samples]
    longest = int(trained.network.reader.ids(prompts).lengths.max(initial=1))
    made = sampling.writer(trained.network, "CausalLM", options, min(longest + 2 + options.max_tokens, _most(trained)))
    for start in range(0, len(prompts), batch or 8):
        for text in made.generate(prompts[start : start + (batch or 8)]):
            yield {"text": text}


def _most(trained) -> int:
    return getattr(trained.network.base, "max_sequence_length", None) or 4096
