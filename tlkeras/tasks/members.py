"""What a config may say of several tasks at once, and what is wrong with what it says. The tasks themselves: several.py."""

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, create_model, field_validator

from tlkeras.config import Section
from tlkeras.errors import UsageError, nearest
from tlkeras.tasks import classification, object_detection, regression, semantic_segmentation

KINDS = ("image", "text", "audio")
MODULES = {
    **{f"{kind}-classification": classification for kind in KINDS},
    **{f"{kind}-regression": regression for kind in KINDS},
    "object-detection": object_detection,
    "semantic-segmentation": semantic_segmentation,
}


class _Own(Section):
    """What a member has besides the options of its task."""

    label: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Its column of the table, or several for several values. None: the column of the task's name."
    )
    path: str | None = Field(
        None, description="Images: where its labels are, if elsewhere than data.path; laid out as its task asks."
    )
    classes: list[str] | None = Field(None, description="Its classes in order. None: those found, sorted.")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Of its loss, with weighting: fixed.")


def _records():
    for module in dict.fromkeys(MODULES.values()):
        names = tuple(name for name, m in MODULES.items() if m is module)
        name = (Literal[names], Field(description="The kind of task."))
        yield create_model(module.__name__.rsplit(".", 1)[-1], __base__=(_Own, module.Options), name=name)


if TYPE_CHECKING:
    Member = Any
else:
    Member = Annotated[functools.reduce(operator.or_, _records()), Field(discriminator="name")]


class Options(Section):
    tasks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Member] = Field(
        description="Name: {name: kind of task, label: column, weight: of its loss, and the options of its kind}."
    )
    only: str | None = Field(
        None, description="Train one of the tasks alone, on the same samples and splits: what to compare with."
    )
    weighting: Literal["fixed", "uncertainty", "gradnorm"] = Field(
        "fixed",
        description="Of the losses: fixed by weight; learnt from how uncertain each task is (arXiv:1705.07115); or such that all learn at like pace (arXiv:1711.02257).",
    )
    shared: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Width of a layer that the heads of whole samples share. None: they share the backbone alone."
    )
    pace: Annotated[float, Field(ge=0)] = Field(
        1.5, description="gradnorm: higher pulls tasks that lag harder (the paper's alpha)."
    )
    pace_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.025, description="gradnorm: how far a weight moves in a step, of itself."
    )
    _answer: dict = PrivateAttr(default_factory=dict)

    @field_validator("tasks", mode="before")
    @classmethod
    def _kinds(cls, value):
        if not isinstance(value, dict) or len(value) < 2:
            raise ValueError("names two tasks or more, each with its kind: {topic: {name: text-classification}, ...}")
        for member, own in value.items():
            kind = own.get("name") if isinstance(own, dict) else None
            if kind not in MODULES:
                raise ValueError(
                    f"{member}.name must be a kind of task that can share a backbone; received {kind!r}.{nearest(str(kind), MODULES)} There are {', '.join(MODULES)}"
                )
        return value


def bind(options: Options, answer: dict) -> Options:
    """The options with what the outputs mean, which `loss` and `metrics` need here."""
    bound = options.model_copy()
    bound._answer = answer
    return bound


def taught(options: Options, answer: dict) -> Options:
    """The options for labelled data that was not trained on: of the tasks in use, with their classes.

    Raises:
        UsageError: when tasks have labels in places of their own, which one path does not name.
    """
    if apart := [m for m, own in used(options).items() if own.path]:
        raise UsageError(
            f"--data names one place, and the labels of {', '.join(apart)} have a path of their own in this run's config. Judge a split of the run instead: --split."
        )
    known = {m: one["answer"].get("classes") for m, one in answer["tasks"].items()}
    own = {m: one.model_copy(update={"classes": known[m] or one.classes}) for m, one in used(options).items()}
    return options.model_copy(update={"tasks": own})


def annotations(options: Options) -> str | None:
    """'places' where a member in use looks for places in pictures."""
    return "places" if any(hasattr(MODULES[own.name], "maps") for own in used(options).values()) else None


def used(options: Options) -> dict:
    return {m: own for m, own in options.tasks.items() if options.only in (None, m)}


def mistakes(options: Options, kind: str, cfg) -> dict[tuple, str]:
    """What is wrong with a config of several tasks that no record can see: {key: why}."""
    from tlkeras.data import spatial

    wrong: dict[tuple, str] = {}
    for m, own in options.tasks.items():
        of = "image" if hasattr(MODULES[own.name], "maps") else own.name.split("-")[0]
        if of != kind:
            wrong["task", "tasks", m] = f"task.tasks.{m}: {own.name} reads {of}s, and {cfg.task_name} {kind}s."
        if own.path and kind != "image":
            wrong["task", "tasks", m, "path"] = f"task.tasks.{m}.path: {kind}s have one table, which data.path names."
        if own.weight != 1 and options.weighting != "fixed":
            wrong["task", "tasks", m, "weight"] = (
                f"task.tasks.{m}.weight is for weighting: fixed; with {options.weighting} the weights are learnt. Take it out."
            )
    if options.only not in (None, *options.tasks):
        near = nearest(str(options.only), options.tasks)
        wrong["task", "only"] = (
            f"task.only: there is no task {options.only!r}; there are {', '.join(options.tasks)}.{near}"
        )
    elif named := [key for key in ("label", "classes") if getattr(cfg.data, key)]:
        wrong["data", named[0]] = f"data.{named[0]}: of several tasks each names its own: task.tasks.NAME.{named[0]}."
    else:
        places = annotations(options)
        unsuited = dict.fromkeys(
            spatial.unsuited(cfg.augment, places and "boxes"), "does not keep places with their picture"
        )
        unsuited |= dict.fromkeys(("mixup", "cutmix"), "mixes labels that a sample may not have")
        unsuited |= dict.fromkeys(("mosaic", "paste"), "is for object-detection or semantic-segmentation alone")
        for key, why in unsuited.items():
            if getattr(cfg.augment, key):
                wrong["augment", key] = f"augment.{key} {why}; take it out."
    return wrong
