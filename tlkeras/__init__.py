"""tlkeras: adapt a pretrained model to your own data, and deploy it.

    import tlkeras

    run = tlkeras.train("configs/quickstart.yaml")
    tlkeras.evaluate(run.folder)
    tlkeras.export(run.folder, to=["saved_model", "tflite"])

The verbs are those of the command line, with the same names. Importing tlkeras imports no TensorFlow: each
verb brings its room with it when it is first used.
"""

import importlib

__version__ = "0.1.0"

# verb -> module. Modules have nouns for names: a module called like a verb would take its place here as soon
# as anybody imports it.
_VERBS = {
    "bench": "artefacts.bench",
    "check": "artefacts",
    "doctor": "health",
    "evaluate": "evaluation",
    "export": "artefacts",
    "extend": "extension",
    "find": "pretrained",
    "find_rate": "rates",
    "init": "configure",
    "load": "configure",
    "plan": "preview",
    "predict": "answers",
    "report": "reports",
    "reproduce": "reproduction",
    "scout": "scouting",
    "serve": "server",
    "soup": "soups",
    "sweep": "sweeping",
    "train": "training",
}

__all__ = ["__version__", *sorted(_VERBS)]


def __getattr__(name: str):
    if name in _VERBS:
        return getattr(importlib.import_module(f"tlkeras.{_VERBS[name]}"), name)
    raise AttributeError(f"module 'tlkeras' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
