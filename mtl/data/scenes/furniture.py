"""Furniture made of boxes, cylinders and spheres.

Each function builds one thing; those of pieces return the level places on it where small things can
stand. Rates and weights were fitted so that the mean pixel shares come near those of NYUv2's test
labels; `tests/data/scenes/test_scenes.py` holds them. They are drawn in the order of the tables.
"""

from collections.abc import Callable
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from mtl.data.scenes.builder import Place, SceneBuilder, Support, Triple
from mtl.data.scenes.records import Range

# Beyond this many solids in a room shelves stay empty: a bound on the rendering time.
MAX_SOLIDS = 400


class Piece(NamedTuple):
    """A kind of furniture; sizes are (width, depth, height) in metres."""

    rate: float
    """Mean number a room tries to place (Poisson)."""
    label: str
    smallest: Triple
    largest: Triple
    at_wall: bool
    build: Callable[[SceneBuilder, float, float, float], list[Support]]

    def size(self, rng: np.random.Generator) -> Triple:
        """Draw width, depth and height in metres."""
        width, depth, height = rng.uniform(self.smallest, self.largest)
        return float(width), float(depth), float(height)


def _top(b: SceneBuilder, width: float, depth: float, z: float, headroom: float = 0.9) -> Support:
    place = Place(b.place.x, b.place.y, b.place.z + z, b.place.yaw)
    return Support(place, 0.46 * width, 0.44 * depth, headroom)


def _legs(b: SceneBuilder, width: float, depth: float, top: float, material: int) -> None:
    thickness = b.draw(0.018, 0.04)
    round_ = b.rng.random() < 0.4
    for x in (-1, 1):
        for y in (-1, 1):
            centre = (x * (width / 2 - thickness), y * (depth / 2 - thickness), top / 2)
            if round_:
                b.cylinder(centre, thickness, top / 2, material)
            else:
                b.box(centre, (thickness, thickness, top / 2), material)


