"""Found boxes and masks drawn into their picture, with Pillow alone.

Colours are those of Okabe & Ito (https://jfly.uni-koeln.de/color/), told apart with every kind of colour vision;
beyond seven classes they come again lighter and darker. Pillow's own font knows the letters of English: accents are
left off, and a name in another script is drawn as 'class 3', so that whoever shows the picture names the class beside it.
"""

import unicodedata

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
INK, PAPER = (24, 24, 22), (255, 255, 255)
GLYPHS = {chr(c) for c in range(32, 127)} | set("©«°±´·»‘’“”…‹›⁄™")
SPELT = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "–": "-", "—": "-"})  # fmt: skip
LONGEST = 24  # letters of a name in a picture


def colour(c: int) -> tuple[int, int, int]:
    """The colour of class number `c`."""
    from PIL import ImageColor

    rgb = ImageColor.getrgb(PALETTE[c % len(PALETTE)])
    toward, part = ((rgb, 0.0), (PAPER, 0.5), (INK, 0.45))[c // len(PALETTE) % 3]
    return tuple(round(a + (b - a) * part) for a, b in zip(rgb, toward, strict=True))


def legible(name: str, c: int) -> str:
    """A name in letters that the font has, cut where it is long; 'class {c}' where that cannot be."""
    parts = unicodedata.normalize("NFKD", str(name).translate(SPELT))
    text = " ".join("".join(p for p in parts if not unicodedata.combining(p)).split())
    if not text or not set(text) <= GLYPHS:
        return f"class {c}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def boxes(image, boxes, labels, scores=None, truth=None, classes=None):
    """A picture with boxes, their names and scores.

    Args:
        image: a PIL image; it is not changed.
        boxes: x0 y0 x1 y1 in its pixels, with `labels` and, or None, `scores`.
        truth: (boxes, labels) drawn dashed; None for none.
        classes: all names, by which a class has its colour. None: those that are drawn, sorted.
    """
    from PIL import ImageDraw

    there, of = truth or ((), ())
    known = list(classes) if classes is not None else sorted({*labels, *of})
    number = {name: c for c, name in enumerate(known)}
    picture = image.convert("RGB").copy()
    pen, width = ImageDraw.Draw(picture), max(2, round(max(picture.size) / 260))
    for box in there:
        _dashed(pen, box, width)
    order = range(len(labels)) if scores is None else sorted(range(len(labels)), key=lambda i: scores[i])
    for i in order:
        _framed(pen, boxes[i], colour(number[labels[i]]), width)
    taken: list = []
    # The surest keep the best places.
    for i in reversed(order):
        words = legible(labels[i], number[labels[i]]) + ("" if scores is None else f"  {100 * scores[i]:.0f}%")
        _named(picture, pen, boxes[i], words, colour(number[labels[i]]), width, taken)
    for box, label in zip(there, of, strict=True):
        _named(picture, pen, box, legible(label, number[label]), PAPER, width, taken)
    return picture


def mask(image, index_mask, names):
    """A picture under its mask, with a legend of the classes in it below; class 0 is the ground and stays clear."""
    import numpy as np
    from PIL import Image

    covered = overlay(image, index_mask)
    found = [c for c in np.unique(index_mask).tolist() if 0 < c < len(names)]
    if not found:
        return covered
    key = _legend([(legible(names[c], c), colour(c - 1)) for c in found], covered.width)
    both = Image.new("RGB", (covered.width, covered.height + key.height), PAPER)
    both.paste(covered)
    both.paste(key, (0, covered.height))
    return both


def overlay(image, index_mask, strength: float = 0.55):
    """A picture under a translucent mask (h, w) of class numbers in its own size: class 0 stays clear, every other
    has its colour over the grey picture and an outline, 255 is striped grey."""
    import numpy as np
    from PIL import Image

    picture = np.array(image.convert("RGB"), np.float32)
    m = np.asarray(index_mask)
    paint = np.zeros((256, 3), np.float32)
    paint[1:255] = [colour(c - 1) for c in range(1, 255)]
    paint[255] = 128
    cover = np.where(m > 0, strength, 0.0).astype(np.float32)
    rows, columns = np.indices(m.shape)
    cover[(m == 255) & ((rows + columns) // 4 % 2 == 0)] = 0.1
    edge = np.zeros(m.shape, bool)
    down, across = m[1:] != m[:-1], m[:, 1:] != m[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    cover[edge & (m > 0)] = 1.0
    # A red fruit under blue would be purple, the colour of another class.
    picture[m > 0] = picture[m > 0].mean(1, keepdims=True)
    mixed = picture + (paint[m] - picture) * cover[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def beside(*pictures, gap: int = 6):
    """Pictures of one height side by side on white."""
    from PIL import Image

    wide = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    row, x = Image.new("RGB", (wide, max(p.height for p in pictures)), PAPER), 0
    for p in pictures:
        row.paste(p, (x, 0))
        x += p.width + gap
    return row


def _framed(pen, box, rgb, width: int) -> None:
    """A frame around a box, between two hairlines that set it off from any ground."""
    x0, y0, x1, y1 = _whole(box)
    pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_on(rgb))
    pen.rectangle((x0, y0, x1, y1), outline=rgb, width=width)


def _dashed(pen, box, width: int) -> None:
    """White dashes on a dark line."""
    x0, y0, x1, y1 = _whole(box)
    pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=INK, width=width + 2)
    dash = 4 * width
    for a in range(x0, x1 + 1, 2 * dash):
        for y in (y0, y1 - width + 1):
            pen.rectangle((a, y, max(min(a + dash, x1), a), y + width - 1), fill=PAPER)
    for a in range(y0, y1 + 1, 2 * dash):
        for x in (x0, x1 - width + 1):
            pen.rectangle((x, a, x + width - 1, max(min(a + dash, y1), a)), fill=PAPER)


def _named(picture, pen, box, words: str, rgb, width: int, taken: list) -> None:
    """Words on a ground of their colour, at the first place around the box that is free."""
    font = _font(picture)
    pad = max(2, width)
    left, top, right, bottom = font.getbbox("Ag")
    wide, high = round(font.getlength(words)) + 2 * pad, bottom - top + 2 * pad
    x0, y0, x1, y1 = _whole(box)
    places = [
        (x, y)
        for x in (x0 - 1, x1 + 2 - wide)
        for y in (y0 - high, y1 + 1, y0 + width, y1 - width - high)
        if 0 <= y <= picture.height - high
    ] or [(x0 - 1, y0)]
    places = [(min(max(x, 0), max(picture.width - wide, 0)), min(max(y, 0), picture.height - high)) for x, y in places]
    free = [p for p in places if not any(_meet((*p, p[0] + wide, p[1] + high), other) for other in taken)]
    x, y = (free or places)[0]
    taken.append((x, y, x + wide, y + high))
    pen.rectangle((x, y, x + wide - 1, y + high - 1), fill=rgb, outline=INK if rgb == PAPER else None)
    pen.text((x + pad, y + pad - top), words, fill=_on(rgb), font=font)


def _legend(entries, wide: int):
    """Swatches with names, in as many lines as they need."""
    from PIL import Image, ImageDraw

    font = _font_of(13)
    line, swatch, x, y, placed = 20, 11, 6, 5, []
    for words, rgb in entries:
        length = swatch + 5 + round(font.getlength(words))
        if x > 6 and x + length > wide - 6:
            x, y = 6, y + line
        placed.append((x, y, words, rgb))
        x += length + 14
    key = Image.new("RGB", (wide, y + line), PAPER)
    pen = ImageDraw.Draw(key)
    for x, y, words, rgb in placed:
        pen.rectangle((x, y + 2, x + swatch, y + 2 + swatch), fill=rgb)
        pen.text((x + swatch + 5, y + 7), words, fill=INK, font=font, anchor="lm")
    return key


def _font(picture):
    return _font_of(max(11, round(max(picture.size) / 36)))


def _font_of(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _whole(box) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _meet(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _on(rgb) -> tuple[int, int, int]:
    """Ink or paper, whichever is read better on a colour (relative luminance of WCAG, gamma taken as 2.2)."""
    light = sum(w * (v / 255) ** 2.2 for w, v in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))
    return INK if light > 0.3 else PAPER
