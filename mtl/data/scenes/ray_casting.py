"""Ray casting: analytic intersections of pencils of rays with convex primitives, vectorised.

All rays of a call start in one point (the camera, or a lamp), so the origin in each primitive's
frame is computed once. Rays meet primitives as a flat list of (ray, primitive) pairs that a cheap
test has kept: the screen rectangle for the camera, a cone for a lamp.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl.data.sample import Camera

Array = NDArray[np.floating]
Index = NDArray[np.integer]

BOX, SPHERE, CYLINDER = 0, 1, 2
# Faces: 0 -x, 1 +x, 2 -y, 3 +y, 4 -z, 5 +z of a box; cylinders have 0 (side), 4, 5; spheres 0.
NUM_FACES = 6
# Scene size is metres, so this is far below what a pixel can show.
TINY = 1e-9
# Shadow rays are float32: nothing closer than this to a surface shades it.
SHADOW_MARGIN_M = 4e-3
# Pairs handled at once: the arrays of one chunk stay in the processor's cache.
CHUNK = 8192


@dataclass(frozen=True)
class Primitives:
    """P solids. Primitive 0 is the room: a box seen from inside.

    `kind` (P,); `centre` (P, 3); `axes` (P, 3, 3), rows are the solid's axes in the world;
    `half` (P, 3) half sizes in metres (sphere: radius three times; cylinder: radius, radius, half
    height); `material` and `label` (P, 6) a face each; `labelled` (P, 6) False for void;
    `group` (P,) the object that it belongs to.
    """

    kind: Index
    centre: Array
    axes: Array
    half: Array
    material: Index
    label: Index
    labelled: NDArray[np.bool_]
    group: Index

    def select(self, keep: NDArray[np.bool_]) -> "Primitives":
        """Return the primitives where `keep` (P,) is True."""
        return Primitives(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Pose:
    """Where a camera stands: `position` (3,) and `axes` (3, 3), rows right, down, forward."""

    position: Array
    axes: Array


@dataclass(frozen=True)
class Hits:
    """First hits of N rays: ray parameter, primitive, face, unit outward normal, point, local."""

    t: Array
    primitive: Index
    face: Index
    normal: Array
    point: Array
    local: Array


def corners(primitives: Primitives) -> Array:
    """Return the corners of each primitive's oriented bounding box in the world: (P, 8, 3)."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    local = signs[None] * primitives.half[:, None]
    return primitives.centre[:, None] + local @ primitives.axes


def in_camera_frame(points: Array, pose: Pose) -> Array:
    """Return world points (..., 3) in the camera's axes: x right, y down, z forward."""
    return (points - pose.position) @ pose.axes.T


def outside_frustum(points: Array, tan_x: float, tan_y: float) -> NDArray[np.bool_]:
    """Return which primitives (P,) certainly miss the image; `points` (P, 8, 3) camera frame.

    True only if all corners lie beyond one and the same side of the field of view.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    beyond = np.stack([x > z * tan_x, -x > z * tan_x, y > z * tan_y, -y > z * tan_y, z <= 0])
    return np.any(np.all(beyond, axis=-1), axis=0)


def first_hits(
    primitives: Primitives, pose: Pose, camera: Camera, offsets_px: Array, height: int, width: int
) -> tuple[Hits, Array]:
    """Cast one ray for each offset and pixel; return hits and directions, N = offsets x H x W.

    `offsets_px` (S, 2) are (x, y) from the pixel centre. Directions have z = 1 in the camera
    frame, so the ray parameter is the z-buffer depth in metres.
    """
    columns = np.arange(width)[None, None, :] + offsets_px[:, 0, None, None]
    rows = np.arange(height)[None, :, None] + offsets_px[:, 1, None, None]
    local = np.ones((len(offsets_px), height, width, 3))
    local[..., 0] = (columns - camera.cx) / camera.fx
    local[..., 1] = (rows - camera.cy) / camera.fy
    directions = local.reshape(-1, 3) @ pose.axes

    depth_m, owner = _leave_room(primitives, pose.position, directions)
    rays, owners = _screen_pairs(primitives, pose, camera, len(offsets_px), height, width)
    # Single precision finds which solid is in front, double precision says where.
    enter = _enter(primitives, pose.position, directions.astype(np.float32), rays, owners)
    nearest = depth_m.astype(np.float32)
    seen = (enter > 0) & (enter < nearest[rays])
    rays, owners, enter = rays[seen], owners[seen], enter[seen]
    np.minimum.at(nearest, rays, enter)
    front = enter == nearest[rays]
    owner[rays[front]] = owners[front]
    rays = np.flatnonzero(owner)
    exact = _enter(primitives, pose.position, directions, rays, owner[rays])
    # A ray that only single precision lets touch a solid keeps that hit: it is as good.
    depth_m[rays] = np.where(np.isfinite(exact), exact, nearest[rays])
    return _surface(primitives, pose.position, directions, depth_m, owner), directions


def lit(
    primitives: Primitives, lamp: Array, points: Array, casts_shadow: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which points (N, 3) see the lamp (3,) past the primitives that cast shadows (P,)."""
    directions = (points - lamp).astype(np.float32)
    distance_m = np.sqrt(np.einsum("nc,nc->n", directions, directions))
    away = (primitives.centre - lamp).astype(np.float32)
    square = np.einsum("pc,pc->p", away, away)
    radius = np.linalg.norm(primitives.half, axis=1).astype(np.float32)
    is_sphere = primitives.kind == SPHERE
    radius[is_sphere] = primitives.half[is_sphere, 0]
    around = square <= radius**2
    # A ray meets the bounding sphere if it points at least this far along the centre's direction.
    threshold = np.sqrt(np.maximum(square - radius**2, 0.0))
    threshold[around] = -np.inf
    threshold[~casts_shadow] = np.inf
    threshold[0] = np.inf
    along = away @ (directions / np.maximum(distance_m, TINY)[:, None]).T
    # On a flat array the search for True is several times faster.
    owners, rays = np.divmod(np.flatnonzero(along > threshold[:, None]), len(points))
    reach = np.sqrt(square) - radius
    near = reach[owners] < distance_m[rays]
    owners, rays = owners[near], rays[near]
    enter = _enter(primitives, lamp, directions, rays, owners)
    blocked = (enter > 0) & (enter < 1 - SHADOW_MARGIN_M / np.maximum(distance_m[rays], TINY))
    result = np.ones(len(points), bool)
    result[rays[blocked]] = False
    return result


