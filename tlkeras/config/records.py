"""What can be asked of tlkeras: frozen records, one per section of the YAML file.

The field descriptions are the documentation: `tlkeras config schema` hands them to editors.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tlkeras.config.phases import Phase, listed_names
from tlkeras.config.section import Count, Fraction, Positive, Section, Seed
from tlkeras.config.sweeps import Sweep
from tlkeras.config.teachers import Distill, Extend


def size_in_bytes(text: str) -> int:
    """'500MB', '20GB' or '1.5TB' as a number of bytes."""
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]B)", text)):
        raise ValueError(f"a size is a number and MB, GB or TB, as in 20GB; received {text}")
    return int(float(found[1]) * {"MB": 1e6, "GB": 1e9, "TB": 1e12}[found[2]])


class Data(Section):
    path: str | None = Field(
        None,
        description="A folder of class folders, a CSV or Parquet table, TFRecord files (a glob), or the folder of a pack; for text also a JSON Lines table, SQuAD JSON, or a datasets folder; for boxes and masks see docs/data.md.",
    )
    tfds: str | None = Field(
        None, description="Instead of path: the name of a TensorFlow Datasets dataset, e.g. 'tf_flowers'."
    )
    image: str = Field(
        "image", description="Table: the column of image paths, relative to the table. TFDS, TFRecord: the feature."
    )
    images: str | None = Field(
        None, description="Boxes and masks: the folder of the pictures. None: it is looked for beside the annotations."
    )
    ignore: Annotated[int, Field(ge=0, le=255)] = Field(
        255, description="Masks of PNG: the value of pixels that are neither learned nor judged."
    )
    audio: str = Field(
        "audio", description="Sounds: the column of their paths, relative to the table. TFDS: the feature."
    )
    text: str | Annotated[list[str], Field(min_length=1, max_length=2)] | None = Field(
        None,
        description="Text: the column or feature of the text; two for pairs. None: what the task reads, mostly 'text'.",
    )
    label: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Table: the column of the label or value; several for several values. None: 'label'."
    )
    group: str | None = Field(None, description="Table: a column; rows of one group stay on one side of every split.")
    split: str | None = Field(None, description="Table: a column that holds train, val or test.")
    classes: list[str] | None = Field(None, description="The classes in order. None: those found, sorted.")
    val: Fraction = Field(
        0.2, description="Part of the samples held out to steer training, where the data has no such split."
    )
    test: Fraction = Field(
        0.2, description="Part of the samples held out to judge the result, where the data has no such split."
    )
    seed: Seed = Field(0, description="Another seed gives another split.")
    on_bad: Literal["fail", "skip"] = Field(
        "fail", description="What to do about files that cannot be read: stop, or leave them out and list them."
    )
    follow_symlinks: bool = Field(False, description="Follow links that stay inside the data folder.")
    licence: str | None = Field(None, description="What the data may be used under; for the model card alone.")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.path is None) == (self.tfds is None):
            raise ValueError("needs exactly one of 'path' and 'tfds'")
        if doubled := sorted({c for c in self.classes or [] if self.classes.count(c) > 1}):
            raise ValueError(f"classes need different names; twice: {', '.join(doubled)}")
        if self.val + self.test >= 1:
            raise ValueError(f"val + test must leave something to train on; they add up to {self.val + self.test:g}")
        return self


class Lora(Section):
    """Adapters instead of the weights themselves: trained blocks learn these alone."""

    rank: Count = Field(8, description="Width of the two thin matrices of each kernel.")
    alpha: Positive | None = Field(None, description="Their product is scaled by alpha / rank. None: rank.")
    dropout: Fraction = Field(0.0, description="Part of an adapter's input left out while training.")
    blocks: Annotated[list[str], BeforeValidator(listed_names, json_schema_input_type=str | list[str])] = Field(
        ["all"], min_length=1, description="Blocks that get adapters: names and patterns as in phases."
    )
    layers: Annotated[list[str], BeforeValidator(listed_names, json_schema_input_type=str | list[str])] = Field(
        ["query", "value", "query_dense", "value_dense"],
        min_length=1,
        description="Dense layers inside them, by name; globs. '*' adapts every one.",
    )


class Hearing(Section):
    """How sounds are read. The spectrogram is for backbones of images, which look at it."""

    rate: Annotated[int, Field(ge=1000, le=192_000)] | None = Field(
        None, description="Samples a second; files of another rate are resampled. None: the backbone's, mostly 16000."
    )
    seconds: Positive | None = Field(
        None,
        description="Longest sound that is read at a time; longer ones in windows that overlap. None: 4 for a spectrogram, else 30.",
    )
    overlap: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.5, description="Part of a window that the next one shares."
    )
    trim: Positive | None = Field(
        None, description="Cut silence off both ends: what is so many dB below the loudest. None: keep it."
    )
    window: Positive = Field(0.032, description="Spectrogram: seconds of a frame. Longer tells pitches apart.")
    hop: Positive = Field(0.01, description="Spectrogram: seconds from frame to frame. Shorter tells times apart.")
    mels: Annotated[int, Field(ge=8, le=512)] = Field(64, description="Spectrogram: bands of frequency.")
    low: Annotated[float, Field(ge=0)] = Field(20.0, description="Spectrogram: the lowest frequency in Hz.")
    high: Positive | None = Field(None, description="Spectrogram: the highest. None: half the rate.")


class Backbone(Section):
    name: str = Field(description="A name of `tlkeras backbones`, or a preset directory.")
    weights: str | None = Field(
        "pretrained",
        description="pretrained: the backbone's own; or one of its sources (imagenet, ...), a preset handle or directory, a weight file; null: random.",
    )
    size: Annotated[int, Field(ge=8)] | None = Field(
        None, description="Images: height and width of the input in pixels. None: that of the weights."
    )
    length: Annotated[int, Field(ge=4)] | None = Field(
        None, description="Text: tokens a sample may have; more are cut off. None: 512, or the network's own limit."
    )
    padding: Literal["longest", "length"] = Field(
        "longest", description="Text: batches of like length, padded to their longest; or always to length."
    )
    sound: Hearing = Field(Hearing(), description="Sounds: how they are read.")
    lora: Lora | None = Field(None, description="Train adapters in the backbone instead of its weights.")
    pool: Literal["avg", "token", "last", "time"] | None = Field(
        None,
        description="How features become one vector: their mean, the first token's, the last token's; of spectrograms the mean over time, band by band. None: the backbone's own way.",
    )
    until: str | None = Field(
        None,
        description="The last block that is used: the head sits on its output. Blocks behind it know more of what the backbone was trained for and less of all else. None: all.",
    )
    resize: Literal["squash", "crop", "letterbox"] | None = Field(
        None,
        description="squash shows the whole image and bends its shape; crop keeps the shape and cuts the borders off; letterbox keeps both, and pads. None: letterbox for object-detection from weights of YOLOX and EfficientDet, else squash.",
    )
    pad: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None,
        description="letterbox: the grey beside the image. None: the colour that the backbone was trained with, or 114.",
    )

    @model_validator(mode="after")
    def _pads_a_letterbox(self):
        if self.pad is not None and self.resize != "letterbox":
            raise ValueError(
                f"pad is the grey beside letterboxed images; set resize: letterbox too; received {self.resize}"
            )
        return self


class Augmentation(Section):
    flip: Literal["horizontal", "vertical", "both"] | None = Field(
        None, description="Mirror at random. Not for text, digits or signs."
    )
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="Degrees, to both sides.")
    crop: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Smallest part of the height and width that a random crop keeps."
    )
    brightness: Fraction = Field(0.0, description="Change of brightness, part of the range.")
    contrast: Fraction = Field(0.0, description="Change of contrast, part of the range.")
    rand_augment: Annotated[int, Field(ge=0, le=10)] = Field(
        0, description="Operations of RandAugment per image; 0: none."
    )
    rand_augment_factor: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="Strength of RandAugment.")
    erase: Fraction = Field(0.0, description="Chance that a random rectangle is erased.")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="MixUp: alpha of the Beta distribution; 0: none.")
    cutmix: Annotated[float, Field(ge=0)] = Field(0.0, description="CutMix: alpha of the Beta distribution; 0: none.")
    mosaic: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Boxes and masks: chance that four pictures are joined to one, in quadrants."
    )
    paste: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Masks, and boxes with polygons: chance that things cut out of another picture are put down."
    )
    speed: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Sounds: change of speed and pitch, to both sides; 0.1 is a tenth."
    )
    shift: Fraction = Field(0.0, description="Sounds: moved in time, part of the window, to both sides.")
    gain: Annotated[float, Field(ge=0, le=60)] = Field(
        0.0, description="Sounds: change of loudness in dB, to both sides."
    )
    noise: Annotated[float, Field(ge=0, le=2)] = Field(
        0.0, description="Sounds: loudest noise that is added, part of the sound's own loudness; 0.1 is -20 dB."
    )
    time_masks: Annotated[int, Field(ge=0, le=20)] = Field(
        0, description="Sounds: stretches of up to a tenth of the time that are silenced (SpecAugment)."
    )
    band_masks: Annotated[int, Field(ge=0, le=20)] = Field(
        0, description="Sounds: bands of up to 15 % of the frequencies that are silenced (SpecAugment)."
    )

    @property
    def active(self) -> bool:
        return self != Augmentation()


class Prefix(Section):
    """What lies below the first trained block, computed once per sample and trained from."""

    store: Literal["auto", "on", "off"] = Field(
        "auto",
        description="auto: keep it on disk where that is measured to pay; on: always; off: compute with every step.",
    )
    views: Literal["live"] | Annotated[int, Field(ge=1, le=1000)] = Field(
        "live", description="With augmentation: live makes a new view every epoch; a number keeps so many per sample."
    )
    dtype: Literal["float32", "float16"] | None = Field(
        None, description="Of the numbers on disk. None: as computed; float16 halves the space and rounds."
    )
    limit: str = Field("20GB", description="What all stored rows in the cache may take: 500MB, 20GB, 1TB.")

    @property
    def bytes(self) -> int:
        return size_in_bytes(self.limit)

    @model_validator(mode="after")
    def _limit_is_a_size(self):
        size_in_bytes(self.limit)
        return self


class Train(Section):
    recipe: Literal["fine_tune", "discriminative", "gradual", "head", "all", "scratch", "places"] | None = Field(
        None,
        description="Phases by the size of the data: fine_tune (head, then the last blocks too), discriminative (head, then all blocks, each 2.6 times slower than the one above it), gradual (the same, block after block), head, all (everything at once, gently), scratch (everything from random weights), or places (neck and head, then everything). None: as the task asks, mostly fine_tune. Ignored when phases are given.",
    )
    phases: list[Phase] | None = Field(None, min_length=1, description="What is trained, in order. None: by recipe.")
    batch: Count | Literal["auto"] = Field(
        32,
        description="Samples per update; auto: the largest power of two up to 256 that fits and leaves 10 updates an epoch.",
    )
    accumulate: Count | Literal["auto"] = Field(
        "auto",
        description="Parts into which a batch is cut, their gradients added up; auto: as few as memory asks for.",
    )
    remat: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Compute activations again for the gradient instead of keeping them; auto: when memory is short.",
    )
    seed: Seed = Field(0, description="Seeds initial weights, order, augmentation and dropout.")
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="auto: mixed where the hardware is good at it."
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="gpu: fail where there is none.")
    xla: Literal["auto", "on", "off"] = Field(
        "auto", description="Compile with XLA; auto: on a GPU where a few steps show that it is faster."
    )
    track: list[Literal["tensorboard", "mlflow", "wandb"]] | None = Field(
        None,
        description="Where epochs and metrics are written besides the run's own files, on this machine alone: tensorboard, mlflow, wandb. None: tensorboard where it is installed.",
    )
    keep_checkpoints: Count = Field(2, description="Checkpoints kept to resume from.")

    @property
    def usual_batch(self) -> int:
        """What recipes and plans reckon with before `auto` is known."""
        return 32 if self.batch == "auto" else self.batch

    @model_validator(mode="after")
    def _divides(self):
        if "auto" not in (self.batch, self.accumulate) and self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch; received {self.accumulate} and {self.batch}")
        return self

    @model_validator(mode="after")
    def _phase_names(self):
        names = [p.name for p in self.phases or []]
        if doubled := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"phases need different names; twice: {', '.join(sorted(doubled))}")
        return self


class Adapt(Section):
    """Another domain: the same task on data that looks otherwise, of which no label is known."""

    method: Literal["adabn", "coral", "mmd", "dann", "self-training", "masked-lm"] = Field(
        description="adabn (statistics of BatchNorm); coral, mmd, dann (a loss that brings the domains together); self-training (own answers as labels); masked-lm (texts: learns their language first)."
    )
    path: str = Field(
        description="The target: a folder or table of the same kind as data.path. Labels, where there are any, are for the score alone."
    )
    on: Literal["features", "outputs"] = Field(
        "features", description="coral, mmd, dann: what is brought together: what the head is given, or its outputs."
    )
    weight: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Of the loss beside that of the task, or of a sample with a label of its own making. 0: the control, the same training without it. None: 1.",
    )
    train: Annotated[list[str], BeforeValidator(listed_names, json_schema_input_type=str | list[str])] | None = Field(
        None, min_length=1, description="Blocks to train while adapting, as in phases. None: those of the last phase."
    )
    epochs: Count = Field(
        10,
        description="Passes over the source while adapting; of self-training in each round; of masked-lm over the target.",
    )
    learning_rate: Positive | None = Field(
        None, description="Rate of the head while adapting. None: that of the last phase; masked-lm: 2e-4."
    )
    rounds: Annotated[int, Field(ge=1, le=20)] = Field(
        3, description="self-training: how often the labels are made anew."
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="self-training: calibrated confidence from which an answer becomes a label, at least."
    )


def _targets(value):
    if not isinstance(value, list | dict | Export):
        raise ValueError(
            f"must be a list of formats, e.g. [saved_model, tflite], or a mapping with 'to'; received {'nothing' if value is None else value}"
        )
    return {"to": value} if isinstance(value, list) else value


class Export(Section):
    to: list[str] = Field([], description="Formats: saved_model, tflite, tflite-float16, tflite-dynamic, tflite-int8.")
    max_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        0.02, description="Largest drop of the main metric against the Keras model; past it nothing is kept."
    )
    calibration: Count = Field(
        200, description="Training images that set the ranges of tflite-int8, the same number per class."
    )


class Config(Section):
    """A run, as asked for."""

    version: Literal[1] = Field(1, description="Version of this format.")
    extends: str | None = Field(None, description="Another config that this one changes; relative to this file.")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = Field(
        None, description="Name of the run folder and of the served model. None: the file's name."
    )
    task: dict[str, Any] = Field(
        description="What is learned, such as image-classification or object-detection; a mapping with 'name' to set its options."
    )
    data: Data
    backbone: Backbone
    augment: Augmentation = Augmentation()
    prefix: Prefix = Prefix()
    extend: Extend | None = Field(None, description="A finished run that gets more classes. None: a run of its own.")
    distill: Distill | None = Field(None, description="A finished run that teaches this one. None: labels alone.")
    train: Train = Train()
    adapt: Adapt | None = Field(None, description="Adapt to another domain without labels: docs/adaptation.md.")
    export: Annotated[Export, BeforeValidator(_targets)] = Export()
    sweep: Sweep | None = Field(None, description="What `tlkeras sweep` searches.")

    @property
    def task_name(self) -> str:
        return self.task["name"]


def slug(text: str) -> str:
    """`text` as a run name: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "run"
