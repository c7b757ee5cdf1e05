#!/usr/bin/env python3
"""Makes the files of this folder: images, and what Pillow's resize(BILINEAR) makes of them.

<name>.npy holds uint8 images [N, H, W]; <name>_<height>x<width>.npy the same images resized. Digits are drawn, not taken
from a data set, so that the script needs nothing but Pillow and NumPy.
"""
import os

import numpy as np
from PIL import Image, ImageDraw

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(1)


def digit(text):
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((10, 8), text, fill=255)
    return np.asarray(image.resize((40, 40), Image.BILINEAR).crop((6, 6, 34, 34)))


i, j = np.mgrid[:28, :28]
square = np.stack(
    [digit(c) for c in "0357"]
    + [
        rng.integers(0, 256, (28, 28)),
        rng.integers(0, 2, (28, 28)) * 255,
        np.zeros((28, 28)),
        np.full((28, 28), 255),
        (i + j) % 2 * 255,
        (i == j) * 255,
    ]
).astype(np.uint8)
wide = rng.integers(0, 256, (3, 17, 31)).astype(np.uint8)
single = np.array([[[200]], [[3]]], dtype=np.uint8)

cases = {
    "square": (square, [(1, 1), (7, 7), (8, 8), (14, 14), (15, 13), (20, 20), (27, 27), (28, 10), (10, 28), (32, 32), (45, 3)]),
    "wide": (wide, [(5, 7), (17, 31), (31, 17), (16, 62), (40, 33)]),
    "single": (single, [(1, 1), (3, 2)]),
}
for name, (images, sizes) in cases.items():
    np.save(f"{name}.npy", images)
    for height, width in sizes:
        resized = [np.asarray(Image.fromarray(x).resize((width, height), Image.BILINEAR)) for x in images]
        np.save(f"{name}_{height}x{width}.npy", np.stack(resized))
