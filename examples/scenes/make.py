"""Makes pictures with boxes and masks from the example photographs: python examples/scenes/make.py [FOLDER]

200 scenes to train on and 50 to judge, of 240 to 320 pixels a side: one to five photographs are cut out of their white
ground, scaled, mirrored at random and pasted on a coloured, uneven ground, where they may cover each other. No photograph is in
both. FOLDER (default: scenes) gets images/, masks/ (0 is the ground, 1 to 6 the classes in the order of their names), and
instances_train.json and instances_val.json in COCO's form. The same every time.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PHOTOS = Path(__file__).parent.parent / "photos"
COUNTS, HELD_OUT, SIDES = {"train": 200, "val": 50}, 5, ((320, 240), (240, 320), (320, 320))


def cut_out(path: Path) -> Image.Image:
    """A photograph with what is white and joined to its border made transparent."""
    image = Image.open(path).convert("RGB")
    white = Image.fromarray(((np.asarray(image).min(2) > 235) * 255).astype(np.uint8))
    framed = Image.new("L", (white.width + 2, white.height + 2), 255)
    framed.paste(white, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    alpha = Image.fromarray(((np.asarray(framed)[1:-1, 1:-1] != 128) * 255).astype(np.uint8))
    image.putalpha(alpha)
    return image.crop(alpha.getbbox())


def ground(size, rng) -> Image.Image:
    """Two colours run into each other from top to bottom, with coarse noise on them."""
    width, height = size
    top, bottom = rng.uniform(0, 255, (2, 1, 1, 3))
    ramp = np.linspace(0, 1, height)[:, None, None]
    noise = rng.normal(0, 35, (height // 8, width // 8, 3)) + 128
    coarse = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    return Image.fromarray(
        (top * (1 - ramp) + bottom * ramp + np.asarray(coarse) - 128.0).clip(0, 255).astype(np.uint8)
    )


def scene(things: list, rng):
    """An image, its mask, and (class, mask of what can be seen) of each thing, from (class, cut-out) pairs."""
    image = ground(SIDES[rng.integers(3)], rng)
    owner = np.zeros((image.height, image.width), int)
    for n, (_, thing) in enumerate(things, 1):
        scale = rng.uniform(0.25, 0.55) * min(image.size) / max(thing.size)
        thing = thing.resize([max(8, round(s * scale)) for s in thing.size], Image.Resampling.LANCZOS)
        if rng.random() < 0.5:
            thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x, y = (int(rng.integers(0, side - of + 1)) for side, of in zip(image.size, thing.size, strict=True))
        image.paste(thing, (x, y), thing)
        owner[y : y + thing.height, x : x + thing.width][np.asarray(thing)[:, :, 3] > 127] = n
    return image, owner


def main(out: str = "scenes") -> None:
    folder, rng = Path(out), np.random.default_rng(7)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    classes = sorted(p.name for p in PHOTOS.iterdir())
    photos = {c: sorted((PHOTOS / c).glob("*.jpg")) for c in classes}
    number = 0
    for split, count in COUNTS.items():
        images, notes = [], []
        chosen = {
            c: [cut_out(p) for i, p in enumerate(ps) if (i % HELD_OUT == 0) == (split == "val")]
            for c, ps in photos.items()
        }
        for _ in range(count):
            drawn = rng.integers(len(classes), size=rng.integers(1, 6))
            things = [(int(c), chosen[classes[c]][rng.integers(len(chosen[classes[c]]))]) for c in drawn]
            image, owner = scene(things, rng)
            name = f"{number:04d}"
            image.save(folder / "images" / f"{name}.jpg", quality=90)
            mask = np.array([0, *(c + 1 for c, _ in things)], np.uint8)[owner]
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
            images.append({"id": number, "file_name": f"{name}.jpg", "width": image.width, "height": image.height})
            for n, (c, _) in enumerate(things, 1):
                rows, columns = np.nonzero(owner == n)
                if len(rows) < 64:
                    continue
                x, y = int(columns.min()), int(rows.min())
                box = [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
                notes.append(
                    {
                        "id": len(notes) + 1,
                        "image_id": number,
                        "category_id": c + 1,
                        "bbox": box,
                        "area": len(rows),
                        "iscrowd": 0,
                    }
                )
            number += 1
        categories = [{"id": i + 1, "name": c} for i, c in enumerate(classes)]
        made = {"images": images, "annotations": notes, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(made), "utf8")
    (folder / "masks" / "classes.txt").write_text("\n".join(["ground", *classes]) + "\n", "utf8")


if __name__ == "__main__":
    main(*sys.argv[1:])
