"""What a variant of the ray-cast rooms fixes.

World axes: x and y along the walls, z up, the origin in the middle of the floor; lengths in metres.
"""

from dataclasses import dataclass

from mtl.data.readers.nyuv2_classes import CLASSES_13

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SceneVariant:
    """All knobs of one kind of room. A range is drawn from uniformly unless it says otherwise."""

    name: str
    classes: tuple[str, ...]
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


VARIANTS: dict[str, SceneVariant] = {
    "simple": SceneVariant(
        name="simple",
        classes=("floor", "wall", "bookcase", "ceiling", "furniture"),
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
