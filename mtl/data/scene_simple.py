"""The layout of `simple`: five large classes that do not follow from where they are in the image.

Every wall is, at random, plain or full of books; large boxes and drums stand about. Hue hints at
the class but does not give it away. Texture periods are fixed in metres, so that with the fixed
camera height their size in the image tells the distance.
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from mtl.data.scene_builder import Layout, Palette, Place, SceneBuilder
from mtl.data.scene_records import SceneVariant

# Hue, and the texture of each class: pattern and period in metres. Classes that can be anywhere
# (walls, bookcases, furniture) are a third of the circle apart, floor and ceiling lie between.
HUES = {"floor": 0.08, "wall": 0.25, "bookcase": 0.58, "ceiling": 0.42, "furniture": 0.91}
HUE_DEVIATION = 0.08
TEXTURES = {
    "floor": ("checker", (0.8, 0.8)),
    "wall": ("stripes", (0.5, 0.5)),
    "bookcase": ("shelves", (0.22, 0.45)),
    "ceiling": ("tiles", (0.6, 0.6)),
    "furniture": ("bricks", (0.5, 0.3)),
}
# The darker colour of a texture as a share of the lighter one, before gamma.
DARKER = {"floor": 0.55, "wall": 0.85, "bookcase": 0.55, "ceiling": 0.6, "furniture": 0.55}
BOOKCASE_PROBABILITY = 0.5
DRUM_PROBABILITY = 0.25
BALL_PROBABILITY = 0.15
PLACING_ATTEMPTS = 12


def layout_simple(rng: np.random.Generator, variant: SceneVariant, palette: Palette) -> Layout:
    """Draw a room of plain and bookcase walls with a few large pieces of furniture."""
    b = SceneBuilder(rng, palette, variant.classes, variant.unlabelled_probability)
    half_x = float(rng.uniform(*variant.room_width_m)) / 2
    half_y = float(rng.uniform(*variant.room_length_m)) / 2
    height = float(rng.uniform(*variant.room_height_m))
    sides = ["bookcase" if rng.random() < BOOKCASE_PROBABILITY else "wall" for _ in range(4)]
    labels = [*sides, "floor", "ceiling"]
    b.room((half_x, half_y, height / 2), [_paint(palette, name) for name in labels], labels)
    number = int(rng.integers(variant.num_objects[0], variant.num_objects[1] + 1))
    taken: list[tuple[float, float, float]] = []
    for _ in range(number):
        for _ in range(PLACING_ATTEMPTS):
            half = rng.uniform((0.25, 0.25, 0.25), (0.6, 0.6, 0.9))
            reach = float(np.hypot(half[0], half[1]))
            x = float(rng.uniform(-1, 1)) * (half_x - reach)
            y = float(rng.uniform(-1, 1)) * (half_y - reach)
            if all(np.hypot(x - px, y - py) > reach + other for px, py, other in taken):
                taken.append((x, y, reach))
                _piece(b, Place(x, y, 0.0, float(rng.uniform(0, pi))), half)
                break
    return b.finish()


def _piece(b: SceneBuilder, place: Place, half: np.ndarray) -> None:
    size = (float(half[0]), float(half[1]), float(half[2]))
    material = _paint(b.palette, "furniture")
    draw = b.rng.random()
    if draw < BALL_PROBABILITY:
        radius = min(size[0], size[2])
        b.start("ball", place, "furniture")
        b.sphere((0, 0, radius), radius, material)
    elif draw < BALL_PROBABILITY + DRUM_PROBABILITY:
        b.start("drum", place, "furniture")
        b.cylinder((0, 0, size[2]), min(size[0], size[1]), size[2], material)
    else:
        b.start("block", place, "furniture")
        b.box((0, 0, size[2]), size, material)


def _paint(palette: Palette, name: str) -> int:
    """A material whose hue lies near that of the class, with the class's texture."""
    rng = palette.rng
    hue = HUES[name] + HUE_DEVIATION * float(rng.normal())
    saturation, value = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.55, 0.95))
    pattern, period_m = TEXTURES[name]
    light = _colour(hue, saturation, value)
    dark = _colour(hue, saturation, DARKER[name] * value)
    return palette.materials.add(pattern, [light, dark, light], period_m)


def _colour(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Linear colour with hues on an even circle of red, green, blue cosines."""
    angle = 2 * pi * hue
    parts = [
        value * (1 - saturation * (0.5 - 0.5 * (cos(angle) * cos(k) + sin(angle) * sin(k))))
        for k in (0.0, 2 * pi / 3, 4 * pi / 3)
    ]
    return parts[0] ** 2.2, parts[1] ** 2.2, parts[2] ** 2.2
