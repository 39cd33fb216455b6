"""Choose where the camera stands, so that all it sees lies in the variant's depth range."""

from math import atan, cos, degrees, radians, sin, tan

import numpy as np

from mtl.data.sample import Camera
from mtl.data.scenes.builder import Layout
from mtl.data.scenes.ray_casting import (
    Array,
    Pose,
    Primitives,
    corners,
    in_camera_frame,
    outside_frustum,
)
from mtl.data.scenes.records import SceneVariant

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
