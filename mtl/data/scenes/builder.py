"""Collect a room's solids piece by piece: objects in their own frame, paints from a shared palette.

An object's frame stands on its support: x along its width, y from its back to its front, z up.
"""

import math
from dataclasses import dataclass

import numpy as np

from mtl.data.scenes.materials import PATTERNS, TILE, Materials, linear_rgb, noise_tiles
from mtl.data.scenes.ray_casting import BOX, CYLINDER, NUM_FACES, SPHERE, Array, Primitives

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """Where an object stands in the world: its origin in metres and its turn about z in radians."""

    x: float
    y: float
    z: float
    yaw: float

    def world(self, x: float, y: float) -> tuple[float, float]:
        """Return the world x, y of a point of the object's frame."""
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cosine * x - sine * y, self.y + sine * x + cosine * y


@dataclass(frozen=True)
class Support:
    """A level rectangle on which small things can stand; half sizes and head room in metres."""

    place: Place
    half_x: float
    half_y: float
    headroom: float


@dataclass(frozen=True)
class Layout:
    """A furnished room: solids, materials, the name of each object (group), and what glows."""

    primitives: Primitives
    materials: Materials
    object_names: tuple[str, ...]
    room_half_m: Array


class Palette:
    """Paints for one scene: few colours, shared by all classes, in many patterns."""

    COMMON = ("plain", "cloud", "wood", "stripes", "checker", "tiles", "bricks", "dots", "plaid")
    PRINTS = ("mondrian", "fake_boxes", "landscape")

    def __init__(self, rng: np.random.Generator, num_colours: int = 7) -> None:
        self.rng = rng
        self.rows: list[tuple] = []
        hue = rng.random()
        self.colours: list[Triple] = []
        for _ in range(num_colours):
            # Indoor colours: mostly pale or muted, now and then strong; hues lie near a few.
            hue = hue + float(rng.normal(0, 0.06)) if rng.random() < 0.3 else float(rng.random())
            saturation = float(rng.beta(1.1, 4.0))
            self.colours.append(linear_rgb(hue, saturation, float(rng.uniform(0.2, 1.0))))

    def colour(self) -> Triple:
        """Return one of the scene's colours."""
        return self.colours[int(self.rng.integers(len(self.colours)))]

    def paint(self, prints: float = 0.06) -> int:
        """Add a random material of the scene's colours; `prints` is the share of printed ones."""
        rng = self.rng
        draw = rng.random()
        if draw < prints:
            pattern = self.PRINTS[int(rng.integers(len(self.PRINTS)))]
        elif draw < prints + 0.34:
            pattern = "plain"
        else:
            pattern = self.COMMON[int(rng.integers(len(self.COMMON)))]
        return self.material(pattern)

    def material(self, pattern: str, emission: float = 0.0) -> int:
        """Add a material of this pattern with a random period, direction and gloss."""
        rng = self.rng
        period = float(np.exp(rng.uniform(np.log(0.06), np.log(0.7))))
        aspect = float(np.exp(rng.normal(0, 0.4)))
        angle = (0.0, 90.0, 0.0, 90.0, 45.0, float(rng.uniform(0, 180)))[int(rng.integers(6))]
        if pattern in ("landscape", "bricks"):
            angle, period = 0.0, max(period, 0.2)
        gloss = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.3 else 0.0
        colours = [self.colour(), self.colour(), self.colour()]
        return self.add(pattern, colours, (period, period * aspect), angle, emission, gloss)

    def plain(self) -> int:
        """Add an even material of one of the scene's colours."""
        return self.material("plain")

    def add(
        self, pattern: str, colours: list[Triple], period_m: tuple[float, float],
        angle_deg: float = 0.0, emission: float = 0.0, gloss: float = 0.0,
    ) -> int:  # fmt: skip
        """Add a material of three linear RGB colours and return its index."""
        index = list(PATTERNS).index(pattern)
        self.rows.append((index, colours, period_m, np.deg2rad(angle_deg), emission, gloss))
        return len(self.rows) - 1

    def finish(self) -> Materials:
        """Return the materials as arrays, with random shifts and the scene's own noise."""
        pattern, colours, period, angle, emission, gloss = zip(*self.rows, strict=True)
        shift = self.rng.uniform(0, TILE, (len(pattern), 2))
        numbers = (colours, period, angle, shift, emission, gloss, noise_tiles(self.rng))
        return Materials(np.array(pattern), *(np.asarray(part, np.float32) for part in numbers))


