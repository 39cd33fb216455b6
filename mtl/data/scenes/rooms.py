"""The layouts: `rooms`, furnished with the 13 NYUv2 classes, and `simple`."""

from collections.abc import Mapping
from math import atan2, cos, hypot, pi, sin

import numpy as np

from mtl.data.scenes.builder import Layout, Palette, Place, SceneBuilder, Support
from mtl.data.scenes.furniture import HUNG, PIECES, SMALL, Hung, Piece, ceiling_light, rug
from mtl.data.scenes.records import SceneVariant

# Chairs stand at tables more often than alone.
CHAIRS_AT_TABLE = {"table": 1.7, "round_table": 1.7, "desk": 0.8}
SMALL_SIZE_M = (0.15, 0.8)
FLOOR_CLUTTER_SIZE_M = (0.3, 1.3)
FLOOR_CLUTTER_SHARE = 0.6
# Room for skirting boards and for what hangs on walls.
WALL_GAP_M = 0.05
# Whoever stands in a room needs some floor.
CLEARANCE_M = 0.06
PLACING_ATTEMPTS = 8

Rectangle = tuple[float, float, float, float]


class _Floor:
    """The rectangles (x0, x1, y0, y1) on the floor, and spans on each wall, that are taken."""

    def __init__(self, half_x: float, half_y: float) -> None:
        self.half = (half_x, half_y)
        self.taken: list[Rectangle] = []
        self.walls: list[list[Rectangle]] = [[], [], [], []]

    def free(self, rectangle: Rectangle) -> bool:
        x0, x1, y0, y1 = rectangle
        if x0 < -self.half[0] or x1 > self.half[0] or y0 < -self.half[1] or y1 > self.half[1]:
            return False
        return not any(_overlap(rectangle, other) for other in self.taken)

    def wall_place(self, wall: int, along: float, out: float, z: float) -> Place:
        """Frame on a wall: walls 0..3 are -x, +x, -y, +y; y of the frame points into the room."""
        axis, sign = divmod(wall, 2)
        inward = 1.0 if sign == 0 else -1.0
        normal = (inward, 0.0) if axis == 0 else (0.0, inward)
        x = -inward * self.half[0] + out * inward if axis == 0 else along
        y = along if axis == 0 else -inward * self.half[1] + out * inward
        return Place(x, y, z, atan2(-normal[0], normal[1]))

    def wall_half_length(self, wall: int) -> float:
        return self.half[1] if wall < 2 else self.half[0]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _footprint(place: Place, width: float, depth: float) -> Rectangle:
    c, s = abs(cos(place.yaw)), abs(sin(place.yaw))
    half_x = (width * c + depth * s) / 2 + CLEARANCE_M / 2
    half_y = (width * s + depth * c) / 2 + CLEARANCE_M / 2
    return place.x - half_x, place.x + half_x, place.y - half_y, place.y + half_y


def layout_rooms(rng: np.random.Generator, variant: SceneVariant, palette: Palette) -> Layout:
    """Furnish a room: furniture, chairs at tables, hung things, rugs, lights, then clutter."""
    b = SceneBuilder(rng, palette, variant.classes, variant.unlabelled_probability)
    half_x, half_y = b.draw(*variant.room_width_m) / 2, b.draw(*variant.room_length_m) / 2
    height = b.draw(*variant.room_height_m)
    wall = palette.paint(0.12)
    walls = [palette.paint(0.12) if rng.random() < 0.3 else wall for _ in range(4)]
    b.room(
        (half_x, half_y, height / 2), [*walls, palette.paint(), palette.paint()],
        ["wall"] * 4 + ["floor", "ceiling"],
    )  # fmt: skip
    floor = _Floor(half_x, half_y)
    limit = int(rng.integers(variant.num_objects[0], variant.num_objects[1] + 1))

    supports = _furnish(b, floor)
    _hang(b, floor, height)
    for _ in range(int(rng.poisson(0.7))):
        x, y = b.draw(-0.6, 0.6) * half_x, b.draw(-0.6, 0.6) * half_y
        b.start("rug", Place(x, y, 0.0, b.draw(0, pi)), "floor", may_be_void=False)
        rug(b, b.draw(0.4, 1.0), b.draw(0.3, 0.8))
    for _ in range(int(rng.poisson(0.7))):
        x, y = b.draw(-0.6, 0.6) * half_x, b.draw(-0.6, 0.6) * half_y
        b.start("ceiling_light", Place(x, y, height, b.draw(0, pi)), "objects")
        ceiling_light(b, b.draw(0.3, 0.7))
    _scatter(b, floor, supports, limit)
    return b.finish()


