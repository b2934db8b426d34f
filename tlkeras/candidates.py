"""Backbones that a scout compares: what the command line names, what lies on this machine, and the choice of an earlier scout."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tlkeras import backbones, tasks
from tlkeras.config import Backbone, Config
from tlkeras.errors import UsageError, nearest
from tlkeras.run import read_json
from tlkeras.weights.present import present

BEST = "best"
FORM = re.compile(r"(?P<name>.+?)(?:=(?P<weights>[^=@]+))?(?:@(?P<size>\d+))?")


@dataclass(frozen=True)
class Candidate:
    """`label` is how a person names it, `backbone` the section of a config that asks for it."""

    label: str
    backbone: Backbone


def named(text: str, cfg: Config) -> Candidate:
    """The candidate of 'NAME', 'NAME=WEIGHTS' or 'NAME@SIZE': WEIGHTS as in backbone.weights, or 'random'; SIZE in pixels, for
    texts in tokens. The config's own backbone keeps what the config says of it; others are as they come.

    Raises:
        UsageError: when it names no backbone, or a size that cannot be.
    """
    text = text.strip()
    found = FORM.fullmatch(text)
    if not found:
        raise UsageError("--backbones needs names with commas between them, such as efficientnet_lite0,resnet50.")
    name, own = found["name"], found["name"] in (cfg.backbone.name, Path(cfg.backbone.name).name)
    given = cfg.backbone.model_dump()
    if not own:
        if name not in backbones.catalogue() and "://" not in name and not Path(name).is_dir():
            raise UsageError(
                f"There is no backbone {name!r}, and no directory of that name.{nearest(name, backbones.catalogue())} List them with: tlkeras backbones"
            )
        usual = Backbone(name=name).model_dump()
        given |= {k: usual[k] for k in ("name", "weights", "size", "length", "pool")}
    if found["weights"]:
        given["weights"] = None if found["weights"] in ("random", "null") else found["weights"]
    if found["size"]:
        given["length" if tasks.kind(cfg.task_name) == "text" else "size"] = int(found["size"])
    try:
        return Candidate(text, Backbone.model_validate(given))
    except ValidationError as e:
        raise UsageError(f"{text}: {e.errors()[0]['msg']}; received {e.errors()[0]['input']!r}.") from e


def usual(cfg: Config) -> tuple[list[Candidate], dict[str, str]]:
    """The config's backbone and every one of the catalogue that suits its task and whose weights lie on this machine; and
    why each other one is left out, by name."""
    own = cfg.backbone.name
    chosen, left = [named(own if own in backbones.catalogue() else Path(own).name, cfg)], {}
    for record in backbones.catalogue().values():
        if record.kind not in tasks.backbones(cfg.task_name) or record.name == own:
            continue
        if key := present(record):
            first = next(iter(record.sources))
            chosen.append(named(record.name if key == first else f"{record.name}={key}", cfg))
        elif record.sources:
            left[record.name] = "the weights are not on this machine"
        else:
            left[record.name] = "there are random weights only"
    return chosen, left


def folder(cfg: Config) -> Path:
    """Where the scout of a config lies."""
    return Path("saved_models") / f"{cfg.name}-scout"


def choose(cfg: Config, wanted: str) -> tuple[Config, dict]:
    """The config with the backbone that its scout found best, or that `wanted` names of those compared; and the scout.

    Raises:
        UsageError: when there is no scout of this config, it has no such candidate, or it was made for another task.
    """
    path = folder(cfg) / "scout.json"
    if not path.is_file():
        raise UsageError(
            f"{path} is not there: --from-scout takes what a scout of this config found. Make it with: tlkeras scout CONFIG"
        )
    scout = read_json(path)
    if scout.get("task") != cfg.task:
        raise UsageError(
            f"{path} was made for another task or other options of it: {scout.get('task')}. Scout again with: tlkeras scout CONFIG"
        )
    labels = {row["name"]: row for row in scout["candidates"]}
    name = scout["best"] if wanted == BEST else wanted
    if name not in labels:
        raise UsageError(
            f"{path} has no candidate {name!r}.{nearest(name, labels)} It compared: {', '.join(labels)}. Or take: --from-scout {BEST}"
        )
    try:
        backbone = Backbone.model_validate(labels[name]["backbone"] | {"lora": cfg.backbone.lora})
    except ValidationError as e:
        raise UsageError(
            f"{path} holds no backbone as configs have it: {e.errors()[0]['msg']}. Scout again with: tlkeras scout CONFIG"
        ) from e
    return cfg.model_copy(update={"backbone": backbone}), scout


def check_data(cfg: Config, scout: dict, digest: str) -> None:
    """Compares the data of a run with that of the scout that chose its backbone.

    Raises:
        UsageError: when samples, labels or splits differ.
    """
    if scout["data"]["sha256"] != digest:
        raise UsageError(
            f"{folder(cfg) / 'scout.json'} was made of other data: samples, labels or splits differ from those of this run. Scout again with: tlkeras scout CONFIG"
        )
