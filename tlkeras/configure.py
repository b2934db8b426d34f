"""From what a user hands in (a config, a folder of data) to a config that can be run."""

import contextlib
from pathlib import Path

from tlkeras import backbones, config, recipe, tasks
from tlkeras.config.document import quoted, word
from tlkeras.errors import ConfigError, DataError, UsageError
from tlkeras.run import write_text

# Known here, not read from the export room, which lies above this one.
FORMATS = ("saved_model", "tflite", "tflite-float16", "tflite-dynamic", "tflite-int8")


def vocabulary() -> config.Vocabulary:
    return config.Vocabulary(tasks.options(), backbones.catalogue(), FORMATS)


def load(path, sets=()):
    """Reads a config with every name checked: (Config, origin); see config.read.

    Raises:
        ConfigError: with every mistake.
    """
    cfg, origin = config.read(path, sets, vocabulary())
    from tlkeras.data import spatial

    if hasattr(task := tasks.get(cfg.task_name), "mistakes"):
        found = task.mistakes(tasks.options_of(cfg), tasks.kind(cfg.task_name), cfg)
        if found:
            raise ConfigError(*(f"{origin(key)}: {why}" for key, why in found.items()))
    elif wrong := spatial.unsuited(cfg.augment, tasks.annotations(cfg.task_name)):
        raise ConfigError(*(f"{origin(('augment', key))}: augment.{key} {why}" for key, why in wrong.items()))
    if cfg.sweep and (mistakes := _unfit(path, sets, cfg.sweep.over, origin, cfg.train.phases is None)):
        raise ConfigError(*mistakes)
    if cfg.adapt and (why := _unadaptable(cfg.adapt.method, cfg)):
        raise ConfigError(f"{origin(('adapt', 'method'))}: adapt.method: {why}")
    return cfg, origin


FIXED = ("name", "extends", "version", "sweep")


def _unfit(path, sets, over: dict, origin, by_recipe: bool) -> list[str]:
    """What is wrong with a sweep's keys and values: each is put into the config as --set would."""
    found = []
    for key, tried in over.items():
        where = next(o for n in (3, 2, 1) if (o := origin(("sweep", "over", key)[:n])) != "default")
        if key.split(".")[0] in FIXED:
            found.append(f"{where}: sweep.over: {key} is the same in every trial.")
            continue
        if key.startswith("train.phases.") and by_recipe:
            found.append(
                f"{where}: sweep.over: {key} needs phases that are written out in train.phases; now the recipe makes them. `tlkeras init` writes them."
            )
            continue
        for value in tried if isinstance(tried, list) else (tried.low, tried.high):
            one = f"{key}={quoted(value)}"
            try:
                load(path, [*sets, "sweep=null", one])
            except ConfigError as e:
                found += [f"{where}: sweep.over: {m.removeprefix(f'--set {one}: ')}" for m in e.mistakes]
    return list(dict.fromkeys(found))


def takes(path, sets, key: str, value) -> bool:
    """Whether a config may have this value at a key, written as for --set."""
    try:
        load(path, [*sets, "sweep=null", f"{key}={quoted(value)}"])
    except ConfigError:
        return False
    return True


def _unadaptable(method: str, cfg: config.Config) -> str | None:
    """Why the method of adapting does not suit the task, as far as the config tells."""
    task, kind = cfg.task_name, tasks.kind(cfg.task_name)
    if task.removeprefix(f"{kind}-") not in ("classification", "regression"):
        return f"adapting to another domain suits classification and regression of images, texts and sounds; this task is {task}. Leave `adapt` out."
    if method == "masked-lm" and kind != "text":
        return f"masked-lm learns the language of texts; {task} reads {kind}s. Choose adabn, coral, mmd, dann or self-training."
    if method == "masked-lm" and isinstance(cfg.data.text, list) and len(cfg.data.text) > 1:
        return "masked-lm reads one column of text, and data.text names two. Adapt in a run of its own: docs/text.md."
    if method == "self-training" and (task.endswith("regression") or cfg.task["multi_label"]):
        return "self-training makes one class of each sample its label, which needs a classification without multi_label. Choose coral, mmd or dann."
    return None