def _furnish(b: SceneBuilder, floor: _Floor) -> list[Support]:
    rng = b.rng
    wanted = _drawn(rng, PIECES)
    # Wide pieces first: they need the walls.
    wanted.sort(key=lambda name: -PIECES[name].largest[0])
    supports: list[Support] = []
    for name in wanted:
        piece = PIECES[name]
        width, depth, height = piece.size(rng)
        place = _find_place(b, floor, piece, width, depth, height)
        if place is None:
            continue
        floor.taken.append(_footprint(place, width, depth))
        b.start(name, place, piece.label)
        supports += piece.build(b, width, depth, height)
        if name in CHAIRS_AT_TABLE:
            _seat(b, floor, place, width, depth, CHAIRS_AT_TABLE[name])
    return supports


def _drawn(rng: np.random.Generator, table: Mapping[str, Piece | Hung]) -> list[str]:
    """Return a name for each thing of a room."""
    counts = rng.poisson([kind.rate for kind in table.values()])
    return [name for name, count in zip(table, counts, strict=True) for _ in range(count)]


def _find_place(
    b: SceneBuilder, floor: _Floor, piece: Piece, width: float, depth: float, height: float
) -> Place | None:
    rng = b.rng
    for _ in range(PLACING_ATTEMPTS):
        if piece.at_wall:
            wall = int(rng.integers(4))
            reach = floor.wall_half_length(wall) - width / 2 - 0.02
            if reach <= 0:
                continue
            along = b.draw(-reach, reach)
            place = floor.wall_place(wall, along, depth / 2 + WALL_GAP_M, 0.0)
        else:
            x = b.draw(-1, 1) * (floor.half[0] - 0.3)
            y = b.draw(-1, 1) * (floor.half[1] - 0.3)
            turn = float(rng.integers(4)) * pi / 2 + float(rng.normal(0, 0.25))
            place = Place(x, y, 0.0, turn)
        if floor.free(_footprint(place, width, depth)):
            if piece.at_wall:
                span = (along - width / 2, along + width / 2, 0.0, height + 0.1)
                floor.walls[wall].append(span)
            return place
    return None


def _seat(
    b: SceneBuilder, floor: _Floor, table: Place, width: float, depth: float, rate: float
) -> None:
    """Put chairs at the sides of a table, facing it and a little under it."""
    rng = b.rng
    sides = [(0.0, depth / 2, pi), (0.0, -depth / 2, 0.0), (width / 2, 0.0, pi / 2)]
    sides.append((-width / 2, 0.0, -pi / 2))
    piece = PIECES["chair"]
    for side in rng.permutation(4)[: int(rng.poisson(rate))]:
        x, y, turn = sides[int(side)]
        size = piece.size(rng)
        out = b.draw(0.15, 0.45) / max(hypot(x, y), 0.1)
        place = Place(
            *table.world(x * (1 + out), y * (1 + out)), 0.0,
            table.yaw + turn + float(rng.normal(0, 0.2)),
        )  # fmt: skip
        footprint = _footprint(place, size[0], size[1])
        # Chairs may reach under their own table, but not into anything else.
        middle = (table.x, table.x, table.y, table.y)
        others = [other for other in floor.taken if not _overlap(other, middle)]
        inside = abs(place.x) < floor.half[0] - 0.35 and abs(place.y) < floor.half[1] - 0.35
        if inside and not any(_overlap(footprint, other) for other in others):
            floor.taken.append(footprint)
            b.start("chair", place, piece.label)
            piece.build(b, *size)


def _hang(b: SceneBuilder, floor: _Floor, room_height: float) -> None:
    rng = b.rng
    wanted = _drawn(rng, HUNG)
    rng.shuffle(wanted)
    for name in wanted:
        _, label, widths, heights, middles, build = HUNG[name]
        for _ in range(PLACING_ATTEMPTS):
            half_x, half_z = b.draw(*widths), b.draw(*heights)
            wall = int(rng.integers(4))
            reach = floor.wall_half_length(wall) - half_x - 0.2
            middle = b.draw(*middles)
            if name == "pillar":
                middle = half_z = room_height / 2
            elif name == "door":
                middle = half_z
            if reach <= 0 or middle + half_z > room_height:
                continue
            along = b.draw(-reach, reach)
            # Curtains and door frames are a little wider than their window or leaf.
            margin = 0.14
            span = (along - half_x - margin, along + half_x + margin, middle - half_z - margin,
                    middle + half_z + 0.05)  # fmt: skip
            if any(_overlap(span, other) for other in floor.walls[wall]):
                continue
            place = floor.wall_place(wall, along, 0.0, middle)
            if name == "pillar":
                footprint = _footprint(floor.wall_place(wall, along, 0.3, 0), 2 * half_x, 0.6)
                if any(_overlap(footprint, other) for other in floor.taken):
                    continue
                floor.taken.append(footprint)
            floor.walls[wall].append(span)
            b.start(name, place, label, may_be_void=label != "wall")
            build(b, half_x, half_z)
            break


