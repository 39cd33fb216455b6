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

import numpy as np

from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.scenes.builder import Layout, Palette
from mtl.data.scenes.camera import place_camera
from mtl.data.scenes.light import draw_lamps, expose, radiance
from mtl.data.scenes.materials import MIN_COSINE, albedo, surface_coordinates
from mtl.data.scenes.ray_casting import Hits, curvature_per_m, first_hits
from mtl.data.scenes.records import SceneSample, SceneVariant
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

LAYOUTS: dict[str, Callable[[np.random.Generator, SceneVariant, Palette], Layout]] = {
    "simple": layout_simple,
    "rooms": layout_rooms,
}

VARIANTS: dict[str, SceneVariant] = {
    "simple": SceneVariant(
        name="simple",
        classes=("floor", "wall", "bookcase", "ceiling", "furniture"),
        layout="simple",
        depth_range_m=(0.7, 10.0),
        room_width_m=(6.0, 7.0),
        room_length_m=(6.0, 7.0),
        room_height_m=(2.4, 2.4),
        num_objects=(3, 5),
        unlabelled_probability=0.0,
        border_fraction=0.0,
        camera_reach=0.33,
        camera_height_m=(1.2, 1.2),
        camera_pitch_deg=(0.0, 14.0),
        pitch_fall=0.0,
        camera_roll_deg=3.0,
        horizontal_fov_deg=(75.0, 75.0),
        num_lamps=(1, 1),
        lamp_saturation=0.1,
        ambient=(0.6, 1.2),
        exposure=(0.25, 0.4),
        gamma=(0.95, 1.05),
        shot_noise=(0.01, 0.02),
        blur_px=(0.0, 0.3),
    ),
    "rooms": SceneVariant(
        name="rooms",
        classes=CLASSES_13,
        layout="rooms",
        depth_range_m=(0.7, 10.0),
        room_width_m=(2.4, 4.8),
        room_length_m=(2.8, 6.4),
        room_height_m=(2.45, 3.2),
        num_objects=(20, 40),
        unlabelled_probability=0.2,
        border_fraction=0.0155,
        camera_reach=1.0,
        camera_height_m=(0.5, 2.0),
        camera_pitch_deg=(-10.5, 7.5),
        pitch_fall=0.75,
        camera_roll_deg=3.0,
        horizontal_fov_deg=(45.0, 75.0),
        num_lamps=(1, 4),
        lamp_saturation=0.4,
        ambient=(0.25, 0.9),
        exposure=(0.14, 0.36),
        gamma=(0.85, 1.15),
        shot_noise=(0.004, 0.02),
        blur_px=(0.0, 0.5),
    ),
}


def render_scene(
    variant: str, *, seed: int, split: str, index: int, height: int, width: int
) -> SceneSample:
    """Render scene number `index` of a split at `height` x `width` pixels, with nine targets.

    The same arguments give the same arrays in any process. Targets and their units are listed in
    `SceneSample`.
    """
    record = _checked_variant(variant, seed, split, index, height, width)
    layout_rng, camera_rng, lamp_rng, sensor_rng = _streams(variant, seed, split, index)
    layout = LAYOUTS[record.layout](layout_rng, record, Palette(layout_rng))
    camera, pose, primitives = place_camera(camera_rng, record, layout, height, width)

    offsets = np.concatenate([CENTRE, SAMPLES])
    hits, directions = first_hits(primitives, pose, camera, offsets, height, width)
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
    lamps = draw_lamps(lamp_rng, record, layout.room_half_m, pose.position)
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
    normal = (centre.normal @ pose.axes.T).reshape(height, width, 3)
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
    return SceneSample(image, targets, valid, camera)


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
    return Hits(
        hits.t[rays].astype(dtype),
        hits.primitive[rays],
        hits.face[rays],
        hits.normal[rays].astype(dtype),
        hits.point[rays].astype(dtype),
        hits.local[rays].astype(dtype),
    )


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
