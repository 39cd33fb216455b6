"""Ray-cast rooms with exact ground truth for all nine tasks, from a seed and without downloads.

- `simple`: five large balanced classes; small enough for a network of 0.1 M parameters.
- `rooms`: furnished rooms with the 13 classes and the pixel shares of NYUv2.

Depth, normals, labels and curvature come from the ray through the pixel centre; the image averages
2x2 rays. The other targets follow from these through `mtl.data.targets.derive`.
A scene depends on (SCENES_VERSION, variant, seed, split, index, height, width) alone. Each part
(layout, camera, lamps, sensor) draws from its own stream; splits share none.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import atan, cos, degrees, radians, sin, tan

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtl.data.sample import Camera, RawSample
from mtl.data.scenes.builder import Layout, Palette
from mtl.data.scenes.materials import MIN_COSINE, Materials, albedo, linear_rgb, surface_coordinates
from mtl.data.scenes.ray_casting import (
    Array,
    Hits,
    Pose,
    Primitives,
    corners,
    curvature_per_m,
    first_hits,
    in_camera_frame,
    lit,
    outside_frustum,
)
from mtl.data.scenes.records import VARIANTS, SceneVariant
from mtl.data.scenes.rooms import layout_rooms, layout_simple
from mtl.data.targets import derive
from mtl.errors import UsageError
from mtl.spec.sections import SCENES_VERSION, SPLITS
from mtl.spec.strict import checked_name

# The pixel centre, then the 2x2 samples of the image, in pixels.
CENTRE = np.zeros((1, 2))
SAMPLES = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])
# Solids smaller than this cast no shadow that a pixel could show.
MIN_SHADOW_M = 0.04
# Of this many poses that fit the room, the best one is taken.
NUM_CANDIDATES = 6
MAX_ATTEMPTS = 60
# Distance that a camera keeps from walls; the depth range asks for more in front.
WALL_MARGIN_M = 0.2
# Cost of losing an object to the near limit, in units of the view's cover by solids.
DROP_PENALTY = 0.3
# The vertical half field of view for which a variant's mean pitch is given.
LEVEL_HALF_FOV_DEG = 22.5
# Depths are exact to far less than this.
DEPTH_MARGIN_M = 0.01
# A lamp has a size, so its light does not grow without bound close by.
LAMP_SOFTENING_M2 = 0.4
HIGHLIGHT_EXPONENT = 40
# Ambient light fades within this distance of the room's other surfaces.
CORNER_REACH_M = 0.35
CORNER_DARKENING = 0.45

LAYOUTS: dict[str, Callable[[np.random.Generator, SceneVariant, Palette], Layout]] = {
    "simple": layout_simple,
    "rooms": layout_rooms,
}


def render_scene(
    variant: str, *, seed: int, split: str, index: int, height: int, width: int
) -> RawSample:
    """Render scene number `index` of a split at `height` x `width` pixels, with nine targets.

    The same arguments give the same arrays in any process. depth: (H, W, 1) z-buffer metres;
    normal: (H, W, 3) unit, camera frame (x right, y down, z forward), facing the camera;
    segmentation: (H, W) uint8 class index; curvature: (H, W, 2) principal curvatures k1 >= k2 times
    0.03 m, clipped to [-1, 1], convex positive; reshading, edge2d, edge3d, keypoint2d, keypoint3d:
    (H, W, 1) as in `mtl.data.targets.derive`.
    """
    record = _checked_variant(variant, seed, split, index, height, width)
    layout_rng, camera_rng, lamp_rng, sensor_rng = _streams(variant, seed, split, index)
    layout = LAYOUTS[record.name](layout_rng, record, Palette(layout_rng))
    camera, stand, primitives = place_camera(camera_rng, record, layout, height, width)

    offsets = np.concatenate([CENTRE, SAMPLES])
    hits, directions = first_hits(primitives, stand, camera, offsets, height, width)
    num_pixels = height * width
    centre = _part(hits, slice(num_pixels), np.float64)
    # Ground truth is double, colour needs no more than single precision.
    samples = _part(hits, slice(num_pixels, None), np.float32)
    directions = directions[num_pixels:].astype(np.float32)

    material = primitives.material[samples.primitive, samples.face]
    uv_m = surface_coordinates(primitives, samples)
    length = np.sqrt(np.einsum("nc,nc->n", directions, directions))
    cosine = -np.einsum("nc,nc->n", directions, samples.normal) / length
    # Half a pixel wide, and longer on a slanting surface.
    footprint_m = 0.5 * samples.t / camera.fx / np.maximum(cosine, MIN_COSINE)
    colour = albedo(layout.materials, material, uv_m, footprint_m)
    lamps = draw_lamps(lamp_rng, record, layout.room_half_m, stand.position)
    casts_shadow = np.median(primitives.half, axis=1) > MIN_SHADOW_M / 2
    light = radiance(
        primitives, samples, directions, layout.materials, material, colour, lamps, casts_shadow
    )
    linear = light.reshape(len(SAMPLES), height, width, 3).mean(axis=0)
    image = expose(sensor_rng, record, linear)

    labelled = primitives.labelled[centre.primitive, centre.face].reshape(height, width)
    labelled = labelled & ~_border(sensor_rng, record.border_fraction, height, width)
    label = primitives.label[centre.primitive, centre.face].reshape(height, width)
    depth_m = centre.t.reshape(height, width)
    normal = (centre.normal @ stand.axes.T).reshape(height, width, 3)
    curvature = np.clip(derive.CURVATURE_SCALE_M * curvature_per_m(primitives, centre), -1.0, 1.0)
    targets = {
        "depth": depth_m[..., None].astype(np.float32),
        "normal": normal.astype(np.float32),
        "segmentation": np.where(labelled, label, 0).astype(np.uint8),
        "curvature": curvature.reshape(height, width, 2).astype(np.float32),
        "reshading": _map(derive.reshading(depth_m, normal, camera)),
        "edge2d": _map(derive.edge2d(image)),
        "edge3d": _map(derive.edge3d(depth_m)),
        "keypoint2d": _map(derive.keypoint2d(image)),
        "keypoint3d": _map(derive.keypoint3d(depth_m, normal, camera)),
    }
    valid = {name: np.ones((height, width), bool) for name in targets}
    valid["segmentation"] = labelled
    return RawSample(image, targets, valid, camera=camera)


def _checked_variant(
    variant: str, seed: int, split: str, index: int, height: int, width: int
) -> SceneVariant:
    checked_name(variant, VARIANTS, "variant")
    checked_name(split, SPLITS, "split")
    if seed < 0 or index < 0:
        raise UsageError(
            f"Expected seed and index of at least 0, got {seed} and {index}. Count from 0."
        )
    if height <= 0 or width <= 0:
        raise UsageError(
            f"Expected a height and width of at least 1 pixel, got {height} x {width}. "
            "Ask for a positive size."
        )
    return VARIANTS[variant]


def _streams(variant: str, seed: int, split: str, index: int) -> list[np.random.Generator]:
    """Independent generators for layout, camera, lamps and sensor of one scene."""
    names = (zlib.crc32(variant.encode()), zlib.crc32(split.encode()))
    root = np.random.SeedSequence((SCENES_VERSION, names[0], seed, names[1], index))
    return [np.random.Generator(np.random.Philox(child)) for child in root.spawn(4)]


def _part(hits: Hits, rays: slice, dtype: type[np.floating]) -> Hits:
    """Some of the hits, with their lengths and directions in this precision."""
    arrays = (array[rays] for array in vars(hits).values())
    return Hits(*(a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays))


def _map(values: np.ndarray) -> np.ndarray:
    return values[..., None].astype(np.float32)


def _border(rng: np.random.Generator, fraction: float, height: int, width: int) -> np.ndarray:
    """The void strip (H, W): each side's width is rounded at random, so its mean is exact."""
    top, bottom, left, right = (
        int(fraction * length + rng.random()) for length in (height, height, width, width)
    )
    strip = np.ones((height, width), bool)
    strip[top : height - bottom, left : width - right] = False
    return strip


