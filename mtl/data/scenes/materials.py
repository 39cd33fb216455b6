"""Materials: procedural textures in metres on the faces of primitives, independent of class.

A material mixes three colours by a pattern. Patterns fade to their mean where their period nears
the size of a pixel on the surface, since 2x2 samples alone would alias.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl.data.scenes.ray_casting import BOX, CYLINDER, SPHERE, Hits, Primitives

Array = NDArray[np.floating]
Index = NDArray[np.integer]

TILE = 64
# Patterns fade out between these ratios of pixel footprint to period.
FADE_FROM, FADE_TO = 0.2, 0.6
# A grazing footprint is long in one direction only; this is where the fading stops to grow.
MIN_COSINE = 0.2


@dataclass(frozen=True)
class Materials:
    """M materials: pattern name index, linear RGB colours (M, 3, 3), period (M, 2) in metres, ...

    `angle_rad` (M,) turns and `shift` (M, 2) moves the pattern; `emission` (M,) multiplies the
    colour as own light; `gloss` (M,) is the strength of highlights. `tiles` (2, 64, 64) in 0..1
    are the scene's smooth and white noise.
    """

    pattern: Index
    colours: Array
    period_m: Array
    angle_rad: Array
    shift: Array
    emission: Array
    gloss: Array
    tiles: Array


def linear_rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Return the linear RGB colour of a display colour given as hue, saturation, value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return red**2.2, green**2.2, blue**2.2


def surface_coordinates(primitives: Primitives, hits: Hits) -> Array:
    """Return texture coordinates (N, 2) in metres on the face that each ray hit."""
    local, kind = hits.local, primitives.kind[hits.primitive]
    axis = hits.face // 2
    uv = np.empty((len(kind), 2), local.dtype)
    uv[:, 0] = np.where(axis == 0, local[:, 1], local[:, 0])
    uv[:, 1] = np.where(axis == 2, local[:, 1], local[:, 2])
    round_ = np.flatnonzero((kind == SPHERE) | ((kind == CYLINDER) & (hits.face == 0)))
    radius_m = primitives.half[hits.primitive[round_], 0].astype(local.dtype)
    uv[round_, 0] = np.arctan2(local[round_, 1], local[round_, 0]) * radius_m
    uv[round_, 1] = local[round_, 2]
    # Boxes share the sign of an axis on opposite faces; tell them apart by half a tile.
    uv[:, 0] += np.where((kind == BOX) & (hits.face % 2 == 1), 31.7, 0.0)
    return uv


def albedo(materials: Materials, material: Index, uv_m: Array, footprint_m: Array) -> Array:
    """Return the linear RGB albedo (N, 3) at texture coordinates (N, 2) in metres.

    `footprint_m` (N,) is the width of a sample on the surface.
    """
    result = np.empty((len(material), 3), np.float32)
    patterns = materials.pattern[material]
    for index, function in enumerate(PATTERNS.values()):
        chosen = np.flatnonzero(patterns == index)
        if not len(chosen):
            continue
        m = material[chosen]
        angle = materials.angle_rad[m]
        cosine, sine = np.cos(angle), np.sin(angle)
        u, v = uv_m[chosen, 0], uv_m[chosen, 1]
        period = materials.period_m[m]
        x = (cosine * u - sine * v) / period[:, 0] + materials.shift[m, 0]
        y = (sine * u + cosine * v) / period[:, 1] + materials.shift[m, 1]
        ratio = footprint_m[chosen] / period.min(axis=1)
        sharp = np.clip((FADE_TO - ratio) / (FADE_TO - FADE_FROM), 0.0, 1.0)
        second, third, gain = function(x, y, materials.tiles)
        mean_second, mean_third, mean_gain = MEANS[index]
        second = mean_second + sharp * (second - mean_second)
        third = mean_third + sharp * (third - mean_third)
        gain = mean_gain + sharp * (gain - mean_gain)
        colours = materials.colours[m]
        mixed = colours[:, 0] * (1 - second - third)[:, None]
        mixed += colours[:, 1] * second[:, None] + colours[:, 2] * third[:, None]
        result[chosen] = mixed * gain[:, None]
    return result


def noise_tiles(rng: np.random.Generator) -> Array:
    """Return periodic noise in 0..1 (2, 64, 64): with a 1/f amplitude spectrum, and white."""
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) / frequency**1.4
    noise = np.fft.irfft2(spectrum, (TILE, TILE))
    smooth = np.clip(0.5 + 0.22 * noise / noise.std(), 0.0, 1.0)
    return np.stack([smooth, rng.random((TILE, TILE))])


def _smooth(tiles: Array, x: Array, y: Array) -> Array:
    """Bilinear look-up in the smooth tile, periodic; one unit is one texel."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    i, j = row.astype(int) % TILE, column.astype(int) % TILE
    i1, j1 = (i + 1) % TILE, (j + 1) % TILE
    tile = tiles[0]
    top = tile[i, j] * (1 - fx) + tile[i, j1] * fx
    return top * (1 - fy) + (tile[i1, j] * (1 - fx) + tile[i1, j1] * fx) * fy