def _bed(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    frame, sheet, cover = b.palette.paint(), b.palette.paint(), b.palette.paint()
    low = 0.55 * height
    b.box((0, 0, low / 2 + 0.03), (width / 2, depth / 2, low / 2 - 0.03), frame)
    b.box((0, 0.02, (low + height) / 2), (0.48 * width, 0.48 * depth, (height - low) / 2), sheet)
    end = b.draw(0.0, 0.25) * depth
    thick = b.draw(0.02, 0.06)
    length = 0.5 * depth - end / 2
    b.box((0, depth / 2 - length + 0.02, height), (0.5 * width + 0.02, length, thick), cover)
    if b.rng.random() < 0.8:
        board = height + b.draw(0.2, 0.6)
        b.box((0, -depth / 2 - 0.03, board / 2), (width / 2 + 0.03, 0.03, board / 2), frame)
    pillow = b.palette.paint()
    for x in (-0.24, 0.24) if width > 1.2 else (0.0,):
        b.box(
            (x * width, -0.36 * depth, height + 0.09),
            (0.2 * min(width, 1.3), 0.17, 0.06), pillow, "objects",
            (b.draw(-0.1, 0.4), 0.0, float(b.rng.normal(0, 0.15))),
        )  # fmt: skip
    return [_top(b, 0.8 * width, 0.5 * depth, height + thick)]


def _sofa(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    body, cushion = b.palette.paint(), b.palette.paint()
    seat = 0.5 * height
    arm = b.draw(0.08, 0.14)
    b.box((0, 0, seat / 2), (width / 2, depth / 2, seat / 2 - 0.02), body)
    b.box((0, -0.38 * depth, height / 2 + 0.05), (width / 2, 0.12 * depth, height / 2 - 0.05), body)
    arm_top = 0.72 * height
    for side in (-1, 1):
        x = side * (width / 2 - arm / 2)
        b.box((x, 0, arm_top / 2), (arm / 2, depth / 2, arm_top / 2), body)
        if height > 0.85:
            turn = (pi / 2, 0.0, 0.0)
            b.cylinder((x, 0, arm_top), 0.6 * arm, depth / 2, body, turn=turn)
    number = max(1, round((width - 2 * arm) / 0.7))
    each = (width - 2 * arm) / number
    for i in range(number):
        x = -width / 2 + arm + (i + 0.5) * each
        b.box((x, 0.1 * depth, seat + 0.04), (0.48 * each, 0.38 * depth, 0.06), cushion)
    if b.rng.random() < 0.5:
        x = b.draw(-0.3, 0.3) * width
        half = b.draw(0.15, 0.22)
        b.box(
            (x, -0.14 * depth, seat + 0.1 + half), (half, 0.06, half), b.palette.paint(0.3),
            "objects", (0.35, 0.0, 0.0),
        )  # fmt: skip
    return [_top(b, 0.6 * width, 0.5 * depth, seat + 0.1)]


def _chair(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    wood, seat_paint = b.palette.paint(), b.palette.paint()
    seat = b.draw(0.42, 0.48)
    b.box((0, 0, seat), (width / 2, depth / 2, b.draw(0.02, 0.05)), seat_paint)
    if b.rng.random() < 0.65:
        _legs(b, width, depth, seat, wood)
    else:
        b.cylinder((0, 0, seat / 2 + 0.03), 0.03, seat / 2 - 0.03, wood)
        b.cylinder((0, 0, 0.04), 0.45 * width, 0.03, wood)
    back = -depth / 2 + 0.02
    if b.rng.random() < 0.6:
        middle = (seat + height) / 2
        b.box((0, back, middle + 0.03), (width / 2, 0.02, (height - seat) / 2 - 0.03), seat_paint)
    else:
        for x in (-1, 0, 1):
            centre = (x * (width / 2 - 0.025), back, (seat + height) / 2)
            b.box(centre, (0.022, 0.018, (height - seat) / 2), wood)
        b.box((0, back, height - 0.05), (width / 2, 0.02, 0.06), wood)
    return []


def _stool(b: SceneBuilder, width: float, _: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    if b.rng.random() < 0.5:
        b.cylinder((0, 0, height / 2), width / 2, height / 2, paint)
    else:
        b.cylinder((0, 0, height - 0.04), width / 2, 0.04, paint)
        b.cylinder((0, 0, height / 2), 0.035, height / 2, b.palette.paint())
    return []


def _table(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    b.box((0, 0, height - 0.025), (width / 2, depth / 2, 0.025), paint)
    _legs(b, width, depth, height - 0.05, paint if b.rng.random() < 0.6 else b.palette.paint())
    return [_top(b, width, depth, height)]


def _round_table(b: SceneBuilder, width: float, _: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    b.cylinder((0, 0, height - 0.02), width / 2, 0.02, paint)
    b.cylinder((0, 0, height / 2), 0.05, height / 2 - 0.03, paint)
    b.cylinder((0, 0, 0.025), 0.28 * width, 0.025, paint)
    return [_top(b, 0.7 * width, 0.7 * width, height)]


def _desk(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    b.box((0, 0, height - 0.02), (width / 2, depth / 2, 0.02), paint)
    middle = height / 2 - 0.02
    b.box((-width / 2 + 0.02, 0, middle), (0.02, 0.46 * depth, middle), paint)
    block = 0.3 * width
    b.box((width / 2 - block / 2, 0, middle), (block / 2, 0.46 * depth, middle), paint)
    _fronts(b, width / 2 - block / 2, 0.46 * depth, 0.05, height - 0.06, block, 1, 3)
    return [_top(b, width, depth, height)]


def _fronts(
    b: SceneBuilder, x: float, y: float, bottom: float, top: float, width: float,
    columns: int, rows: int,
) -> None:  # fmt: skip
    paint, knob = b.palette.paint(), b.palette.plain()
    each_x, each_z = width / columns, (top - bottom) / rows
    for i in range(columns):
        for j in range(rows):
            cx = x - width / 2 + (i + 0.5) * each_x
            cz = bottom + (j + 0.5) * each_z
            b.box((cx, y + 0.008, cz), (0.46 * each_x, 0.01, 0.46 * each_z), paint)
            b.sphere((cx + (0.3 if rows == 1 else 0.0) * each_x, y + 0.03, cz), 0.018, knob)


def _cabinet(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    b.box((0, 0, height / 2), (width / 2, depth / 2, height / 2), b.palette.paint())
    if height > 1.4 or b.rng.random() < 0.4:
        _fronts(b, 0, depth / 2, 0.08, height - 0.04, width, max(1, round(width / 0.5)), 1)
    else:
        rows = max(1, round(height / 0.25))
        _fronts(b, 0, depth / 2, 0.06, height - 0.03, width, max(1, round(width / 0.7)), rows)
    return [_top(b, width, depth, height)]


def _refrigerator(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint, handle = b.palette.paint(), b.palette.plain()
    b.box((0, 0, height / 2), (width / 2, depth / 2, height / 2), paint)
    for low, high in ((0.05, 0.62), (0.64, 0.98)):
        middle, half = (low + high) / 2 * height, (high - low) / 2 * height
        b.box((0, depth / 2 + 0.02, middle), (0.48 * width, 0.02, half), paint)
        b.cylinder((-0.4 * width, depth / 2 + 0.07, middle), 0.015, 0.5 * half, handle)
    return [_top(b, width, depth, height, 0.4)]


def _counter(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    b.box((0, 0, height / 2), (width / 2, 0.46 * depth, height / 2), paint)
    b.box((0, 0, height), (width / 2 + 0.01, depth / 2, 0.02), b.palette.paint())
    _fronts(b, 0, 0.46 * depth, 0.1, height - 0.05, width, max(2, round(width / 0.5)), 1)
    if b.rng.random() < 0.6:
        bottom, top = height + 0.5, height + 1.1
        middle = (bottom + top) / 2
        b.box((0, -0.25 * depth, middle), (width / 2, 0.25 * depth, (top - bottom) / 2), paint)
        _fronts(b, 0, 0.0, bottom + 0.02, top - 0.02, width, max(2, round(width / 0.5)), 1)
    return [_top(b, width, depth, height + 0.02, 0.45)]


def _bookcase(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    for side in (-1, 1):
        b.box((side * (width / 2 - 0.015), 0, height / 2), (0.015, depth / 2, height / 2), paint)
    b.box((0, -depth / 2 + 0.01, height / 2), (width / 2, 0.01, height / 2), b.palette.paint())
    number = max(2, round(height / b.draw(0.32, 0.45)))
    gap = (height - 0.04) / number
    supports = []
    for i in range(number + 1):
        b.box((0, 0, 0.02 + i * gap), (width / 2, depth / 2, 0.015), paint)
    for i in range(number):
        z = 0.035 + i * gap
        if b.rng.random() < 0.5:
            _row_of_books(b, width - 0.06, depth, z, gap - 0.05)
        else:
            supports.append(_top(b, 0.85 * width, 0.6 * depth, z, gap - 0.06))
    return [*supports, _top(b, width, depth, height, 0.4)]


def _row_of_books(b: SceneBuilder, width: float, depth: float, z: float, room: float) -> None:
    x = -width / 2
    end = x + width * b.draw(0.3, 0.95)
    paints = [b.palette.plain() for _ in range(3)]
    while x < end and len(b.rows) < MAX_SOLIDS:
        thick = b.draw(0.03, 0.09)
        tall = room * b.draw(0.6, 0.95)
        if x + thick > width / 2:
            break
        paint = paints[int(b.rng.integers(3))]
        b.box(
            (x + thick / 2, 0.03, z + tall / 2), (0.46 * thick, 0.36 * depth, tall / 2), paint,
            "books",
        )  # fmt: skip
        x += thick


def _crates(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    number = int(b.rng.integers(1, 4))
    z, half_z = 0.0, height / number / 2
    for i in range(number):
        shrink = 0.5 * (1 - 0.08 * i)
        turn = (0.0, 0.0, float(b.rng.normal(0, 0.12)) if i else 0.0)
        b.box((0, 0, z + half_z), (shrink * width, shrink * depth, half_z), b.palette.paint(0.25),
              turn=turn)  # fmt: skip
        z += 2 * half_z
    return [_top(b, 0.7 * width, 0.7 * depth, height)]


def _bathtub(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    paint = b.palette.paint()
    for side in (-1, 1):
        b.box((0, side * (depth / 2 - 0.04), height / 2), (width / 2, 0.04, height / 2), paint)
        b.box((side * (width / 2 - 0.05), 0, height / 2), (0.05, depth / 2, height / 2), paint)
    b.box((0, 0, 0.3 * height), (width / 2 - 0.05, depth / 2 - 0.04, 0.05), b.palette.paint())
    b.cylinder((0.4 * width, 0, height + 0.12), 0.02, 0.12, b.palette.plain())
    return []


def _tv_stand(b: SceneBuilder, width: float, depth: float, height: float) -> list[Support]:
    _cabinet(b, width, depth, height)
    screen = min(0.5 * width, b.draw(0.35, 0.65))
    tall = 0.58 * screen
    b.box((0, 0, height + 0.015), (0.25 * screen, 0.1, 0.015), b.palette.plain(), "tv")
    _television(b, (0.0, 0.0, height + 0.05 + tall), screen, tall)
    return []


def _television(b: SceneBuilder, centre: Triple, half_width: float, half_height: float) -> None:
    x, y, z = centre
    b.box(centre, (half_width, 0.025, half_height), b.palette.plain(), "tv")
    pattern = ("flat", "landscape", "mondrian", "plain")[int(b.rng.integers(4))]
    glow = b.draw(0.2, 1.5) if pattern != "flat" else 0.0
    screen = b.palette.material(pattern, glow)
    b.box((x, y + 0.022, z), (0.95 * half_width, 0.006, 0.93 * half_height), screen, "tv")


PIECES: dict[str, Piece] = {
    "bed": Piece(1.0, "bed", (1.0, 1.8, 0.35), (1.8, 2.1, 0.6), True, _bed),
    "sofa": Piece(0.9, "sofa", (1.4, 0.75, 0.7), (2.4, 1.0, 0.95), True, _sofa),
    "armchair": Piece(0.5, "chair", (0.7, 0.7, 0.7), (0.95, 0.9, 0.95), False, _sofa),
    "chair": Piece(0.8, "chair", (0.4, 0.4, 0.78), (0.55, 0.52, 1.05), False, _chair),
    "stool": Piece(0.4, "chair", (0.3, 0.3, 0.35), (0.6, 0.6, 0.5), False, _stool),
    "table": Piece(0.8, "table", (0.9, 0.65, 0.68), (1.9, 1.0, 0.78), False, _table),
    "round_table": Piece(0.4, "table", (0.7, 0.7, 0.65), (1.3, 1.3, 0.78), False, _round_table),
    "coffee_table": Piece(0.6, "table", (0.6, 0.45, 0.3), (1.2, 0.7, 0.5), False, _table),
    "desk": Piece(0.8, "table", (1.0, 0.55, 0.7), (1.7, 0.8, 0.78), True, _desk),
    "cabinet": Piece(2.1, "furniture", (0.5, 0.38, 0.5), (1.4, 0.6, 1.2), True, _cabinet),
    "wardrobe": Piece(0.9, "furniture", (0.8, 0.5, 1.7), (1.8, 0.65, 2.2), True, _cabinet),
    "refrigerator": Piece(
        0.4, "furniture", (0.55, 0.55, 1.4), (0.9, 0.7, 1.9), True, _refrigerator
    ),
    "counter": Piece(0.5, "furniture", (1.2, 0.58, 0.85), (2.6, 0.65, 0.95), True, _counter),
    "bookcase": Piece(1.3, "furniture", (0.6, 0.26, 0.8), (1.4, 0.36, 2.1), True, _bookcase),
    "tv_stand": Piece(0.3, "furniture", (0.9, 0.35, 0.35), (1.8, 0.5, 0.65), True, _tv_stand),
    "night_stand": Piece(1.2, "objects", (0.4, 0.35, 0.45), (0.6, 0.5, 0.65), True, _cabinet),
    "crates": Piece(2.4, "objects", (0.35, 0.35, 0.3), (0.9, 0.8, 1.4), False, _crates),
    "bathtub": Piece(0.35, "objects", (1.3, 0.65, 0.45), (1.7, 0.8, 0.65), True, _bathtub),
}


def _small_box(b: SceneBuilder, size: float) -> None:
    x, y, z = (size * float(v) / 2 for v in b.rng.uniform(0.5, 1.0, 3))
    paint = b.palette.paint(0.25)
    turn = b.draw(0, pi)
    b.box((0, 0, z), (x, y, z), paint, turn=(0.0, 0.0, turn))


def _leaning_box(b: SceneBuilder, size: float) -> None:
    half_x, half_z = size * 0.5, size * b.draw(0.1, 0.3)
    tilt = b.draw(0.3, 1.0)
    half_y = size * b.draw(0.2, 0.5)
    rise = half_y * sin(tilt) + half_z * cos(tilt)
    b.box((0, 0, rise), (half_x, half_y, half_z), b.palette.paint(0.2), turn=(tilt, 0.0, 0.0))


def _ball(b: SceneBuilder, size: float) -> None:
    radius = min(size, 0.6) / 2
    b.sphere((0, 0, radius), radius, b.palette.paint())


def _bottle(b: SceneBuilder, size: float) -> None:
    radius = size * b.draw(0.12, 0.25)
    body = 0.6 * size
    paint = b.palette.paint()
    b.cylinder((0, 0, body / 2), radius, body / 2, paint)
    b.sphere((0, 0, body), radius * 0.98, paint)
    b.cylinder((0, 0, (body + size) / 2), 0.35 * radius, (size - body) / 2, b.palette.plain())


def _can(b: SceneBuilder, size: float) -> None:
    radius = size * b.draw(0.25, 0.5)
    b.cylinder((0, 0, size / 2), radius, size / 2, b.palette.paint())


def _roll(b: SceneBuilder, size: float) -> None:
    radius = size * b.draw(0.15, 0.4)
    turn = (pi / 2, 0.0, b.draw(0, pi))
    b.cylinder((0, 0, radius), radius, size / 2, b.palette.paint(), turn=turn)


def _fruit_bowl(b: SceneBuilder, size: float) -> None:
    b.cylinder((0, 0, 0.1 * size), 0.5 * size, 0.1 * size, b.palette.paint())
    paint = b.palette.plain()
    for x, y in ((0.15, 0.1), (-0.18, 0.12), (0.0, -0.2)):
        b.sphere((x * size, y * size, 0.33 * size), 0.17 * size, paint)


def _book_stack(b: SceneBuilder, size: float) -> None:
    z = 0.0
    for _ in range(int(b.rng.integers(1, 5))):
        thick = b.draw(0.012, 0.03)
        half_x, half_y = 0.5 * min(size, 0.32), 0.36 * min(size, 0.32)
        turn = (0.0, 0.0, float(b.rng.normal(0, 0.2)))
        b.box((0, 0, z + thick), (half_x, half_y, thick), b.palette.plain(), turn=turn)
        z += 2 * thick


def _table_lamp(b: SceneBuilder, size: float) -> None:
    paint = b.palette.plain()
    b.cylinder((0, 0, 0.03 * size), 0.2 * size, 0.03 * size, paint)
    b.cylinder((0, 0, 0.4 * size), 0.03 * size, 0.4 * size, paint)
    glow = b.draw(0.5, 2.5) if b.rng.random() < 0.5 else 0.0
    shade = b.palette.material("plain", glow)
    if b.rng.random() < 0.6:
        b.cylinder((0, 0, 0.8 * size), 0.26 * size, 0.18 * size, shade)
    else:
        b.sphere((0, 0, 0.8 * size), 0.2 * size, shade)


def _plant(b: SceneBuilder, size: float) -> None:
    pot = 0.3 * size
    b.cylinder((0, 0, pot / 2), 0.6 * pot, pot / 2, b.palette.paint())
    b.cylinder((0, 0, 0.45 * size), 0.02 * size, 0.25 * size, b.palette.plain())
    leaves = b.palette.material("cloud")
    for _ in range(int(b.rng.integers(3, 7))):
        x, y, z = (float(v) for v in b.rng.uniform(-1, 1, 3))
        radius = size * b.draw(0.1, 0.17)
        b.sphere((0.15 * size * x, 0.15 * size * y, (0.72 + 0.14 * z) * size), radius, leaves)


SMALL: dict[str, tuple[float, str, Callable[[SceneBuilder, float], None]]] = {
    "small_box": (3.0, "objects", _small_box),
    "leaning_box": (1.0, "objects", _leaning_box),
    "ball": (0.8, "objects", _ball),
    "bottle": (1.2, "objects", _bottle),
    "can": (1.5, "objects", _can),
    "roll": (1.0, "objects", _roll),
    "fruit_bowl": (0.5, "objects", _fruit_bowl),
    "book_stack": (0.8, "books", _book_stack),
    "table_lamp": (1.0, "objects", _table_lamp),
    "plant": (1.2, "objects", _plant),
}
"""Relative frequency, class, and how to build it at a size in metres."""


def rug(b: SceneBuilder, half_x: float, half_y: float) -> None:
    """A thin mat; class floor."""
    b.box((0, 0, 0.008), (half_x, half_y, 0.008), b.palette.paint(0.4))


def ceiling_light(b: SceneBuilder, size: float) -> None:
    """A disc, a ball or a tube under the ceiling; its frame's z = 0 is the ceiling."""
    glow = b.draw(0.5, 3.0) if b.rng.random() < 0.7 else 0.0
    paint = b.palette.material("plain", glow)
    draw = b.rng.random()
    if draw < 0.4:
        b.cylinder((0, 0, -0.04), 0.5 * size, 0.04, paint)
    elif draw < 0.7:
        b.cylinder((0, 0, -0.25), 0.01, 0.25, b.palette.plain())
        b.sphere((0, 0, -0.5), 0.3 * size, paint)
    else:
        b.box((0, 0, -0.04), (size, 0.12, 0.04), paint)


def _picture(b: SceneBuilder, half_x: float, half_z: float) -> None:
    b.box((0, 0.015, 0), (half_x, 0.015, half_z), b.palette.plain())
    border = b.draw(0.02, 0.06)
    print_ = b.palette.paint(0.8)
    b.box((0, 0.018, 0), (max(half_x - border, 0.03), 0.015, max(half_z - border, 0.03)), print_)


def _poster(b: SceneBuilder, half_x: float, half_z: float) -> None:
    b.box((0, 0.002, 0), (half_x, 0.002, half_z), b.palette.paint(0.9))


def _window(b: SceneBuilder, half_x: float, half_z: float) -> None:
    frame = b.palette.paint()
    view = ("landscape", "plain", "cloud", "flat")[int(b.rng.integers(4))]
    glow = b.draw(0.8, 3.0) if b.rng.random() < 0.65 else 0.0
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
        share = b.draw(0.2, 0.5)
        folds = max(2, round(share * half_x / 0.09))
        for side in (-1, 1):
            for i in range(folds):
                x = side * (half_x + 0.12 - (i + 0.5) * share * half_x / folds)
                radius = 0.55 * share * half_x / folds
                b.cylinder((x, 0.08, -0.06), min(radius, 0.07), half_z + 0.14, cloth)
    elif draw < 0.7:
        drop = b.draw(0.3, 1.8) * half_z
        b.box((0, 0.055, half_z - drop / 2), (half_x, 0.01, drop / 2), cloth)


def _mirror(b: SceneBuilder, half_x: float, half_z: float) -> None:
    b.box((0, 0.012, 0), (half_x, 0.012, half_z), b.palette.paint())
    b.box((0, 0.016, 0), (0.9 * half_x, 0.012, 0.92 * half_z), b.palette.material("cloud"))


def _wall_tv(b: SceneBuilder, half_x: float, half_z: float) -> None:
    _television(b, (0.0, 0.04, 0.0), half_x, half_z)


def _door(b: SceneBuilder, half_x: float, half_z: float) -> None:
    leaf, frame = b.palette.paint(), b.palette.paint()
    b.box((0, 0.01, 0), (half_x, 0.01, half_z), leaf)
    for x in (-half_x, half_x):
        b.box((x, 0.02, 0), (0.05, 0.02, half_z), frame)
    b.box((0, 0.02, half_z), (half_x + 0.05, 0.02, 0.05), frame)
    b.sphere((0.8 * half_x, 0.06, -0.05), 0.035, b.palette.plain())


def _wall_shelf(b: SceneBuilder, half_x: float, half_z: float) -> None:
    b.box((0, 0.12, -half_z), (half_x, 0.12, 0.015), b.palette.paint())
    place = b.place
    b.place = Place(*place.world(0.0, 0.12), place.z, place.yaw)
    _row_of_books(b, 2 * half_x, 0.24, -half_z + 0.015, 0.3)
    b.place = place


def _clock(b: SceneBuilder, half_x: float, half_z: float) -> None:
    turn, radius = (pi / 2, 0.0, 0.0), min(half_x, half_z)
    b.cylinder((0, 0.02, 0), radius, 0.02, b.palette.plain(), turn=turn)
    b.cylinder((0, 0.025, 0), 0.85 * radius, 0.02, b.palette.plain(), turn=turn)


def _pillar(b: SceneBuilder, half_x: float, half_z: float) -> None:
    depth = b.draw(0.06, 0.3)
    b.box((0, depth, 0), (half_x, depth, half_z), b.palette.paint())


def _clothes(b: SceneBuilder, half_x: float, half_z: float) -> None:
    b.cylinder((0, 0.1, half_z), 0.015, half_x, b.palette.plain(), turn=(0.0, pi / 2, 0.0))
    x = -half_x
    while x < 0.9 * half_x:
        half = b.draw(0.04, 0.25)
        drop = half_z * b.draw(0.4, 1.0)
        b.box((x + half, 0.1, half_z - drop), (0.92 * half, 0.07, drop), b.palette.paint(0.2))
        x += 2 * half


def _radiator(b: SceneBuilder, half_x: float, half_z: float) -> None:
    paint = b.palette.plain()
    number = max(3, round(half_x / 0.06))
    for i in range(number):
        x = -half_x + (2 * i + 1) * half_x / number
        b.cylinder((x, 0.07, 0), 0.85 * half_x / number, half_z, paint)
    for z in (-0.9 * half_z, 0.9 * half_z):
        b.box((0, 0.05, z), (half_x, 0.03, 0.03), paint)


class Hung(NamedTuple):
    """A kind of thing on walls; half its width and height and its middle have ranges in metres."""

    rate: float
    """Mean number a room tries to hang (Poisson)."""
    label: str
    half_x: Range
    half_z: Range
    middle: Range
    build: Callable[[SceneBuilder, float, float], None]


HUNG: dict[str, Hung] = {
    "picture": Hung(3.5, "picture", (0.2, 0.75), (0.2, 0.55), (1.3, 1.8), _picture),
    "poster": Hung(2.0, "picture", (0.25, 0.7), (0.3, 0.65), (1.2, 1.7), _poster),
    "window": Hung(5.0, "window", (0.3, 1.1), (0.4, 0.85), (1.3, 1.65), _window),
    "mirror": Hung(2.5, "objects", (0.2, 0.7), (0.3, 0.8), (1.2, 1.6), _mirror),
    "wall_tv": Hung(0.15, "tv", (0.35, 0.7), (0.22, 0.4), (1.1, 1.6), _wall_tv),
    "door": Hung(0.6, "wall", (0.36, 0.46), (0.98, 1.04), (1.0, 1.0), _door),
    "wall_shelf": Hung(0.5, "furniture", (0.3, 0.7), (0.16, 0.2), (1.3, 1.7), _wall_shelf),
    "clock": Hung(0.4, "objects", (0.1, 0.2), (0.1, 0.2), (1.6, 2.0), _clock),
    "pillar": Hung(0.6, "wall", (0.1, 0.4), (1.1, 1.5), (1.1, 1.5), _pillar),
    "clothes": Hung(3.5, "objects", (0.25, 0.7), (0.3, 0.65), (1.1, 1.5), _clothes),
    "radiator": Hung(1.5, "objects", (0.3, 0.8), (0.25, 0.45), (0.5, 0.6), _radiator),
}
