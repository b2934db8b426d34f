"""Writes the handwritten digits of scikit-learn as pictures of two domains: python examples/digits/make.py [FOLDER]

FOLDER (default: digits) gets source/0..9/*.png, 900 digits as they are, and the other 897 three times: shifted/ (moved by
up to a quarter of their width to one side, and down), rotated/ (by 40 degrees), and inverted/ (dark on light, on uneven
paper). 32x32 pixels, the same every time. No digit is in the source and in a target. Needs scikit-learn, which brings
them: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI, CC BY 4.0.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, SOURCE = 32, 900


def drawn(digit) -> Image.Image:
    """An 8x8 digit of values 0 to 16 as 32x32 grey pixels, light on dark, with a margin to be moved in."""
    small = Image.fromarray((np.asarray(digit) * 255 / 16).astype(np.uint8)).resize((22, 22), Image.Resampling.BICUBIC)
    out = Image.new("L", (SIDE, SIDE))
    out.paste(small, (5, 5))
    return out


def shifted(image, rng):
    right, down = rng.integers(4, 9), rng.integers(2, 7)
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, -int(right), 0, 1, -int(down)))


def rotated(image, rng):
    return image.rotate(40 + rng.uniform(-10, 10), Image.Resampling.BILINEAR)


def inverted(image, rng):
    paper = np.asarray(
        Image.fromarray(rng.integers(150, 256, (4, 4)).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    )
    ink = 1 - 0.9 * np.asarray(image) / 255
    return Image.fromarray((paper * ink + rng.normal(0, 6, paper.shape)).clip(0, 255).astype(np.uint8))


def main(out: str = "digits") -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order, rng = np.random.default_rng(0).permutation(len(images)), np.random.default_rng(1)
    for n, i in enumerate(order):
        image = drawn(images[i].reshape(8, 8))
        domains = {"source": image} if n < SOURCE else {f.__name__: f(image, rng) for f in (shifted, rotated, inverted)}
        for domain, picture in domains.items():
            folder = Path(out) / domain / str(labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{i:04d}.png")
    print(f"{out}: 900 digits in source, {len(images) - SOURCE} each in shifted, rotated, inverted")


if __name__ == "__main__":
    main(*sys.argv[1:])