def _cell(tiles: Array, x: Array, y: Array, salt: int = 0) -> Array:
    """A random number in 0..1 for each integer cell, periodic."""
    column, row = np.floor(x).astype(int) + 7 * salt, np.floor(y).astype(int) + 13 * salt
    return tiles[1][row % TILE, column % TILE]


def _fraction(x: Array) -> Array:
    return x - np.floor(x)


Pattern = tuple[Array, Array, Array]


def _plain(x: Array, y: Array, tiles: Array) -> Pattern:
    zero = np.zeros_like(x)
    return zero, zero, 0.97 + 0.06 * _smooth(tiles, x, y)


def _flat(x: Array, _y: Array, _noise: Array) -> Pattern:
    zero = np.zeros_like(x)
    return zero, zero, np.ones_like(x)


def _stripes(x: Array, _y: Array, _noise: Array) -> Pattern:
    return (_fraction(x) < 0.4) * 1.0, (_fraction(x + 0.3) < 0.12) * 0.6, np.ones_like(x)


def _checker(x: Array, y: Array, tiles: Array) -> Pattern:
    second = (_fraction(x) < 0.5) ^ (_fraction(y) < 0.5)
    return second * 1.0, np.zeros_like(x), 0.94 + 0.12 * _smooth(tiles, 9 * x, 9 * y)


def _cloud(x: Array, y: Array, tiles: Array) -> Pattern:
    noise = _smooth(tiles, 6 * x, 6 * y)
    return np.clip(2.2 * noise - 0.6, 0, 1), np.zeros_like(x), np.ones_like(x)


def _wood(x: Array, y: Array, tiles: Array) -> Pattern:
    board = np.floor(y)
    along = _fraction(x + 3.7 * _cell(tiles, 0 * y, y))
    grain = _smooth(tiles, 2.0 * x + 9 * board, 17.0 * y)
    joint = (_fraction(y) < 0.05) | (along < 0.012)
    gain = (0.85 + 0.3 * _cell(tiles, 0 * y + 5, y, 1)) * np.where(joint, 0.5, 1.0)
    return np.clip(1.6 * grain - 0.3, 0, 1), np.zeros_like(x), gain


def _tiles(x: Array, y: Array, tiles: Array) -> Pattern:
    grout = (_fraction(x) < 0.06) | (_fraction(y) < 0.06)
    return grout * 1.0, np.zeros_like(x), np.where(grout, 1.0, 0.88 + 0.24 * _cell(tiles, x, y))


def _bricks(x: Array, y: Array, tiles: Array) -> Pattern:
    x = x + 0.5 * (np.floor(y) % 2)
    mortar = (_fraction(x) < 0.06) | (_fraction(y) < 0.13)
    return mortar * 1.0, np.zeros_like(x), np.where(mortar, 1.0, 0.8 + 0.4 * _cell(tiles, x, y))


