"""Small pictures of the samples, inside the page."""

import base64
import hashlib
import io
import struct
from pathlib import Path

from tlkeras.backbones import spectra
from tlkeras.data import waveforms
from tlkeras.data.examine import MAX_BYTES
from tlkeras.data.packed import MAX_PIXELS
from tlkeras.errors import TlkerasError
from tlkeras.reports.page import Html, tag

SIDE = 128
DRAWN = 420  # pixels a side of a picture that is drawn into; smaller ones are enlarged, so that names can be read
MOST = 40
LETTERS = 240


class Album:
    """The pictures of a run by the id of their sample; gives out at most MOST of them."""

    def __init__(self, files: dict[str, tuple[str, str]], texts: dict[str, str] | None = None):
        """`files`: (path, SHA-256 of the bytes) by id; `texts`: of a run on texts."""
        self.files, self.texts, self.left = files, texts or {}, MOST

    def picture(self, id_: str, alt: str) -> Html:
        """The sample's picture in a square frame, or the words that say why there is none."""
        if not self.left:
            return _frame("not shown: the page holds enough pictures", alt)
        if id_ in self.texts:
            self.left -= 1
            text = self.texts[id_]
            return tag("blockquote", text if len(text) <= LETTERS else text[:LETTERS] + " ...", title=alt)
        path, sha256 = self.files.get(id_, (None, None))
        if path is None:
            return _frame("not kept in the run", alt)
        small, why = thumbnail(path, sha256)
        if small is None:
            return _frame(why, alt)
        self.left -= 1
        return tag("div", _img(small, alt), class_="frame")

    def drawn(self, id_: str, draw) -> Html:
        """Pictures side by side that `draw` (an image -> [(words, image)]) makes of the sample's, or why there are none."""
        if not self.left:
            return _frame("not shown: the page holds enough pictures", id_)
        path, sha256 = self.files.get(id_, (None, None))
        if path is None:
            return _frame("not kept in the run", id_)
        image, why = opened(path, sha256, DRAWN)
        if image is None:
            return _frame(why, id_)
        self.left -= 1
        larger = DRAWN / max(image.size)
        if larger > 1:
            image = image.resize([max(round(s * larger), 1) for s in image.size])
        return tag(
            "div",
            [
                tag("figure", _img(jpeg(made, 85, subsampling=0), f"{id_}: {words}"), tag("figcaption", words))
                for words, made in draw(image)
            ],
            class_="row",
        )


def _img(contents: bytes, alt: str) -> Html:
    source = "data:image/jpeg;base64," + base64.b64encode(contents).decode()
    return tag("img", src=source, alt=alt, loading="lazy", decoding="async")


def _frame(words: str, alt: str) -> Html:
    return tag("div", words, class_="frame none", title=alt)


def thumbnail(path, sha256: str) -> tuple[bytes | None, str]:
    """A file as JPEG of at most SIDE pixels a side: (bytes, ''), or (None, why not)."""
    image, why = opened(path, sha256)
    return (None, why) if image is None else (jpeg(image, 78), "")


def opened(path, sha256: str, side: int = SIDE):
    """The image in a file with at most `side` pixels a side, upright, over white: (image, ''), or (None, why not).

    The bytes must be those that were scanned: another picture beside a prediction would lie.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None, "file not found"
        contents = path.read_bytes()
    except OSError:
        return None, "file cannot be read"
    if hashlib.sha256(contents).hexdigest() != sha256:
        return None, "file changed since training"
    if path.suffix.lower() in waveforms.SUFFIXES:
        return _spectrogram(path, side)
    try:
        with Image.open(io.BytesIO(contents)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None, "too large to show"
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(_eight_bits(image))
            upright.thumbnail((side, side), Image.Resampling.LANCZOS)
            flat = Image.new("RGB", upright.size, "white")
            shown = upright.convert("RGBA")
            flat.paste(shown, mask=shown.getchannel("A"))
    except (OSError, ValueError, SyntaxError, struct.error, EOFError, Image.DecompressionBombError):
        return None, "no picture that can be shown"
    return flat, ""


def jpeg(image, quality: int, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True, **options)
    return out.getvalue()


def _spectrogram(path: Path, side: int):
    """The first ten seconds of a sound, time to the right, low tones below, `side` pixels a side: as `opened`."""
    import numpy as np
    from PIL import Image

    try:
        told = waveforms.about(path)
        x = waveforms.read(path, 16_000, 0, min(waveforms.samples(told, 16_000), 160_000), told)
    except TlkerasError:
        return None, "no sound that can be shown"
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, 256), 512)[::160]
    power = np.square(np.abs(np.fft.rfft(frames * spectra.hann(512))))
    bands = 10 * np.log10(np.maximum(power @ spectra.mel_filters(16_000, 512, 64, 20.0, 8000.0), spectra.LEAST))
    shades = np.clip(255 + (bands.T[::-1] - bands.max()) * (255 / spectra.RANGE), 0, 255).astype(np.uint8)
    return Image.fromarray(shades).resize((side, side), Image.Resampling.BILINEAR), ""


def _eight_bits(image):
    """16-bit grey as 8-bit grey: Pillow's own conversion would cut everything above 255 off."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    import numpy as np

    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
