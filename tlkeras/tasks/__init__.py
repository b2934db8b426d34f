"""Tasks: what is learned. One module per task; each offers the same few names.

Options                           the record of what the config may set
targets(labels, options, classes) -> (float32 (n, k), answer)      `answer` is plain data that tells what
                                                                   the k outputs mean; it travels with the model
learnt(targets, train, answer, options) -> (targets, weights (n,), answer)   as the loss sees them; `train`
                                                                   are the training rows, the only ones to learn
                                                                   a scale or class weights from
head(features, answer, options)   -> raw outputs (B, k)            layers named head_*
loss(options), metrics(options)   for compile, on raw outputs
finish(raw, answer)               -> what a person sees: probabilities, values in their unit (keras.ops)
strata(targets, answer)           -> class number per sample, or None where there is none
columns(targets, outputs, answer) -> columns of the predictions file
score(table, answer)              -> metrics, from the predictions file alone
MAIN(answer)                      -> (metric, True when higher is better)
decode(output, answer)            -> the answer to one sample, as plain data
serving(outputs, answer)          -> the answers to a batch, as named TensorFlow tensors
OUTPUT                            the name in `serving` of the tensor that `score` needs

Tasks on places in images offer more, and `maps` instead of `head`:

ANNOTATIONS                       'boxes' or 'masks': what the labels are, see data.box_sources
maps(levels, size, answer, options)   raw outputs from {stride: feature map}; layers named neck_* and head_*
NEW                               the blocks that begin at random
columns, decode, serving          take the sizes of the pictures, (height, width): in their targets, as `size`, as `sizes` (B, 2)
apart(got, expected)              -> (how far two sets of outputs are apart, how much of that rounding explains)

Several tasks at once (several.py) offer `heads` instead of `head` and `maps`, and

bind(options, answer)             -> options for `loss` and `metrics`, which know what the outputs are
balanced(trained, network, options)   the model as it is trained
told(network, options)            what is learnt besides, for the history
named(outputs, answer), joined(named, answer)   outputs by name, as an artefact gives them, and back

A task on images and the same on texts or sounds share a module. Tasks on texts and sounds may offer more:

encode(samples, targets, reader)  -> (inputs, targets, owners, spans), see data.texts: rows other than one a sample
token_head(states, inputs, base, answer, options)   instead of `head`: from the states of the tokens (B, length, c);
                                                    INPUTS are further inputs of the network
frame_head(features, frames, answer, options)       instead of `head`, of sounds: from the features of the frames (B, f, c),
                                                    of which the first `frames` (B,) hold sound; targets are symbols
symbols(answer)                   with `frame_head`: a name for every column of the outputs
change(reader, options)           -> f(x, y, w, key): what is drawn anew for every batch, such as masked tokens
RECIPE                            the phases that suit it where the config gives none
STRINGS                           with `encode`: True where an artefact can take the texts all the same
ENCODING                          the options that `encode` takes
together(samples)                 how many rows stay side by side in every batch
gather(rows, table, answer)       -> what `columns` and `decode` take, one a sample, from the outputs of its rows
judged(raw, y, w)                 instead of outputs: (B, 3), what a language model makes of the targets, in the graph
respond(trained, samples, ...)    instead of outputs: the answers as plain data, written text by text
writer(trained)                   with it: a tf.function from texts to texts, for a SavedModel; of sounds from (samples, count)
prompt(tokenizer, options)        of sounds: (ids that the decoder is given first, id of the end)
"""

import importlib
from dataclasses import dataclass

from tlkeras.errors import UsageError, nearest


@dataclass(frozen=True)
class Wanted:
    """What a task on text or sound reads: the usual names of its text columns, whether each sample needs a label, and
    whether two texts do as well as one. `whole`: the label is written out along the sound, which is not to be cut."""

    texts: tuple[str, ...]
    labelled: bool = True
    pairs: bool = False
    kind: str = "text"
    whole: bool = False


