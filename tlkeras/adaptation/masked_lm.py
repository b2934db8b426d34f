"""Texts of another domain: an encoder reads them first, by masked language modelling, and then learns the task
(Gururangan et al. 2020, arXiv:2004.10964). Two runs of their own inside the run folder, made before the network of the
run itself: before/ learns the task from the weights as they came, masked-lm/ adapts these weights.
"""

from tlkeras import config, network
from tlkeras.config import Backbone, Config, Data, Export, Phase, Train
from tlkeras.data import unlabelled
from tlkeras.errors import Interrupted
from tlkeras.run import Run, read_json, write_text

BEFORE, LANGUAGE = "before", "masked-lm"


def first(cfg: Config, run: Run, train, offline: bool, quiet: bool) -> Config:
    """Trains both, or goes on with them, by `train` (training.train); returns the config of the run itself, which
    begins with the adapted weights."""
    if cfg.adapt is None or cfg.adapt.method != LANGUAGE:
        return cfg
    unlabelled.count(cfg)  # what is not there is told before the first of three trainings, not after it
    for name, made in ((BEFORE, _plain(cfg)), (LANGUAGE, _language(cfg))):
        inner = Run(run.folder / name)
        if inner.model.is_file():
            continue
        begun, asked = inner.config.is_file(), run.folder / f"{name}.yaml"
        write_text(asked, config.render(made))
        try:
            train(inner.folder if begun else asked, inner.folder, resume=begun, offline=offline, quiet=quiet)
        except Interrupted as e:
            # Only the whole run knows what follows.
            raise Interrupted(str(e).replace(str(inner.folder), str(run.folder))) from e
    backbone = cfg.backbone.model_copy(update={"name": str(run.folder / LANGUAGE), "weights": "pretrained"})
    return cfg.model_copy(update={"backbone": backbone})


def _plain(cfg: Config) -> Config:
    return cfg.model_copy(update={"adapt": None, "export": Export(), "name": BEFORE})


def _language(cfg: Config) -> Config:
    """Masked language modelling of the target, a tenth of which steers it; its head begins at random and learns first."""
    asked = cfg.adapt
    assert asked is not None
    rate = asked.learning_rate or 2e-4
    phases = [
        Phase(name="head", train=["head"], epochs=3, learning_rate=1e-3),
        Phase(
            name="all",
            train=asked.train or ["all"],
            epochs=asked.epochs,
            learning_rate=rate,
            weight_decay=0.01,
            clip_norm=1.0,
        ),
    ]
    text = cfg.data.text[0] if isinstance(cfg.data.text, list) else cfg.data.text
    shared = {k: getattr(cfg.data, k) for k in ("on_bad", "seed", "follow_symlinks")}
    return Config(
        name=LANGUAGE,
        task={"name": "masked-lm"},
        data=Data(path=asked.path, text=text, val=0.1, test=0.0, **shared),
        backbone=Backbone(**{**cfg.backbone.model_dump(), "sound": cfg.backbone.sound, "lora": None, "pool": None}),
        prefix=cfg.prefix,
        train=Train(**{**cfg.train.model_dump(), "recipe": None, "phases": phases}),
    )


def unadapted(a):
    """The network of before/, which learnt the task from the weights as they came."""
    run = Run(a.run.folder / BEFORE)
    cfg = network.plain(a.cfg)
    answer = read_json(run.manifest)["answer"]
    return network.rebuild(cfg, answer, read_json(run.backbone), run.model, folder=run.tokenizer)
