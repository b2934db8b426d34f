"""What the shell offers while a command is typed: from static catalogues and the config, without TensorFlow."""

import contextlib
from pathlib import Path

from tlkeras.errors import TlkerasError


def complete_backbone(ctx, param, incomplete):
    """Names of the catalogue."""
    from tlkeras import backbones

    return [n for n in backbones.catalogue() if n.startswith(incomplete)]


def complete_run(ctx, param, incomplete):
    """Run folders under saved_models/."""
    return [
        str(p.parent)
        for p in sorted(Path("saved_models").glob("*/config.yaml"))
        if str(p.parent).startswith(incomplete)
    ] or [str(p) for p in sorted(Path().glob(incomplete + "*"))]


def complete_format(ctx, param, incomplete):
    """Export formats."""
    from tlkeras.configure import FORMATS

    return [f for f in FORMATS if f.startswith(incomplete)]


def complete_set(ctx, param, incomplete):
    """Config keys; behind train.phases.N.train= also the blocks of the config's backbone."""
    from tlkeras import backbones, configure
    from tlkeras.config import Config, fields

    key, equals, value = incomplete.partition("=")
    if not equals:
        names = [
            f"{s}.{f}="
            for s in ("data", "backbone", "augment", "distill", "train", "export")
            for f in fields(Config, (s,))
        ]
        return [n for n in names if n.startswith(incomplete)]
    if key == "backbone.name":
        return [f"{key}={n}" for n in backbones.catalogue() if n.startswith(value)]
    if key.endswith((".train", ".batchnorm", ".rates")):
        # While an option waits for its value, click leaves the argument unparsed.
        config = ctx.params.get("config") or next(iter(ctx.args), "")
        with contextlib.suppress(TlkerasError):
            blocks = backbones.get(configure.load(config)[0].backbone.name).blocks
            return (
                [f"{key}={b}" for b in [*(b for b, _ in blocks), "head", "all"] if b.startswith(value)]
                if not callable(blocks)
                else []
            )
    return []
