"""Furniture made of boxes, cylinders and spheres.

Each function builds one piece and returns the level places on it where small things can stand.
Sizes are (width, depth, height) in metres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from mtl.data.scenes.builder import Place, SceneBuilder, Support, Triple

# Beyond this many solids in a room shelves stay empty: a bound on the rendering time.
MAX_SOLIDS = 400

Build = Callable[[SceneBuilder, Triple], list[Support]]


@dataclass(frozen=True)
class Piece:
    """A kind of furniture: class, smallest and largest size, at a wall or free, how to build it."""

    label: str
    smallest: Triple
    largest: Triple
    at_wall: bool
    build: Build

    def size(self, rng: np.random.Generator) -> Triple:
        """Draw width, depth and height in metres."""
        width, depth, height = rng.uniform(self.smallest, self.largest)
        return float(width), float(depth), float(height)


def _top(b: SceneBuilder, size: Triple, z: float, headroom: float = 0.9) -> Support:
    width, depth, _ = size
    place = Place(b.place.x, b.place.y, b.place.z + z, b.place.yaw)
    return Support(place, 0.46 * width, 0.44 * depth, headroom)


def legs(b: SceneBuilder, size: Triple, top: float, material: int) -> None:
    """Four legs under a top, square or round."""
    width, depth, _ = size
    thickness = float(b.rng.uniform(0.018, 0.04))
    round_ = b.rng.random() < 0.4
    for x in (-1, 1):
        for y in (-1, 1):
            centre = (x * (width / 2 - thickness), y * (depth / 2 - thickness), top / 2)
            if round_:
                b.cylinder(centre, thickness, top / 2, material)
            else:
                b.box(centre, (thickness, thickness, top / 2), material)


def bed(b: SceneBuilder, size: Triple) -> list[Support]:
    """Frame, mattress, head board, cover and pillows."""
    width, depth, height = size
    frame, sheet, cover = b.palette.paint(), b.palette.paint(), b.palette.paint()
    low = 0.55 * height
    b.box((0, 0, low / 2 + 0.03), (width / 2, depth / 2, low / 2 - 0.03), frame)
    b.box((0, 0.02, (low + height) / 2), (0.48 * width, 0.48 * depth, (height - low) / 2), sheet)
    end = float(b.rng.uniform(0.0, 0.25)) * depth
    thick = float(b.rng.uniform(0.02, 0.06))
    length = 0.5 * depth - end / 2
    b.box((0, depth / 2 - length + 0.02, height), (0.5 * width + 0.02, length, thick), cover)
    if b.rng.random() < 0.8:
        board = height + float(b.rng.uniform(0.2, 0.6))
        b.box((0, -depth / 2 - 0.03, board / 2), (width / 2 + 0.03, 0.03, board / 2), frame)
    pillow = b.palette.paint()
    for x in (-0.24, 0.24) if width > 1.2 else (0.0,):
        b.box(
            (x * width, -0.36 * depth, height + 0.09),
            (0.2 * min(width, 1.3), 0.17, 0.06), pillow, "objects",
            (float(b.rng.uniform(-0.1, 0.4)), 0.0, float(b.rng.normal(0, 0.15))),
        )  # fmt: skip
    surface = _top(b, (0.8 * width, 0.5 * depth, 0), height + thick)
    return [surface]


def sofa(b: SceneBuilder, size: Triple) -> list[Support]:
    """Base, back, arms, seat cushions and now and then a pillow; also armchairs."""
    width, depth, height = size
    body, cushion = b.palette.paint(), b.palette.paint()
    seat = 0.5 * height
    arm = float(b.rng.uniform(0.08, 0.14))
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
        x = float(b.rng.uniform(-0.3, 0.3)) * width
        half = float(b.rng.uniform(0.15, 0.22))
        b.box(
            (x, -0.14 * depth, seat + 0.1 + half), (half, 0.06, half), b.palette.paint(0.3),
            "objects", (0.35, 0.0, 0.0),
        )  # fmt: skip
    return [_top(b, (0.6 * width, 0.5 * depth, 0), seat + 0.1)]


def chair(b: SceneBuilder, size: Triple) -> list[Support]:
    """Seat on four legs or on a column, with a full or a slatted back."""
    width, depth, height = size
    wood, seat_paint = b.palette.paint(), b.palette.paint()
    seat = float(b.rng.uniform(0.42, 0.48))
    b.box((0, 0, seat), (width / 2, depth / 2, float(b.rng.uniform(0.02, 0.05))), seat_paint)
    if b.rng.random() < 0.65:
        legs(b, size, seat, wood)
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


def stool(b: SceneBuilder, size: Triple) -> list[Support]:
    """A round pouffe or a seat on a column."""
    width, _, height = size
    paint = b.palette.paint()
    if b.rng.random() < 0.5:
        b.cylinder((0, 0, height / 2), width / 2, height / 2, paint)
    else:
        b.cylinder((0, 0, height - 0.04), width / 2, 0.04, paint)
        b.cylinder((0, 0, height / 2), 0.035, height / 2, b.palette.paint())
    return []


def table(b: SceneBuilder, size: Triple) -> list[Support]:
    """A top on four legs; also coffee tables."""
    width, depth, height = size
    paint = b.palette.paint()
    b.box((0, 0, height - 0.025), (width / 2, depth / 2, 0.025), paint)
    legs(b, size, height - 0.05, paint if b.rng.random() < 0.6 else b.palette.paint())
    return [_top(b, size, height)]


def round_table(b: SceneBuilder, size: Triple) -> list[Support]:
    """A round top on a column and a foot."""
    width, _, height = size
    paint = b.palette.paint()
    b.cylinder((0, 0, height - 0.02), width / 2, 0.02, paint)
    b.cylinder((0, 0, height / 2), 0.05, height / 2 - 0.03, paint)
    b.cylinder((0, 0, 0.025), 0.28 * width, 0.025, paint)
    return [_top(b, (0.7 * width, 0.7 * width, 0), height)]


def desk(b: SceneBuilder, size: Triple) -> list[Support]:
    """A top between side panels, with a block of drawers."""
    width, depth, height = size
    paint = b.palette.paint()
    b.box((0, 0, height - 0.02), (width / 2, depth / 2, 0.02), paint)
    middle = height / 2 - 0.02
    b.box((-width / 2 + 0.02, 0, middle), (0.02, 0.46 * depth, middle), paint)
    block = 0.3 * width
    b.box((width / 2 - block / 2, 0, middle), (block / 2, 0.46 * depth, middle), paint)
    fronts(b, width / 2 - block / 2, 0.46 * depth, 0.05, height - 0.06, block, 1, 3)
    return [_top(b, size, height)]


def fronts(
    b: SceneBuilder, x: float, y: float, bottom: float, top: float, width: float,
    columns: int, rows: int,
) -> None:  # fmt: skip
    """Doors or drawers on a front at depth y, with knobs."""
    paint, knob = b.palette.paint(), b.palette.plain()
    each_x, each_z = width / columns, (top - bottom) / rows
    for i in range(columns):
        for j in range(rows):
            cx = x - width / 2 + (i + 0.5) * each_x
            cz = bottom + (j + 0.5) * each_z
            b.box((cx, y + 0.008, cz), (0.46 * each_x, 0.01, 0.46 * each_z), paint)
            b.sphere((cx + (0.3 if rows == 1 else 0.0) * each_x, y + 0.03, cz), 0.018, knob)


def cabinet(b: SceneBuilder, size: Triple) -> list[Support]:
    """A chest: body with doors or drawers; also wardrobes."""
    width, depth, height = size
    b.box((0, 0, height / 2), (width / 2, depth / 2, height / 2), b.palette.paint())
    if height > 1.4 or b.rng.random() < 0.4:
        fronts(b, 0, depth / 2, 0.08, height - 0.04, width, max(1, round(width / 0.5)), 1)
    else:
        rows = max(1, round(height / 0.25))
        fronts(b, 0, depth / 2, 0.06, height - 0.03, width, max(1, round(width / 0.7)), rows)
    return [_top(b, size, height)]


def refrigerator(b: SceneBuilder, size: Triple) -> list[Support]:
    """Two doors with long handles."""
    width, depth, height = size
    paint, handle = b.palette.paint(), b.palette.plain()
    b.box((0, 0, height / 2), (width / 2, depth / 2, height / 2), paint)
    for low, high in ((0.05, 0.62), (0.64, 0.98)):
        middle, half = (low + high) / 2 * height, (high - low) / 2 * height
        b.box((0, depth / 2 + 0.02, middle), (0.48 * width, 0.02, half), paint)
        b.cylinder((-0.4 * width, depth / 2 + 0.07, middle), 0.015, 0.5 * half, handle)
    return [_top(b, size, height, 0.4)]


def counter(b: SceneBuilder, size: Triple) -> list[Support]:
    """A kitchen counter with a top, and often cupboards above."""
    width, depth, height = size
    paint = b.palette.paint()
    b.box((0, 0, height / 2), (width / 2, 0.46 * depth, height / 2), paint)
    b.box((0, 0, height), (width / 2 + 0.01, depth / 2, 0.02), b.palette.paint())
    fronts(b, 0, 0.46 * depth, 0.1, height - 0.05, width, max(2, round(width / 0.5)), 1)
    if b.rng.random() < 0.6:
        bottom, top = height + 0.5, height + 1.1
        middle = (bottom + top) / 2
        b.box((0, -0.25 * depth, middle), (width / 2, 0.25 * depth, (top - bottom) / 2), paint)
        fronts(b, 0, 0.0, bottom + 0.02, top - 0.02, width, max(2, round(width / 0.5)), 1)
    return [_top(b, size, height + 0.02, 0.45)]


def bookcase(b: SceneBuilder, size: Triple) -> list[Support]:
    """Boards, a back and rows of books; free shelf places are supports."""
    width, depth, height = size
    paint = b.palette.paint()
    for side in (-1, 1):
        b.box((side * (width / 2 - 0.015), 0, height / 2), (0.015, depth / 2, height / 2), paint)
    b.box((0, -depth / 2 + 0.01, height / 2), (width / 2, 0.01, height / 2), b.palette.paint())
    number = max(2, round(height / float(b.rng.uniform(0.32, 0.45))))
    gap = (height - 0.04) / number
    supports = []
    for i in range(number + 1):
        b.box((0, 0, 0.02 + i * gap), (width / 2, depth / 2, 0.015), paint)
    for i in range(number):
        z = 0.035 + i * gap
        if b.rng.random() < 0.5:
            row_of_books(b, width - 0.06, depth, z, gap - 0.05)
        else:
            support = _top(b, (0.85 * width, 0.6 * depth, 0), z, gap - 0.06)
            supports.append(support)
    return [*supports, _top(b, size, height, 0.4)]


def row_of_books(b: SceneBuilder, width: float, depth: float, z: float, room: float) -> None:
    """Books side by side from one end of a shelf, each of its own colour and height."""
    x = -width / 2
    end = x + width * float(b.rng.uniform(0.3, 0.95))
    paints = [b.palette.plain() for _ in range(3)]
    while x < end and len(b.rows) < MAX_SOLIDS:
        thick = float(b.rng.uniform(0.03, 0.09))
        tall = room * float(b.rng.uniform(0.6, 0.95))
        if x + thick > width / 2:
            break
        paint = paints[int(b.rng.integers(3))]
        b.box(
            (x + thick / 2, 0.03, z + tall / 2), (0.46 * thick, 0.36 * depth, tall / 2), paint,
            "books",
        )  # fmt: skip
        x += thick


def crates(b: SceneBuilder, size: Triple) -> list[Support]:
    """One to three cartons on each other, each a little smaller and turned."""
    width, depth, height = size
    number = int(b.rng.integers(1, 4))
    z, half_z = 0.0, height / number / 2
    for i in range(number):
        shrink = 0.5 * (1 - 0.08 * i)
        turn = (0.0, 0.0, float(b.rng.normal(0, 0.12)) if i else 0.0)
        b.box((0, 0, z + half_z), (shrink * width, shrink * depth, half_z), b.palette.paint(0.25),
              turn=turn)  # fmt: skip
        z += 2 * half_z
    return [_top(b, (0.7 * width, 0.7 * depth, 0), height)]


def bathtub(b: SceneBuilder, size: Triple) -> list[Support]:
    """Four walls and a bottom, with a round end."""
    width, depth, height = size
    paint = b.palette.paint()
    for side in (-1, 1):
        b.box((0, side * (depth / 2 - 0.04), height / 2), (width / 2, 0.04, height / 2), paint)
        b.box((side * (width / 2 - 0.05), 0, height / 2), (0.05, depth / 2, height / 2), paint)
    b.box((0, 0, 0.3 * height), (width / 2 - 0.05, depth / 2 - 0.04, 0.05), b.palette.paint())
    b.cylinder((0.4 * width, 0, height + 0.12), 0.02, 0.12, b.palette.plain())
    return []


def tv_stand(b: SceneBuilder, size: Triple) -> list[Support]:
    """A low board with a television on it."""
    width, _, height = size
    cabinet(b, size)
    screen = min(0.5 * width, float(b.rng.uniform(0.35, 0.65)))
    tall = 0.58 * screen
    b.box((0, 0, height + 0.015), (0.25 * screen, 0.1, 0.015), b.palette.plain(), "tv")
    television(b, (0.0, 0.0, height + 0.05 + tall), screen, tall)
    return []


def television(b: SceneBuilder, centre: Triple, half_width: float, half_height: float) -> None:
    """A flat box with a screen that is dark, plain or shows a picture."""
    x, y, z = centre
    b.box(centre, (half_width, 0.025, half_height), b.palette.plain(), "tv")
    pattern = ("flat", "landscape", "mondrian", "plain")[int(b.rng.integers(4))]
    glow = float(b.rng.uniform(0.2, 1.5)) if pattern != "flat" else 0.0
    screen = b.palette.material(pattern, glow)
    b.box((x, y + 0.022, z), (0.95 * half_width, 0.006, 0.93 * half_height), screen, "tv")


PIECES: dict[str, Piece] = {
    "bed": Piece("bed", (1.0, 1.8, 0.35), (1.8, 2.1, 0.6), True, bed),
    "sofa": Piece("sofa", (1.4, 0.75, 0.7), (2.4, 1.0, 0.95), True, sofa),
    "armchair": Piece("chair", (0.7, 0.7, 0.7), (0.95, 0.9, 0.95), False, sofa),
    "chair": Piece("chair", (0.4, 0.4, 0.78), (0.55, 0.52, 1.05), False, chair),
    "stool": Piece("chair", (0.3, 0.3, 0.35), (0.6, 0.6, 0.5), False, stool),
    "table": Piece("table", (0.9, 0.65, 0.68), (1.9, 1.0, 0.78), False, table),
    "round_table": Piece("table", (0.7, 0.7, 0.65), (1.3, 1.3, 0.78), False, round_table),
    "coffee_table": Piece("table", (0.6, 0.45, 0.3), (1.2, 0.7, 0.5), False, table),
    "desk": Piece("table", (1.0, 0.55, 0.7), (1.7, 0.8, 0.78), True, desk),
    "cabinet": Piece("furniture", (0.5, 0.38, 0.5), (1.4, 0.6, 1.2), True, cabinet),
    "wardrobe": Piece("furniture", (0.8, 0.5, 1.7), (1.8, 0.65, 2.2), True, cabinet),
    "refrigerator": Piece("furniture", (0.55, 0.55, 1.4), (0.9, 0.7, 1.9), True, refrigerator),
    "counter": Piece("furniture", (1.2, 0.58, 0.85), (2.6, 0.65, 0.95), True, counter),
    "bookcase": Piece("furniture", (0.6, 0.26, 0.8), (1.4, 0.36, 2.1), True, bookcase),
    "tv_stand": Piece("furniture", (0.9, 0.35, 0.35), (1.8, 0.5, 0.65), True, tv_stand),
    "crates": Piece("objects", (0.35, 0.35, 0.3), (0.9, 0.8, 1.4), False, crates),
    "bathtub": Piece("objects", (1.3, 0.65, 0.45), (1.7, 0.8, 0.65), True, bathtub),
    "night_stand": Piece("objects", (0.4, 0.35, 0.45), (0.6, 0.5, 0.65), True, cabinet),
}


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