def _scatter(b: SceneBuilder, floor: _Floor, supports: list[Support], limit: int) -> None:
    """Put small things on supports and on the floor until the room has its objects."""
    rng = b.rng
    names = list(SMALL)
    weights = np.array([weight for weight, _, _ in SMALL.values()])
    weights /= weights.sum()
    spots: list[tuple[float, float, float, float]] = []
    for _ in range(4 * limit):
        if len(b.object_names) - 1 >= limit:
            return
        name = names[int(rng.choice(len(names), p=weights))]
        _, label, build = SMALL[name]
        on_floor = not supports or rng.random() < FLOOR_CLUTTER_SHARE
        low, high = FLOOR_CLUTTER_SIZE_M if on_floor else SMALL_SIZE_M
        size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        turn = b.draw(0, 2 * pi)
        if on_floor:
            x = b.draw(-1, 1) * (floor.half[0] - size / 2 - 0.05)
            y = b.draw(-1, 1) * (floor.half[1] - size / 2 - 0.05)
            place = Place(x, y, 0.0, turn)
            footprint = _footprint(Place(x, y, 0.0, 0.0), size, size)
            if not floor.free(footprint):
                continue
            floor.taken.append(footprint)
        else:
            support = supports[int(rng.integers(len(supports)))]
            size = min(size, support.headroom, 2.5 * support.half_y)
            if support.headroom <= 0.05:
                continue
            x = b.draw(-1, 1) * max(support.half_x - size / 2, 0.0)
            y = b.draw(-1, 1) * max(support.half_y - size / 2, 0.0)
            place = Place(*support.place.world(x, y), support.place.z, turn)
            reach = 0.45 * size
            if any(
                abs(place.z - z) < 0.3 and hypot(place.x - px, place.y - py) < reach + other
                for px, py, z, other in spots
            ):
                continue
            spots.append((place.x, place.y, place.z, reach))
        b.start(name, place, label)
        build(b, size)


# Hue; pattern and its period in metres; the darker colour as a share of the lighter one, before
# gamma. Classes that can be anywhere (walls, bookcases, furniture) are a third of the circle apart,
# floor and ceiling lie between.
TEXTURES: dict[str, tuple[float, str, tuple[float, float], float]] = {
    "floor": (0.08, "checker", (0.8, 0.8), 0.55),
    "wall": (0.25, "stripes", (0.5, 0.5), 0.85),
    "bookcase": (0.58, "shelves", (0.22, 0.45), 0.55),
    "ceiling": (0.42, "tiles", (0.6, 0.6), 0.6),
    "furniture": (0.91, "bricks", (0.5, 0.3), 0.55),
}
HUE_DEVIATION = 0.08
BOOKCASE_PROBABILITY = 0.5
DRUM_PROBABILITY = 0.25
BALL_PROBABILITY = 0.15
SIMPLE_PLACING_ATTEMPTS = 12


def layout_simple(rng: np.random.Generator, variant: SceneVariant, palette: Palette) -> Layout:
    """Draw a room of plain and bookcase walls with a few large pieces of furniture."""
    b = SceneBuilder(rng, palette, variant.classes, variant.unlabelled_probability)
    half_x, half_y = b.draw(*variant.room_width_m) / 2, b.draw(*variant.room_length_m) / 2
    height = b.draw(*variant.room_height_m)
    sides = ["bookcase" if rng.random() < BOOKCASE_PROBABILITY else "wall" for _ in range(4)]
    labels = [*sides, "floor", "ceiling"]
    b.room((half_x, half_y, height / 2), [_paint(palette, name) for name in labels], labels)
    number = int(rng.integers(variant.num_objects[0], variant.num_objects[1] + 1))
    taken: list[tuple[float, float, float]] = []
    for _ in range(number):
        for _ in range(SIMPLE_PLACING_ATTEMPTS):
            half = rng.uniform((0.25, 0.25, 0.25), (0.6, 0.6, 0.9))
            reach = float(np.hypot(half[0], half[1]))
            x = b.draw(-1, 1) * (half_x - reach)
            y = b.draw(-1, 1) * (half_y - reach)
            if all(np.hypot(x - px, y - py) > reach + other for px, py, other in taken):
                taken.append((x, y, reach))
                _piece(b, Place(x, y, 0.0, b.draw(0, pi)), half)
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
    middle, pattern, period_m, darker = TEXTURES[name]
    hue = middle + HUE_DEVIATION * float(rng.normal())
    saturation, value = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.55, 0.95))
    light = _colour(hue, saturation, value)
    dark = _colour(hue, saturation, darker * value)
    return palette.add(pattern, [light, dark, light], period_m)


def _colour(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Linear colour with hues on an even circle of red, green, blue cosines."""
    angle = 2 * pi * hue
    parts = [
        value * (1 - saturation * (0.5 - 0.5 * (cos(angle) * cos(k) + sin(angle) * sin(k))))
        for k in (0.0, 2 * pi / 3, 4 * pi / 3)
    ]
    return parts[0] ** 2.2, parts[1] ** 2.2, parts[2] ** 2.2