# Name: kind of input, module, and of text and sound what is read.
TASKS = {
    "image-classification": ("image", "classification", None),
    "image-regression": ("image", "regression", None),
    "object-detection": ("image", "object_detection", None),
    "semantic-segmentation": ("image", "semantic_segmentation", None),
    "text-classification": ("text", "classification", Wanted(("text",), pairs=True)),
    "text-regression": ("text", "regression", Wanted(("text",), pairs=True)),
    "token-classification": ("text", "token_classification", Wanted(("text",))),
    "question-answering": ("text", "question_answering", Wanted(("question", "context"))),
    "seq2seq": ("text", "seq2seq", Wanted(("text",))),
    "sentence-embedding": ("text", "sentence_embedding", Wanted(("text", "pair"), labelled=False)),
    "masked-lm": ("text", "masked_lm", Wanted(("text",), labelled=False)),
    "audio-classification": ("audio", "classification", Wanted((), kind="audio")),
    "audio-regression": ("audio", "regression", Wanted((), kind="audio")),
    "speech-recognition": ("audio", "speech_recognition", Wanted((), kind="audio", whole=True)),
    "speech-to-text": ("audio", "speech_to_text", Wanted((), kind="audio", whole=True)),
    "causal-lm": ("text", "causal_lm", Wanted(("text",), labelled=False)),
    "image-multitask": ("image", "several", None),
    "text-multitask": ("text", "several", Wanted(("text",), pairs=True)),
    "audio-multitask": ("audio", "several", Wanted((), kind="audio")),
}


def get(name: str):
    """The module of a task.

    Raises:
        UsageError: when there is none.
    """
    if name not in TASKS:
        raise UsageError(f"There is no task {name!r}; there are {', '.join(TASKS)}.{nearest(name, TASKS)}")
    return importlib.import_module(f"tlkeras.tasks.{TASKS[name][1]}")


def plain(name: str) -> bool:
    """Whether a task gives each sample one answer from one vector of features: classes, or values."""
    return TASKS[name][1] in ("classification", "regression")


def kind(name: str) -> str:
    """The kind of input of a task: 'image', 'text' or 'audio'."""
    return TASKS[name][0]


def backbones(name: str) -> tuple[str, ...]:
    """The kinds of backbones that suit a task: one for images can look at the spectrogram of a sound."""
    found = wanted(name)
    return ("audio", "image") if found and found.kind == "audio" and not found.whole else (kind(name),)


def wanted(name: str) -> Wanted | None:
    """What a task on text or sound reads; None for images."""
    return TASKS[name][2]


def annotations(name: str, options=None) -> str | None:
    """What stands in the pictures of a task on images: 'boxes' or 'masks'; None where the label is of the whole. With
    the `options` of several tasks, 'places' where one of them looks for such."""
    task = get(name)
    return task.annotations(options) if hasattr(task, "heads") and options else getattr(task, "ANNOTATIONS", None)


def on_places(task, answer: dict) -> bool:
    """Whether a task, or one of several, answers with places in pictures."""
    return task.on_places(answer) if hasattr(task, "heads") else hasattr(task, "maps")


def classes(answer: dict):
    """The classes that the outputs stand for, of several tasks {member: classes}; None where there are none."""
    if "tasks" in answer:
        every = {**answer["tasks"], **({by["member"]: by} if (by := answer["split_by"]) else {})}
        return {m: one["answer"].get("classes") for m, one in every.items()}
    return answer.get("classes")


def new(name: str, places: str | None = None) -> list[str]:
    """The blocks of a task's networks that begin at random; of several with `places` the neck too."""
    return list(getattr(get(name), "NEW", ("neck", "head") if places else ("head",)))


def recipe(name: str, places: str | None = None) -> str:
    """The recipe of phases that suits a task."""
    return getattr(get(name), "RECIPE", "places" if places else "fine_tune")


def options() -> dict:
    """The record of options of every task, for the config."""
    return {name: get(name).Options for name in TASKS}


def options_of(config):
    """The validated options of a config's task."""
    given = {k: v for k, v in config.task.items() if k != "name"}
    return get(config.task_name).Options.model_validate(given)