def _leave_room(primitives: Primitives, origin: Array, directions: Array) -> tuple[Array, Index]:
    """Ray parameter at which each ray leaves the room, and the room as owner."""
    start = origin - primitives.centre[0]
    safe = np.where(np.abs(directions) < TINY, TINY, directions)
    leave = ((np.where(safe > 0, 1.0, -1.0) * primitives.half[0] - start) / safe).min(axis=1)
    return leave, np.zeros(len(directions), np.intp)


def _screen_pairs(
    primitives: Primitives, pose: Pose, camera: Camera, num_offsets: int, height: int, width: int
) -> tuple[Index, Index]:
    """Pairs (ray, primitive) where the ray's pixel lies in the primitive's screen rectangle."""
    points = in_camera_frame(corners(primitives), pose)
    z = points[..., 2]
    behind, in_front = np.all(z < 0.05, axis=1), np.all(z > 0.05, axis=1)
    safe_z = np.maximum(z, 0.05)
    x = points[..., 0] / safe_z * camera.fx + camera.cx
    y = points[..., 1] / safe_z * camera.fy + camera.cy
    # Offsets stay within half a pixel of the centre.
    left = np.clip(np.floor(x.min(1) - 0.5), 0, width).astype(int)
    right = np.clip(np.ceil(x.max(1) + 0.5) + 1, 0, width).astype(int)
    top = np.clip(np.floor(y.min(1) - 0.5), 0, height).astype(int)
    bottom = np.clip(np.ceil(y.max(1) + 0.5) + 1, 0, height).astype(int)
    left[~in_front], top[~in_front], right[~in_front], bottom[~in_front] = 0, 0, width, height
    numbers = np.arange(num_offsets * height * width).reshape(num_offsets, height, width)
    rays, counts = [np.empty(0, np.intp)], [0] * len(z)
    for index in range(1, len(z)):
        if behind[index] or left[index] >= right[index] or top[index] >= bottom[index]:
            continue
        window = numbers[:, top[index] : bottom[index], left[index] : right[index]]
        rays.append(window.reshape(-1))
        counts[index] = window.size
    return np.concatenate(rays), np.repeat(np.arange(len(z)), counts)


