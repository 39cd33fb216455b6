"""The records of the ray-cast rooms: what a variant fixes and what a rendered scene holds.

World axes: x and y along the walls, z up, the origin in the middle of the floor; lengths in metres.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.data.sample import Camera

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SceneVariant:
    """All knobs of one kind of room. A range is drawn from uniformly unless said otherwise."""

    name: str
    classes: tuple[str, ...]
    layout: str
    """Which layout function furnishes the room; a key of `mtl.data.scenes.render.LAYOUTS`."""
    depth_range_m: Range
    """Smallest and largest z-buffer depth that a scene may show."""

    room_width_m: Range
    room_length_m: Range
    room_height_m: Range
    num_objects: tuple[int, int]
    """Fewest and most objects in a room, walls not counted."""
    unlabelled_probability: float
    """Share of the objects that have no class: void."""
    border_fraction: float
    """Mean width of the void strip at each border, as a share of the image's side."""

    camera_reach: float
    """How far from the middle of the room the camera may stand: 1 is almost at the walls."""
    camera_height_m: Range
    camera_pitch_deg: tuple[float, float]
    """Mean and standard deviation; positive looks up."""
    pitch_fall: float
    """Degrees by which the mean pitch sinks for each degree of vertical half field of view above
    22.5: whoever takes a taller picture keeps the ceiling out of it."""
    camera_roll_deg: float
    """Standard deviation."""
    horizontal_fov_deg: Range

    num_lamps: tuple[int, int]
    lamp_saturation: float
    """Largest saturation of a lamp's colour."""
    ambient: Range
    """Ambient light as a share of the lamps' mean light."""
    exposure: Range
    """Mean linear luminance of the image before clipping."""
    gamma: Range
    shot_noise: Range
    """Standard deviation at full white, in units of full scale."""
    blur_px: Range
    """Standard deviation of the lens blur at a height of 64 pixels; scales with the height."""


@dataclass(frozen=True)
class SceneSample:
    """One rendered scene: image, nine targets, where they count, and the camera.

    `image` is uint8 (H, W, 3). `targets` and `valid` (bool, (H, W), True = counted) have one entry
    a task: depth (H, W, 1) z-buffer metres; normal (H, W, 3) unit, camera frame (x right, y down,
    z forward), facing the camera; segmentation (H, W) uint8 class index; curvature (H, W, 2)
    principal curvatures k1 >= k2 times 0.03 m, clipped to [-1, 1], convex positive;
    reshading, edge2d, edge3d, keypoint2d, keypoint3d (H, W, 1) as in `mtl.data.targets.derive`.
    All but segmentation are float32.
    """

    image: NDArray[np.uint8]
    targets: dict[str, NDArray[Any]]
    valid: dict[str, NDArray[np.bool_]]
    camera: Camera
