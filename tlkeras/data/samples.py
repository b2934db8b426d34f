"""What every source of data gives: parallel lists, one entry a sample."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Samples:
    """Parallel lists, one entry a sample. `inputs` are paths of files, or tuples of texts. `labels` are texts as
    written (a list of them where several columns were asked for or a cell holds several values), `splits` and `groups`
    are None where the source does not say.

    Of pictures with boxes and masks, labels are records (box_sources.py), `classes` are their names in order, the
    ground of masks first. `bad` is what was left out, annotations among it, each with its reason; `notes` say what is
    odd about what was kept."""

    root: Path
    ids: list[str]
    inputs: list
    labels: list
    splits: list[str | None]
    groups: list[str | None]
    ignored: dict[str, int] = field(default_factory=dict)
    classes: list[str] | None = None
    bad: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, wanted: list[bool]) -> "Samples":
        def pick(values):
            return [v for v, w in zip(values, wanted, strict=True) if w]

        names = ("ids", "inputs", "labels", "splits", "groups")
        return replace(self, **{name: pick(getattr(self, name)) for name in names})


def cache_folder() -> Path:
    """Where tlkeras keeps what it can make again: $TLKERAS_CACHE, or ~/.cache/tlkeras."""
    return Path(os.environ.get("TLKERAS_CACHE") or Path.home() / ".cache" / "tlkeras")
