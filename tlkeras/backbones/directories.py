"""What the networks written here ask of a directory of Hugging Face or keras-hub before they read its weights."""

from dataclasses import asdict
from pathlib import Path

from tlkeras.errors import ModelError, listed


def config_of(folder: Path, suits) -> dict | None:
    """The config.json of a directory; None where there is none, or `suits(config)` is false."""
    from tlkeras.foreign import files

    if not (folder / "config.json").is_file():
        return None
    config = files.read_config(folder / "config.json")
    return config if suits(config) else None


def check_sizes(backbone, folder: Path, sizes) -> None:
    """Compares the sizes that a directory's config names with the entry's.

    Raises:
        ModelError: when they differ.
    """
    found = asdict(sizes)
    if found != backbone.sizes:
        other = [f"{k}: {v}, not {backbone.sizes[k]}" for k, v in found.items() if v != backbone.sizes[k]]
        raise ModelError(
            listed(f"{folder} has other sizes than {backbone.name}", other)
            + f"\n  Name the directory itself: backbone: {{name: {folder}}}"
        )