def phases(cfg: config.Config, samples: int, blocks: int):
    """The phases of a config: its own, or those of its recipe for this many training samples and blocks below the head;
    then those that adapt."""
    if cfg.task.get("head") == "prototypes" and not (cfg.train.phases or cfg.train.recipe):
        return []  # its class means are all there is to learn
    places = tasks.annotations(cfg.task_name, tasks.options_of(cfg))
    chosen, new = cfg.train.recipe or tasks.recipe(cfg.task_name, places), tasks.new(cfg.task_name, places)
    body = blocks + 1 - len(new)
    learnt = cfg.train.phases or recipe.phases(chosen, samples, cfg.train.usual_batch, body, new)
    return [*learnt, *recipe.adapting(cfg.adapt, learnt)]


TEMPLATE = """\
# Adapts {backbone} to {data}.
# Run:    tlkeras train {out}
# Then:   tlkeras evaluate saved_models/{name}
# Keys and values: tlkeras config schema; what a run will do: tlkeras plan {out}
task:{task}
data:
  path: {path}
{columns}{held}{found}backbone:
  name: {backbone}   # others: tlkeras backbones --kind {listed}
  weights: {weights}
{more}train:
  batch: {batch:<2}          # more needs more memory
  phases:            # sized for {n} training samples
{phases}export: {formats}
"""

# Measured on the example photographs (docs/log.md): with augmentation ten times as long, and no photograph more named right.
AUGMENT = """\
# augment: {flip: horizontal, crop: 0.9}   # for longer training of more blocks; then nothing is computed once. No flip for text, digits or signs
"""
HELD = {"val": "held out to steer training", "test": "held out to judge the result"}
# Measured on spoken languages (configs/README.md): 0.97 on average of four splits, the whole backbone and a head drawn at
# random 0.94. Noise and masks in training made a frozen backbone worse.
HEARD = """\
{until}  pool: time         # keeps which band a sound is in; the mean over everything loses it
  sound: {{{rate}seconds: 2, overlap: 0.75, trim: 40, mels: 128}}   # a sound is the mean of its windows
# augment: {{noise: 0.05, time_masks: 1}}   # tried where there is more to learn from: docs/audio.md
"""
UNTIL = "  until: block5      # edges and textures tell sounds apart; the last blocks know things in pictures\n"
HEARD_TASK = """
  name: audio-classification
  dropout: 0.5       # there are more features than sounds,
  start: zeros       # so what a head is drawn with at random would stay in it"""
SPOKEN = """\
augment:             # sounds are heard otherwise in every epoch
  noise: 0.05
  time_masks: 1      # a stretch of up to a tenth is silenced
"""
# Measured on scenes (configs/README.md). Without augmentation what is frozen is computed once.
BOXES = """\
  size: 256
# augment: {flip: horizontal, crop: 0.8}   # for longer training; then nothing is computed once
"""
BOXES_TASK = """
  name: object-detection
  scale: small       # medium finds a little more and costs four times as much"""
# By the kind of input and that of the backbone.
MORE = {("image", "image"): AUGMENT, ("audio", "audio"): SPOKEN}
USUAL = {"image": "efficientnet_lite0", "text": "minilm_l6", "audio": "efficientnet_lite0"}