def _dots(x: Array, y: Array, tiles: Array) -> Pattern:
    inside = np.hypot(_fraction(x) - 0.5, _fraction(y) - 0.5) < 0.3
    other = _cell(tiles, x, y) < 0.4
    return (inside & ~other) * 1.0, (inside & other) * 1.0, np.ones_like(x)


def _plaid(x: Array, y: Array, _noise: Array) -> Pattern:
    across, down = _fraction(x) < 0.4, _fraction(y) < 0.4
    second, third = 0.5 * across, 0.45 * down
    return second, third, np.ones_like(x)


def _mondrian(x: Array, y: Array, tiles: Array) -> Pattern:
    """Rectangles of several sizes over each other: prints, posters."""
    large, small = _cell(tiles, x, y), _cell(tiles, 2.3 * x, 2.9 * y, 1)
    pick = np.where(small < 0.45, _cell(tiles, 2.3 * x, 2.9 * y, 2), large)
    return (pick < 0.33) * 1.0, (pick > 0.7) * 1.0, 0.75 + 0.5 * _cell(tiles, x, y, 3)


def _landscape(x: Array, y: Array, tiles: Array) -> Pattern:
    """Hills under a sky, for pictures and for views through windows."""
    height = 0.9 * _smooth(tiles, 7 * x, 0 * y + 11) - 0.2
    sky = _fraction(y) > height
    trees = _smooth(tiles, 11 * x, 11 * y) > 0.55
    return (sky * 1.0), (~sky & trees) * 1.0, np.ones_like(x)


def _fake_boxes(x: Array, y: Array, _noise: Array) -> Pattern:
    """Printed cubes: three shaded faces without any geometry."""
    px, py = 2.4 * (_fraction(x) - 0.5), 2.4 * (_fraction(y) - 0.5)
    inside = (np.abs(px) < 0.866) & (np.abs(py) < 1 - np.abs(px) / 1.732)
    top = inside & (py > np.abs(px) / 1.732)
    left = inside & ~top & (px < 0)
    gain = np.where(top, 1.1, np.where(left, 0.7, np.where(inside, 0.4, 1.0)))
    return (~inside) * 1.0, np.zeros_like(x), gain


def _shelves(x: Array, y: Array, tiles: Array) -> Pattern:
    """Rows of book spines between boards: one unit across is a book, one unit up a shelf."""
    up, book = _fraction(y), _cell(tiles, x, y)
    spine = (up > 0.12) & (up < 0.6 + 0.36 * _cell(tiles, x, y, 1))
    edge = _fraction(x) < 0.12
    gain = np.where(spine & ~edge, 0.55 + 0.6 * book, np.where(up > 0.12, 0.25, 0.9))
    return (spine & (book < 0.5)) * 1.0, (spine & (book >= 0.5)) * 1.0, gain


PATTERNS: dict[str, Callable[[Array, Array, Array], Pattern]] = {
    "plain": _plain,
    "flat": _flat,
    "stripes": _stripes,
    "checker": _checker,
    "cloud": _cloud,
    "wood": _wood,
    "tiles": _tiles,
    "bricks": _bricks,
    "dots": _dots,
    "plaid": _plaid,
    "mondrian": _mondrian,
    "landscape": _landscape,
    "fake_boxes": _fake_boxes,
    "shelves": _shelves,
}


def _pattern_means() -> list[tuple[float, float, float]]:
    """Mean weights and gain of each pattern, to fade to: sampled once on a fixed grid."""
    rng = np.random.Generator(np.random.Philox(0))
    tiles = noise_tiles(rng)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(0, 16, 0.17), np.arange(0, 16, 0.19)))
    values = (function(x, y, tiles) for function in PATTERNS.values())
    return [tuple(float(part.mean()) for part in value) for value in values]  # type: ignore[misc]


MEANS = _pattern_means()