class SceneBuilder:
    """Collects solids; `start` begins an object, the others add its parts."""

    def __init__(
        self,
        rng: np.random.Generator,
        palette: Palette,
        classes: tuple[str, ...],
        unlabelled_probability: float,
    ) -> None:
        self.rng = rng
        self.palette = palette
        self.class_index = {name: index for index, name in enumerate(classes)}
        self.unlabelled_probability = unlabelled_probability
        self.object_names: list[str] = []
        self.rows: list[tuple] = []
        self.place = Place(0, 0, 0, 0)
        self.label = 0
        self.labelled = True

    def draw(self, low: float, high: float) -> float:
        """Return a uniformly drawn number."""
        return float(self.rng.uniform(low, high))

    def room(self, half: Triple, materials: list[int], labels: list[str]) -> None:
        """Begin with the room itself; faces in the order -x, +x, -y, +y, floor, ceiling."""
        self.object_names.append("room")
        indices = [self.class_index[label] for label in labels]
        centre = (0.0, 0.0, half[2])
        self.rows.append((BOX, centre, np.eye(3), half, materials, indices, [True] * 6, 0))

    def start(self, name: str, place: Place, label: str, may_be_void: bool = True) -> None:
        """Begin an object; some objects are left without a class, as in NYUv2."""
        self.object_names.append(name)
        self.place = place
        self.label = self.class_index[label]
        void = may_be_void and self.rng.random() < self.unlabelled_probability
        self.labelled = not void

    def box(
        self, centre: Triple, half: Triple, material: int, label: str | None = None,
        turn: Triple = (0.0, 0.0, 0.0),
    ) -> None:  # fmt: skip
        """Add a box; `turn` are angles in radians about its x, y, z axes, z last."""
        self._add(BOX, centre, half, material, label, turn)

    def sphere(
        self, centre: Triple, radius: float, material: int, label: str | None = None
    ) -> None:
        """Add a sphere."""
        self._add(SPHERE, centre, (radius, radius, radius), material, label, (0.0, 0.0, 0.0))

    def cylinder(
        self, centre: Triple, radius: float, half_height: float, material: int,
        label: str | None = None, turn: Triple = (0.0, 0.0, 0.0),
    ) -> None:  # fmt: skip
        """Add a cylinder along z before `turn`."""
        self._add(CYLINDER, centre, (radius, radius, half_height), material, label, turn)

    def _add(
        self, kind: int, centre: Triple, half: Triple, material: int, label: str | None,
        turn: Triple,
    ) -> None:  # fmt: skip
        x, y = self.place.world(centre[0], centre[1])
        axes = _axes(turn[0], turn[1], turn[2] + self.place.yaw)
        index = self.label if label is None else self.class_index[label]
        group = len(self.object_names) - 1
        self.rows.append((
            kind, (x, y, self.place.z + centre[2]), axes, half,
            [material] * NUM_FACES, [index] * NUM_FACES, [self.labelled] * NUM_FACES, group,
        ))  # fmt: skip

    def finish(self) -> Layout:
        """Return the layout with all solids as arrays."""
        kind, centre, axes, half, material, label, labelled, group = zip(*self.rows, strict=True)
        primitives = Primitives(
            np.array(kind), np.array(centre, float), np.array(axes, float), np.array(half, float),
            np.array(material), np.array(label), np.array(labelled), np.array(group),
        )  # fmt: skip
        room_half_m = primitives.half[0].copy()
        return Layout(primitives, self.palette.finish(), tuple(self.object_names), room_half_m)


def _axes(about_x: float, about_y: float, about_z: float) -> list[list[float]]:
    """Rows are the turned axes in the world: first about x, then y, then z."""
    ca, sa = math.cos(about_x), math.sin(about_x)
    cb, sb = math.cos(about_y), math.sin(about_y)
    cc, sc = math.cos(about_z), math.sin(about_z)
    return [
        [cb * cc, cb * sc, -sb],
        [sa * sb * cc - ca * sc, sa * sb * sc + ca * cc, sa * cb],
        [ca * sb * cc + sa * sc, ca * sb * sc - sa * cc, ca * cb],
    ]