def init(data, out=None, backbone: str | None = None, weights: str = "pretrained") -> Path:
    """Looks at a folder or table and writes a commented config that runs as it is; returns its path. `backbone` None:
    a small one for what the data is.

    Raises:
        UsageError: when `out` exists.
        DataError: when the data cannot be read.
    """
    from tlkeras.data import sources
    from tlkeras.data.scan import printed

    path = Path(data)
    out = Path(out) if out else Path(f"{config.slug(path.stem)}.yaml")
    if out.exists():
        raise UsageError(
            f"{out} exists already and is not overwritten. Choose another name with -o, or run it: tlkeras train {out}"
        )
    task, columns, section = _look(path)
    kind = tasks.kind(task)
    record = backbones.get(backbone or ("deepspeech2_small" if task == "speech-recognition" else USUAL[kind]))
    if record.kind not in tasks.backbones(task):
        raise UsageError(
            f"{path} holds {kind}s, and {record.name} reads {record.kind}. Leave --backbone out, or choose another."
        )
    samples = sources.read(section, texts=tasks.wanted(task), places=tasks.annotations(task))
    stated = {s for s in samples.splits if s}
    heard = (kind, record.kind) == ("audio", "image") and task == "audio-classification"
    # A fixed number of epochs is steered by nothing, so all that does not judge is learnt from.
    val, test = (0.0, 0.25) if heard else (0.2, 0.2)
    train = sum(s in (None, "train") for s in samples.splits)
    train -= round(train * (val * ("val" not in stated) + test * ("test" not in stated)))
    blocks = len(record.blocks) if not callable(record.blocks) else 5
    spoken = task == "speech-recognition"
    weights = "null" if spoken and not record.sources else weights
    batch = 8 if tasks.annotations(task) else 32  # boxes and masks need many updates, and there are few pictures
    chosen = "scratch" if spoken else "head" if heard else tasks.recipe(task)
    made = recipe.phases(chosen, train, batch, blocks, tasks.new(task))
    more = MORE.get((kind, record.kind), "")
    named = f" {task}"
    if task == "object-detection" and not backbone:
        named, more = BOXES_TASK, BOXES
    if heard:
        slow = {"learning_rate": 1e-3, "weight_decay": 0.01, "early_stopping": None}
        made = [p.model_copy(update=slow) for p in made]
        named, until = HEARD_TASK, UNTIL if record.family == "efficientnet_lite" else ""
        more = HEARD.format(until=until, rate=_rate(samples.inputs))
    text = TEMPLATE.format(
        backbone=record.name,
        listed=record.kind,
        more=more,
        data=printed(path),
        out=printed(out),
        name=config.slug(out.stem),
        task=named,
        held="".join(_held(s, part, stated) for s, part in (("val", val), ("test", test))),
        path=quoted(str(path)),
        columns=columns,
        found=_counted(samples, kind) if task.endswith("-classification") else "",
        weights=weights if weights == "null" else word(weights),
        n=train,
        batch=batch,
        formats="[saved_model]" if spoken else "[saved_model, tflite]",
        phases="".join(map(_written, made)),
    )
    write_text(out, text)
    return out


def _held(split: str, part: float, stated: set) -> str:
    """The line of a split, as a comment where the data has it."""
    if split in stated:
        return f"  # {split}: the data has its own\n"
    return f"  {split + ':':<5} {part:<5g} # {HELD[split] if part else 'nothing is steered by it'}\n"


def _rate(paths) -> str:
    """The commonest rate of the first sounds as YAML, '' where it is what a spectrogram is made at anyway, or more."""
    from collections import Counter

    from tlkeras.data import waveforms

    rates: Counter[int] = Counter()
    for path in list(paths)[:50]:
        with contextlib.suppress(DataError, OSError):  # training lists what cannot be read
            rates[waveforms.about(path).rate] += 1
    usual = rates.most_common(1)
    return f"rate: {usual[0][0]}, " if usual and 1000 <= usual[0][0] < 16_000 else ""


def _counted(samples, kind: str) -> str:
    """A comment that counts the classes."""
    from collections import Counter

    from tlkeras.data.scan import printed

    counts = Counter(map(str, samples.labels))
    named = [f"{printed(c)} {n}" for c, n in sorted(counts.items())]
    shown = ", ".join([*named[:12], *["..."] * (len(named) > 12)])
    return f"  # found: {len(samples)} {'sound' if kind == 'audio' else kind}s in {len(counts)} classes: {shown}\n"