def intrinsics(fov_deg: float, height: int, width: int) -> Camera:
    """Return square-pixel intrinsics for a horizontal field of view, centred."""
    focal_px = width / 2 / tan(radians(fov_deg) / 2)
    return Camera(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)


def pose(position: Array, yaw: float, pitch: float, roll: float) -> Pose:
    """Return a pose from angles in radians: yaw from +x about z, pitch up, roll clockwise."""
    forward = np.array([cos(pitch) * cos(yaw), cos(pitch) * sin(yaw), sin(pitch)])
    level = np.array([sin(yaw), -cos(yaw), 0.0])
    down = np.cross(forward, level)
    right = cos(roll) * level + sin(roll) * down
    return Pose(position, np.stack([right, np.cross(forward, right), forward]))


def place_camera(
    rng: np.random.Generator, variant: SceneVariant, layout: Layout, height: int, width: int
) -> tuple[Camera, Pose, Primitives]:
    """Return intrinsics, pose, and the solids without the objects that are too near to be seen.

    The walls bound the depth through the image's corners: on each plane 1 / depth is affine in the
    image, so the least depth of a room is at a corner. Objects nearer than the range are removed,
    which also keeps the camera out of the furniture.
    """
    camera = intrinsics(float(rng.uniform(*variant.horizontal_fov_deg)), height, width)
    tan_x, tan_y = width / 2 / camera.fx, height / 2 / camera.fy
    solids = corners(layout.primitives)
    best: tuple[float, Pose, np.ndarray] | None = None
    found = 0
    for _ in range(MAX_ATTEMPTS):
        candidate = _draw_pose(rng, variant, layout.room_half_m, tan_y)
        if not _room_in_range(candidate, layout.room_half_m, tan_x, tan_y, variant):
            continue
        found += 1
        points = in_camera_frame(solids, candidate)
        visible = ~outside_frustum(points, tan_x, tan_y)
        too_near = visible & (points[..., 2].min(1) < variant.depth_range_m[0] + DEPTH_MARGIN_M)
        groups = layout.primitives.group
        dropped = np.unique(groups[1:][too_near[1:]])
        # Pictures are taken of things: prefer poses whose view objects fill.
        size_m = np.linalg.norm(layout.primitives.half[1:], axis=1)
        distance_m = np.linalg.norm(layout.primitives.centre[1:] - candidate.position, axis=1)
        cover = np.minimum(size_m / np.maximum(distance_m, size_m), 0.7) ** 2
        kept = visible[1:] & ~np.isin(groups[1:], dropped)
        score = float(cover[kept].sum()) - DROP_PENALTY * len(dropped)
        if best is None or score > best[0]:
            best = (score, candidate, ~np.isin(groups, dropped))
        if found == NUM_CANDIDATES:
            break
    if best is None:
        raise RuntimeError(
            f"No camera pose of {variant.name} fits its room: widen the room or narrow the view."
        )
    return camera, best[1], layout.primitives.select(best[2])


