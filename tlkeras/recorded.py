"""The backbone of a finished run, as its backbone.json records it: its input contract and its entry."""

from typing import Any

from tlkeras import backbones, hearing
from tlkeras.backbones import Backbone, Pixels, Source, Tokens, keras_hub
from tlkeras.errors import ModelError


def contract(about: dict):
    """The input contract that backbone.json holds."""
    given = {k: _tuple(v) for k, v in about["input"].items()}
    if about.get("reads", about["kind"]) == "audio":
        return hearing.recorded(given)
    return (Tokens if about["kind"] == "text" else Pixels)(**given)


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def entry(backbone: dict) -> Backbone:
    """The entry of a run's backbone.json; a preset directory that the run came from need not be there any more."""
    if backbone["catalogued"]:
        return backbones.get(backbone["name"])
    if backbone.get("sizes"):
        return hearing.rebuilt(backbone)
    known = keras_hub.family(backbone["family"])
    source = {backbone["weights"]: Source("", backbone["licence"])} if backbone["weights"] else {}
    rest: Any = {"sources": source, "opened": known.opened, "kind": known.kind}
    return Backbone(backbone["name"], known.name, _no_build, known.blocks, None, backbone["pool"], **rest)


def _no_build(size, weights):
    raise ModelError(
        "The backbone of this run was built from a preset directory, whose configuration is not in the run. Train again from the directory."
    )