def _enter(
    primitives: Primitives, origin: Array, directions: Array, rays: Index, owners: Index
) -> Array:
    """Ray parameter where each pair's ray enters the solid; inf where it misses.

    Negative where the origin is inside or beyond. Works in the dtype of `directions`.
    """
    dtype = directions.dtype
    start = np.einsum("pij,pj->pi", primitives.axes, origin - primitives.centre)
    table = np.concatenate([primitives.axes.reshape(-1, 9), start, primitives.half], axis=1)
    # Components first and contiguous, fetched by `take`: several times faster than indexing.
    table, columns = table.T.astype(dtype, order="C"), np.ascontiguousarray(directions.T)
    result = np.full(len(rays), np.inf, dtype)
    kinds = primitives.kind.take(owners)
    for kind, function in ((BOX, _enter_box), (SPHERE, _enter_sphere), (CYLINDER, _enter_cylinder)):
        of_kind = np.flatnonzero(kinds == kind)
        for first in range(0, len(of_kind), CHUNK):
            chosen = of_kind[first : first + CHUNK]
            solid = table.take(owners.take(chosen), axis=1)
            x, y, z = columns.take(rays.take(chosen), axis=1)
            local = [solid[i] * x + solid[i + 1] * y + solid[i + 2] * z for i in (0, 3, 6)]
            enter, leave = function(solid[9:12], local, solid[12:15])
            result[chosen] = np.where(enter < leave, enter, np.inf)
    return result


def _slab(start: Array, direction: Array, half: Array) -> tuple[Array, Array]:
    inverse = 1.0 / np.where(np.abs(direction) < TINY, TINY, direction)
    middle, spread = -start * inverse, half * np.abs(inverse)
    return middle - spread, middle + spread


def _enter_box(o: Array, d: list[Array], half: Array) -> tuple[Array, Array]:
    enter, leave = _slab(o[0], d[0], half[0])
    for axis in (1, 2):
        near, far = _slab(o[axis], d[axis], half[axis])
        enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    return enter, leave


def _roots(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Both solutions of a t^2 + 2 b t + c = 0; an empty interval where there is none."""
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0.0))
    enter = np.where(square > 0, -b - root, np.inf) / a
    return enter, (root - b) / a


def _enter_sphere(o: Array, d: list[Array], half: Array) -> tuple[Array, Array]:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - half[0] ** 2
    return _roots(a, b, c)


def _enter_cylinder(o: Array, d: list[Array], half: Array) -> tuple[Array, Array]:
    a = np.maximum(d[0] * d[0] + d[1] * d[1], TINY)
    b = o[0] * d[0] + o[1] * d[1]
    c = o[0] * o[0] + o[1] * o[1] - half[0] ** 2
    enter, leave = _roots(a, b, c)
    near, far = _slab(o[2], d[2], half[2])
    return np.maximum(enter, near), np.minimum(leave, far)


def _surface(
    primitives: Primitives, origin: Array, directions: Array, t: Array, owner: Index
) -> Hits:
    """Face, normal and local point of each hit."""
    point = origin + t[:, None] * directions
    axes, half = primitives.axes[owner], primitives.half[owner]
    local = np.einsum("nij,nj->ni", axes, point - primitives.centre[owner])
    kind = primitives.kind[owner]
    relative = local / half
    size = np.abs(relative)
    face = np.zeros(len(t), np.intp)
    normal = np.zeros_like(local)

    box = np.flatnonzero(kind == BOX)
    axis = size[box].argmax(axis=1)
    positive = np.take_along_axis(relative[box], axis[:, None], 1)[:, 0] > 0
    face[box] = 2 * axis + positive
    sign = np.where(positive, 1.0, -1.0) * np.where(owner[box] == 0, -1.0, 1.0)
    normal[box, axis] = sign

    sphere = np.flatnonzero(kind == SPHERE)
    normal[sphere] = relative[sphere] / np.linalg.norm(relative[sphere], axis=1, keepdims=True)

    cylinder = np.flatnonzero(kind == CYLINDER)
    radial = np.hypot(relative[cylinder, 0], relative[cylinder, 1])
    on_cap = size[cylinder, 2] > radial
    above = relative[cylinder, 2] > 0
    face[cylinder] = np.where(on_cap, 4 + above, 0)
    normal[cylinder, 2] = np.where(on_cap, np.where(above, 1.0, -1.0), 0.0)
    side = cylinder[~on_cap]
    normal[side, :2] = relative[side, :2] / np.maximum(radial[~on_cap], TINY)[:, None]
    world_normal = np.einsum("nij,ni->nj", axes, normal)
    return Hits(t, owner, face, world_normal, point, local)


def curvature_per_m(primitives: Primitives, hits: Hits) -> Array:
    """Return the principal curvatures k1 >= k2 in 1/m of each hit, convex positive: (N, 2)."""
    kind, radius_m = primitives.kind[hits.primitive], primitives.half[hits.primitive, 0]
    curvature = np.zeros((len(kind), 2))
    sphere = kind == SPHERE
    side = (kind == CYLINDER) & (hits.face == 0)
    curvature[sphere] = 1.0 / radius_m[sphere, None]
    curvature[side, 0] = 1.0 / radius_m[side]
    return curvature