def _draw_pose(
    rng: np.random.Generator, variant: SceneVariant, half_m: Array, tan_y: float
) -> Pose:
    position = rng.uniform(-1, 1, 3) * variant.camera_reach * (half_m - WALL_MARGIN_M)
    position[2] = rng.uniform(*variant.camera_height_m)
    # Look across the room: towards a point of its middle part.
    goal = rng.uniform(-0.6, 0.6, 2) * half_m[:2] - position[:2]
    yaw = float(np.arctan2(goal[1], goal[0]))
    mean, deviation = variant.camera_pitch_deg
    mean -= variant.pitch_fall * (degrees(atan(tan_y)) - LEVEL_HALF_FOV_DEG)
    pitch = radians(float(rng.normal(mean, deviation)))
    return pose(position, yaw, pitch, radians(float(rng.normal(0, variant.camera_roll_deg))))


def _room_in_range(
    candidate: Pose, half_m: Array, tan_x: float, tan_y: float, variant: SceneVariant
) -> bool:
    """Whether the empty room, as seen, lies within the depth range."""
    rays = np.array([[x, y, 1.0] for x in (-tan_x, tan_x) for y in (-tan_y, tan_y)])
    directions = rays @ candidate.axes
    start = candidate.position - np.array([0.0, 0.0, half_m[2]])
    safe = np.where(np.abs(directions) < 1e-9, 1e-9, directions)
    depth_m = ((np.sign(safe) * half_m - start) / safe).min(1)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    far_m = ((signs * half_m - start) @ candidate.axes[2]).max()
    near, far = variant.depth_range_m
    return bool(depth_m.min() > near + DEPTH_MARGIN_M and far_m < far - DEPTH_MARGIN_M)


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
