"""Small things that stand on supports, things that hang on walls, rugs and lights.

Sizes are log-uniform: as many cups as crates. A hung thing's frame lies on the wall: x along the
wall, y out of it, z up from the thing's middle.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

from mtl.data.scene_builder import Place, SceneBuilder
from mtl.data.scene_furniture import row_of_books, television


def small_box(b: SceneBuilder, size: float) -> None:
    """A carton, sometimes printed, sometimes tipped over."""
    x, y, z = (size * float(v) / 2 for v in b.rng.uniform(0.5, 1.0, 3))
    paint = b.palette.paint(0.25)
    turn = float(b.rng.uniform(0, pi))
    b.box((0, 0, z), (x, y, z), paint, turn=(0.0, 0.0, turn))


def leaning_box(b: SceneBuilder, size: float) -> None:
    """A box that stands on an edge, propped."""
    half_x, half_z = size * 0.5, size * float(b.rng.uniform(0.1, 0.3))
    tilt = float(b.rng.uniform(0.3, 1.0))
    half_y = size * float(b.rng.uniform(0.2, 0.5))
    rise = half_y * sin(tilt) + half_z * cos(tilt)
    b.box((0, 0, rise), (half_x, half_y, half_z), b.palette.paint(0.2), turn=(tilt, 0.0, 0.0))


def ball(b: SceneBuilder, size: float) -> None:
    """A ball, not above 0.6 m."""
    radius = min(size, 0.6) / 2
    b.sphere((0, 0, radius), radius, b.palette.paint())


def bottle(b: SceneBuilder, size: float) -> None:
    """A body, a neck and a shoulder between."""
    radius = size * float(b.rng.uniform(0.12, 0.25))
    body = 0.6 * size
    paint = b.palette.paint()
    b.cylinder((0, 0, body / 2), radius, body / 2, paint)
    b.sphere((0, 0, body), radius * 0.98, paint)
    b.cylinder((0, 0, (body + size) / 2), 0.35 * radius, (size - body) / 2, b.palette.plain())


def can(b: SceneBuilder, size: float) -> None:
    """A cup, can or waste-paper basket."""
    radius = size * float(b.rng.uniform(0.25, 0.5))
    b.cylinder((0, 0, size / 2), radius, size / 2, b.palette.paint())


def roll(b: SceneBuilder, size: float) -> None:
    """A cylinder lying on its side."""
    radius = size * float(b.rng.uniform(0.15, 0.4))
    turn = (pi / 2, 0.0, float(b.rng.uniform(0, pi)))
    b.cylinder((0, 0, radius), radius, size / 2, b.palette.paint(), turn=turn)


def fruit_bowl(b: SceneBuilder, size: float) -> None:
    """A low dish with balls in it."""
    b.cylinder((0, 0, 0.1 * size), 0.5 * size, 0.1 * size, b.palette.paint())
    paint = b.palette.plain()
    for x, y in ((0.15, 0.1), (-0.18, 0.12), (0.0, -0.2)):
        b.sphere((x * size, y * size, 0.33 * size), 0.17 * size, paint)


def book_stack(b: SceneBuilder, size: float) -> None:
    """Books lying on each other; class books."""
    z = 0.0
    for _ in range(int(b.rng.integers(1, 5))):
        thick = float(b.rng.uniform(0.012, 0.03))
        half_x, half_y = 0.5 * min(size, 0.32), 0.36 * min(size, 0.32)
        turn = (0.0, 0.0, float(b.rng.normal(0, 0.2)))
        b.box((0, 0, z + thick), (half_x, half_y, thick), b.palette.plain(), turn=turn)
        z += 2 * thick


def table_lamp(b: SceneBuilder, size: float) -> None:
    """A foot, a stem and a shade that sometimes glows."""
    paint = b.palette.plain()
    b.cylinder((0, 0, 0.03 * size), 0.2 * size, 0.03 * size, paint)
    b.cylinder((0, 0, 0.4 * size), 0.03 * size, 0.4 * size, paint)
    glow = float(b.rng.uniform(0.5, 2.5)) if b.rng.random() < 0.5 else 0.0
    shade = b.palette.material("plain", glow)
    if b.rng.random() < 0.6:
        b.cylinder((0, 0, 0.8 * size), 0.26 * size, 0.18 * size, shade)
    else:
        b.sphere((0, 0, 0.8 * size), 0.2 * size, shade)


def plant(b: SceneBuilder, size: float) -> None:
    """A pot with a crown of balls."""
    pot = 0.3 * size
    b.cylinder((0, 0, pot / 2), 0.6 * pot, pot / 2, b.palette.paint())
    b.cylinder((0, 0, 0.45 * size), 0.02 * size, 0.25 * size, b.palette.plain())
    leaves = b.palette.material("cloud")
    for _ in range(int(b.rng.integers(3, 7))):
        x, y, z = (float(v) for v in b.rng.uniform(-1, 1, 3))
        radius = size * float(b.rng.uniform(0.1, 0.17))
        b.sphere((0.15 * size * x, 0.15 * size * y, (0.72 + 0.14 * z) * size), radius, leaves)


SMALL: dict[str, Callable[[SceneBuilder, float], None]] = {
    "small_box": small_box,
    "leaning_box": leaning_box,
    "ball": ball,
    "bottle": bottle,
    "can": can,
    "roll": roll,
    "fruit_bowl": fruit_bowl,
    "book_stack": book_stack,
    "table_lamp": table_lamp,
    "plant": plant,
}


def rug(b: SceneBuilder, half_x: float, half_y: float) -> None:
    """A thin mat; class floor."""
    b.box((0, 0, 0.008), (half_x, half_y, 0.008), b.palette.paint(0.4))


def ceiling_light(b: SceneBuilder, size: float) -> None:
    """A disc, a ball or a tube under the ceiling; its frame's z = 0 is the ceiling."""
    glow = float(b.rng.uniform(0.5, 3.0)) if b.rng.random() < 0.7 else 0.0
    paint = b.palette.material("plain", glow)
    draw = b.rng.random()
    if draw < 0.4:
        b.cylinder((0, 0, -0.04), 0.5 * size, 0.04, paint)
    elif draw < 0.7:
        b.cylinder((0, 0, -0.25), 0.01, 0.25, b.palette.plain())
        b.sphere((0, 0, -0.5), 0.3 * size, paint)
    else:
        b.box((0, 0, -0.04), (size, 0.12, 0.04), paint)


