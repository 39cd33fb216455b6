"""Light and sensor: lamps with shadows on diffuse and glossy surfaces, then a camera's response."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtl.data.scenes.materials import Materials, linear_rgb
from mtl.data.scenes.ray_casting import Array, Hits, Primitives, lit
from mtl.data.scenes.records import SceneVariant

# A lamp has a size, so its light does not grow without bound close by.
LAMP_SOFTENING_M2 = 0.4
HIGHLIGHT_EXPONENT = 40
# Ambient light fades within this distance of the room's other surfaces.
CORNER_REACH_M = 0.35
CORNER_DARKENING = 0.45


@dataclass(frozen=True)
class Lamps:
    """L point lamps: `position` (L, 3) in metres and `power` (L, 3), linear RGB."""

    position: Array
    power: Array
    ambient: Array


def draw_lamps(
    rng: np.random.Generator, variant: SceneVariant, room_half_m: Array, camera_m: Array
) -> Lamps:
    """Place lamps in the upper part of the room, anywhere in plan but not at the camera itself."""
    number = int(rng.integers(variant.num_lamps[0], variant.num_lamps[1] + 1))
    reach = np.array([0.85, 0.85, 0.0]) * room_half_m
    position = rng.uniform(-1, 1, (number, 3)) * reach
    position[:, 2] = rng.uniform(0.6, 0.94, number) * 2 * room_half_m[2]
    # Light from the camera itself would make the image the reshading target.
    beside = np.linalg.norm(position - camera_m, axis=1) < 0.8
    position[beside, :2] *= -1
    hue = np.where(rng.random(number) < 0.65, 0.09, 0.58) + rng.normal(0, 0.05, number)
    saturation = rng.uniform(0, variant.lamp_saturation, number)
    colour = np.array([linear_rgb(h, s, 1.0) for h, s in zip(hue, saturation, strict=True)])
    power = colour * np.exp(rng.normal(0, 0.5, number))[:, None]
    tint = np.array(linear_rgb(rng.random(), 0.3 * variant.lamp_saturation, 1.0))
    distance2 = float((room_half_m**2).sum())
    ambient = rng.uniform(*variant.ambient) * power.sum(0).mean() / distance2 * tint
    # Shading works in single precision, as the hits that it is given.
    parts = (position, power, ambient)
    return Lamps(*(np.asarray(part, np.float32) for part in parts))


def radiance(
    primitives: Primitives,
    hits: Hits,
    directions: Array,
    materials: Materials,
    material: NDArray[np.integer],
    colour: Array,
    lamps: Lamps,
    casts_shadow: NDArray[np.bool_],
) -> Array:
    """Return the linear RGB light (N, 3) that leaves each hit towards the camera."""
    room, middle = primitives.half[0].astype(np.float32), primitives.centre[0].astype(np.float32)
    lifted = hits.point + CORNER_REACH_M * hits.normal - middle
    gap = (room - np.abs(lifted)).min(axis=1) / CORNER_REACH_M
    openness = 1 - CORNER_DARKENING * (1 - np.clip(gap, 0.0, 1.0))
    upward = 1.0 + 0.2 * hits.normal[:, 2]
    light = (openness * upward)[:, None] * lamps.ambient
    shine = np.zeros_like(light)
    gloss = materials.gloss[material]
    glossy = np.flatnonzero(gloss > 0)
    to_camera = -directions[glossy]
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    for position, power in zip(lamps.position, lamps.power, strict=True):
        towards = position - hits.point
        square = np.einsum("nc,nc->n", towards, towards)
        distance = np.sqrt(square)
        facing = np.einsum("nc,nc->n", towards, hits.normal) / distance
        turned = np.flatnonzero(facing > 0)
        seen = lit(primitives, position, hits.point[turned], casts_shadow)
        strength = np.zeros_like(facing)
        strength[turned] = seen * facing[turned] / (square[turned] + LAMP_SOFTENING_M2)
        light += strength[:, None] * power
        half = towards[glossy] / distance[glossy, None] + to_camera
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        cosine = np.maximum(np.einsum("nc,nc->n", half, hits.normal[glossy]), 0.0)
        spot = gloss[glossy] * cosine**HIGHLIGHT_EXPONENT * (strength[glossy] > 0)
        shine[glossy] += (spot / (square[glossy] + LAMP_SOFTENING_M2))[:, None] * power
    mean_light = max(float(light.mean()), 1e-6)
    own = materials.emission[material] * mean_light
    return colour * (light + own[:, None]) + shine


def expose(rng: np.random.Generator, variant: SceneVariant, linear: Array) -> NDArray[np.uint8]:
    """Return the 8-bit image (H, W, 3) of linear light: exposure, blur, noise, clipping, gamma."""
    height = linear.shape[0]
    # The median keeps a window from darkening the rest, the bright end keeps white from flooding.
    median, bright = np.quantile(linear, (0.5, 0.95))
    level = max(0.5 * (float(median) + float(linear.mean())), 0.3 * float(bright))
    exposed = linear * (rng.uniform(*variant.exposure) / max(level, 1e-6))
    sigma_px = rng.uniform(*variant.blur_px) * height / 64
    blurred = ndimage.gaussian_filter(exposed, (sigma_px, sigma_px, 0))
    shot = rng.uniform(*variant.shot_noise)
    noise = rng.standard_normal(linear.shape) * shot * np.sqrt(np.clip(blurred, 0.0, 1.0) + 0.01)
    clipped = np.clip(blurred + noise, 0.0, 1.0)
    display = clipped ** (1.0 / (2.2 * rng.uniform(*variant.gamma)))
    return np.rint(255 * display).astype(np.uint8)