def _written(phase: config.Phase) -> str:
    """A phase as a line of YAML, without what is usual."""
    extra = "".join(
        f", {k}: {getattr(phase, k):g}"
        for k in ("layer_decay", "weight_decay", "clip_norm")
        if getattr(phase, k) != type(phase).model_fields[k].default
    )
    if phase.early_stopping:
        extra += f", early_stopping: {{patience: {phase.early_stopping.patience}}}"
    train = ", ".join(f'"{b}"' if "[" in b else b for b in phase.train)
    return f"    - {{name: {phase.name}, train: [{train}], epochs: {phase.epochs}, learning_rate: {phase.learning_rate:g}{extra}}}\n"


def _look(path: Path):
    """Task, YAML lines of columns and a Data section for a folder or table."""
    from tlkeras.data import box_sources, tables

    if places := box_sources.kind(path):
        task = {"boxes": "object-detection", "masks": "semantic-segmentation"}[places]
        return task, "", config.Data(path=str(path))
    if path.is_dir() and (path / "train.tsv").is_file() and (path / "clips").is_dir():
        return "speech-recognition", "", config.Data(path=str(path))
    if path.is_dir():
        return f"{_mostly(path)}-classification", "", config.Data(path=str(path))
    if path.suffix.lower() not in tables.SUFFIXES:
        return "image-classification", "", config.Data(path=str(path))
    rows, _ = tables.columns(path)
    names = list(rows)
    inputs = _inputs(rows)
    rest = [n for n in names if n != inputs]
    if inputs is None or not rest:
        raise UsageError(
            f"{path}: expected a column of paths of images or sounds, or of texts, and one of labels; it has: {', '.join(names)}. Write a config by hand: docs/configs.md"
        )
    kind = "image" if _are_images(rows[inputs]) else "audio" if _are_sounds(rows[inputs]) else "text"
    label = (
        "label" if "label" in rest else next((n for n in rest if n.lower() not in ("split", "group", "id")), rest[0])
    )
    numbers = all(_is_number(v) for v in rows[label]) and len(set(rows[label])) > 20
    columns = f"  {kind}: {word(inputs)}\n  label: {word(label)}\n"
    section = {kind: inputs, "label": label}
    for n in rest:
        if n.lower() in ("split", "group"):
            columns += f"  {n.lower()}: {word(n)}\n"
            section[n.lower()] = n
    task = f"{kind}-regression" if numbers else f"{kind}-classification"
    if kind == "audio" and not numbers and len({str(v) for v in rows[label]}) > 20:
        task = "speech-recognition"
    return task, columns, config.Data.model_validate({"path": str(path), **section})


def _mostly(folder: Path) -> str:
    """What the files below a folder are, by suffix: one README.txt among photographs does not make them texts."""
    from collections import Counter

    from tlkeras.data import signatures, waveforms

    kinds = dict.fromkeys(waveforms.SUFFIXES, "audio") | dict.fromkeys(signatures.SUFFIXES, "image") | {".txt": "text"}
    counts = Counter(kinds[s] for p in folder.rglob("*") if (s := p.suffix.lower()) in kinds)
    return max(("image", "audio", "text"), key=lambda kind: counts[kind])


def _inputs(rows: dict) -> str | None:
    """The column of paths of images or sounds, or else that of the longest texts, if they are more than single words."""
    if image := next((n for n in rows if _are_images(rows[n])), None):
        return image
    if sound := next((n for n in rows if _are_sounds(rows[n])), None):
        return sound
    words = {n: sum(len(str(v).split()) for v in cells) / max(len(cells), 1) for n, cells in rows.items()}
    longest = max(words, key=lambda n: words[n], default=None)
    return longest if longest is not None and ("text" in rows or words[longest] > 1.5) else None


def _are_images(cells) -> bool:
    return any(str(v).lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")) for v in cells[:20])


def _are_sounds(cells) -> bool:
    return any(str(v).lower().endswith((".wav", ".flac", ".ogg", ".mp3", ".opus")) for v in cells[:20])


def _is_number(cell) -> bool:
    try:
        float(cell)
    except (ValueError, TypeError):  # TypeError: a cell of several values
        return False
    return True