def picture(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A frame around a print."""
    b.box((0, 0.015, 0), (half_x, 0.015, half_z), b.palette.plain())
    border = float(b.rng.uniform(0.02, 0.06))
    print_ = b.palette.paint(0.8)
    b.box((0, 0.018, 0), (max(half_x - border, 0.03), 0.015, max(half_z - border, 0.03)), print_)


def poster(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A print without thickness to speak of: 2D edges without 3D edges."""
    b.box((0, 0.002, 0), (half_x, 0.002, half_z), b.palette.paint(0.9))


def window(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A frame, panes with a view by day or night, and often curtains or a blind."""
    frame = b.palette.paint()
    view = ("landscape", "plain", "cloud", "flat")[int(b.rng.integers(4))]
    glow = float(b.rng.uniform(0.8, 3.0)) if b.rng.random() < 0.65 else 0.0
    pane = b.palette.material(view, glow)
    b.box((0, 0.004, 0), (half_x, 0.004, half_z), pane)
    bar = 0.035
    for x in (-half_x, 0.0, half_x) if half_x > 0.35 else (-half_x, half_x):
        b.box((x, 0.02, 0), (bar, 0.02, half_z + bar), frame)
    for z in (-half_z, half_z):
        b.box((0, 0.02, z), (half_x + bar, 0.022, bar), frame)
    draw = b.rng.random()
    cloth = b.palette.paint()
    if draw < 0.5:
        share = float(b.rng.uniform(0.2, 0.5))
        folds = max(2, round(share * half_x / 0.09))
        for side in (-1, 1):
            for i in range(folds):
                x = side * (half_x + 0.12 - (i + 0.5) * share * half_x / folds)
                radius = 0.55 * share * half_x / folds
                b.cylinder((x, 0.08, -0.06), min(radius, 0.07), half_z + 0.14, cloth)
    elif draw < 0.7:
        drop = float(b.rng.uniform(0.3, 1.8)) * half_z
        b.box((0, 0.055, half_z - drop / 2), (half_x, 0.01, drop / 2), cloth)


def mirror(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A framed plate; it does not reflect."""
    b.box((0, 0.012, 0), (half_x, 0.012, half_z), b.palette.paint())
    b.box((0, 0.016, 0), (0.9 * half_x, 0.012, 0.92 * half_z), b.palette.material("cloud"))


def wall_tv(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A television on the wall."""
    television(b, (0.0, 0.04, 0.0), half_x, half_z)


def door(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A leaf in a frame with a knob; class wall, as in the 13 NYUv2 classes."""
    leaf, frame = b.palette.paint(), b.palette.paint()
    b.box((0, 0.01, 0), (half_x, 0.01, half_z), leaf)
    for x in (-half_x, half_x):
        b.box((x, 0.02, 0), (0.05, 0.02, half_z), frame)
    b.box((0, 0.02, half_z), (half_x + 0.05, 0.02, 0.05), frame)
    b.sphere((0.8 * half_x, 0.06, -0.05), 0.035, b.palette.plain())


def wall_shelf(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A board with books; class furniture."""
    b.box((0, 0.12, -half_z), (half_x, 0.12, 0.015), b.palette.paint())
    place = b.place
    b.place = Place(*place.world(0.0, 0.12), place.z, place.yaw)
    row_of_books(b, 2 * half_x, 0.24, -half_z + 0.015, 0.3)
    b.place = place


def clock(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A round plate, as large as both half sizes allow."""
    turn, radius = (pi / 2, 0.0, 0.0), min(half_x, half_z)
    b.cylinder((0, 0.02, 0), radius, 0.02, b.palette.plain(), turn=turn)
    b.cylinder((0, 0.025, 0), 0.85 * radius, 0.02, b.palette.plain(), turn=turn)


def pillar(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """A part of the wall that juts out; class wall."""
    depth = float(b.rng.uniform(0.06, 0.3))
    b.box((0, depth, 0), (half_x, depth, half_z), b.palette.paint())


def clothes(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """Clothes or towels on a rail."""
    b.cylinder((0, 0.1, half_z), 0.015, half_x, b.palette.plain(), turn=(0.0, pi / 2, 0.0))
    x = -half_x
    while x < 0.9 * half_x:
        half = float(b.rng.uniform(0.04, 0.25))
        drop = half_z * float(b.rng.uniform(0.4, 1.0))
        b.box((x + half, 0.1, half_z - drop), (0.92 * half, 0.07, drop), b.palette.paint(0.2))
        x += 2 * half


def radiator(b: SceneBuilder, half_x: float, half_z: float) -> None:
    """Upright tubes between two rails."""
    paint = b.palette.plain()
    number = max(3, round(half_x / 0.06))
    for i in range(number):
        x = -half_x + (2 * i + 1) * half_x / number
        b.cylinder((x, 0.07, 0), 0.85 * half_x / number, half_z, paint)
    for z in (-0.9 * half_z, 0.9 * half_z):
        b.box((0, 0.05, z), (half_x, 0.03, 0.03), paint)


# Name: (build, class, half width range, half height range, height of the middle as (low, high)).
HUNG: dict[str, tuple] = {
    "picture": (picture, "picture", (0.2, 0.75), (0.2, 0.55), (1.3, 1.8)),
    "poster": (poster, "picture", (0.25, 0.7), (0.3, 0.65), (1.2, 1.7)),
    "window": (window, "window", (0.3, 1.1), (0.4, 0.85), (1.3, 1.65)),
    "mirror": (mirror, "objects", (0.2, 0.7), (0.3, 0.8), (1.2, 1.6)),
    "clothes": (clothes, "objects", (0.25, 0.7), (0.3, 0.65), (1.1, 1.5)),
    "radiator": (radiator, "objects", (0.3, 0.8), (0.25, 0.45), (0.5, 0.6)),
    "wall_tv": (wall_tv, "tv", (0.35, 0.7), (0.22, 0.4), (1.1, 1.6)),
    "door": (door, "wall", (0.36, 0.46), (0.98, 1.04), (1.0, 1.0)),
    "wall_shelf": (wall_shelf, "furniture", (0.3, 0.7), (0.16, 0.2), (1.3, 1.7)),
    "clock": (clock, "objects", (0.1, 0.2), (0.1, 0.2), (1.6, 2.0)),
    "pillar": (pillar, "wall", (0.1, 0.4), (1.1, 1.5), (1.1, 1.5)),
}
