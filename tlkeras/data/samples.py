"""What every source of data gives: parallel lists, one entry a sample."""

import os
from dataclasses import dataclass, field
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
    are None where the source does not say."""

    root: Path
    ids: list[str]
    inputs: list
    labels: list
    splits: list[str | None]
    groups: list[str | None]
    ignored: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, wanted: list[bool]) -> "Samples":
        def pick(values):
            return [v for v, w in zip(values, wanted, strict=True) if w]

        return Samples(
            self.root,
            pick(self.ids),
            pick(self.inputs),
            pick(self.labels),
            pick(self.splits),
            pick(self.groups),
            self.ignored,
        )


def cache_folder() -> Path:
    """Where tlkeras keeps what it can make again: $TLKERAS_CACHE, or ~/.cache/tlkeras."""
    return Path(os.environ.get("TLKERAS_CACHE") or Path.home() / ".cache" / "tlkeras")
