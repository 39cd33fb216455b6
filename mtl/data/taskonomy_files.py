"""Which views a folder of Taskonomy holds, and which of them belong to which split.

A file says by its name what it is: ``point_<P>_view_<V>_domain_<domain>.png``. The folders around
it say only the building: the last folder that does not bear a domain's name. That covers the trees
that are met, ``<task>/<building>/``, ``<building>/<task>/``, ``<task>/<component>/<building>/``,
and ``<task>/`` alone, whose building is the source folder itself.

The whole tiny part has 2.6 million files, so the index has one number a view, not one path a file.
"""

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtl.data.raw import BadSourceError

View = tuple[str, int, int]
"""Building, point, view."""

FILE_NAME = re.compile(r"point_(\d+)_view_(\d+)_domain_(\w+)\.png", re.A)

DOMAINS: dict[str, tuple[str, ...]] = {
    "image": ("rgb",),
    "depth": ("depth_zbuffer", "depth"),
    "normal": ("normal",),
    "segmentation": ("segmentsemantic",),
    "curvature": ("principal_curvature", "curvature"),
    "reshading": ("reshading", "reshade"),
    "edge2d": ("edge_texture", "edge2d"),
    "edge3d": ("edge_occlusion", "edge"),
    "keypoint2d": ("keypoints2d", "keypoint2d"),
    "keypoint3d": ("keypoints3d", "keypoint"),
    "mask": ("mask_valid",),
    "distance": ("depth_euclidean", "mist"),
}
"""What is read -> its domain in the newer and in the older release."""
KIND_OF_DOMAIN = {domain: kind for kind, domains in DOMAINS.items() for domain in domains}
BIT_OF_KIND = {kind: 1 << number for number, kind in enumerate(DOMAINS)}
# Folders that are no building; `segment_semantic` alone holds files of another domain's name,
# `segmentsemantic`.
OTHER_DOMAINS = {
    "segment_semantic", "segment_unsup2d", "segment_unsup25d", "segment2d",
    "segment25d", "class_object", "class_scene", "class_places", "point_info", "points",
    "fragments", "nonfixated_matches", "fixatedpose", "nonfixatedpose", "ego_motion", "room_layout",
    "vanishing_point", "jigsaw", "denoise", "inpainting_whole", "colorization",
}  # fmt: skip

TINY: dict[str, tuple[str, ...]] = {
    "train": (
        "hanson", "merom", "klickitat", "onaga", "leonardo", "marstons", "newfields", "pinesdale",
        "lakeville", "cosmos", "benevolence", "pomaria", "tolstoy", "shelbyville", "allensville",
        "wainscott", "beechwood", "coffeen", "stockman", "hiteman", "woodbine", "lindenwood",
        "forkland", "mifflinburg", "ranchester",
    ),
    "validation": ("wiconisco", "corozal", "collierville", "markleeville", "darden"),
    "test": ("ihlen", "muleshoe", "uvalda", "noxapater", "mcdade"),
}  # fmt: skip
"""The official tiny split by building: splits_taskonomy.zip of StanfordVL/taskonomy."""


@dataclass
class Found:
    """What a source folder holds."""

    kinds: dict[View, int] = field(default_factory=dict)
    """View -> bits of the kinds of files that it has."""
    places: dict[tuple[str, str], set[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Kind and building -> pairs of folder and domain under which its files lie, mostly one."""
    padded: dict[tuple[View, str], Path] = field(default_factory=dict)
    """View and kind -> file, of names whose numbers have leading zeros."""

    def having(self, kinds: Iterable[str]) -> list[View]:
        """Return the views that have a file of every kind, by building, point and view."""
        wanted = sum(BIT_OF_KIND[kind] for kind in kinds)
        return sorted(view for view, bits in self.kinds.items() if bits & wanted == wanted)

    def path(self, view: View, kind: str) -> Path | None:
        """Return the file of a view, or None where it has none."""
        building, point, number = view
        if not self.kinds.get(view, 0) & BIT_OF_KIND[kind]:
            return None
        if (view, kind) in self.padded:
            return self.padded[view, kind]
        paths = [
            Path(folder) / f"point_{point}_view_{number}_domain_{domain}.png"
            for folder, domain in sorted(self.places[kind, building])
        ]
        # A link that leads nowhere is a file too: reading it says so.
        return next((path for path in paths if os.path.lexists(path)), paths[0])


def find_views(source: Path) -> Found:
    """Return all views in a folder and below; links to folders are followed, but never in a circle.

    Raises:
        BadSourceError: if the source is no folder, holds no such files, or holds one file twice.
    """
    if not source.is_dir():
        raise BadSourceError(
            f"Expected a folder of Taskonomy's files at {source}, got none. "
            "Give the folder that holds the tasks' or the buildings' folders."
        )
    root = source.resolve().name
    found = Found()
    for folder, below, names in _folders(source):
        named = [f for f in below if f not in KIND_OF_DOMAIN and f not in OTHER_DOMAINS]
        building = named[-1] if named else root
        for name in names:
            match = FILE_NAME.fullmatch(name)
            kind = KIND_OF_DOMAIN.get(match[3]) if match else None
            if match is None or kind is None:
                continue
            view = (building, int(match[1]), int(match[2]))
            bits = found.kinds.get(view, 0)
            if bits & BIT_OF_KIND[kind]:
                raise BadSourceError(
                    f"Expected one {DOMAINS[kind][0]} of point {view[1]}, view {view[2]} of "
                    f"building {building} in {source}, got {found.path(view, kind)} and "
                    f"{Path(folder) / name}. Move one of them elsewhere."
                )
            found.kinds[view] = bits | BIT_OF_KIND[kind]
            if name == f"point_{view[1]}_view_{view[2]}_domain_{match[3]}.png":
                found.places[kind, building].add((folder, match[3]))
            else:
                found.padded[view, kind] = Path(folder) / name
    if not found.kinds:
        raise BadSourceError(
            f"Expected files named point_<P>_view_<V>_domain_<domain>.png in {source}, got none. "
            "Give the folder that holds the tasks' or the buildings' folders."
        )
    return found


def _folders(source: Path) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Yield each folder, the names that lead to it, and the names of its files."""
    pending: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        (str(source), (), (os.path.realpath(source),))
    ]
    while pending:
        folder, below, above = pending.pop()
        names = []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if not _is_folder(entry):
                        names.append(entry.name)
                        continue
                    real = os.path.realpath(entry.path)
                    if real not in above:  # else a link back to a folder that leads here
                        pending.append((entry.path, (*below, entry.name), (*above, real)))
        except OSError as error:
            raise BadSourceError(
                f"Expected to list the folder {folder}, got: {error.strerror or error}. "
                "Give yourself the right to read it."
            ) from error
        yield folder, below, names


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a file that cannot be read
        return False


def read_split_csv(path: Path) -> dict[str, tuple[str, ...]]:
    """Return split -> buildings of an official list: columns id, train, val, test of 0 and 1.

    The official files end their lines with a carriage return alone.

    Raises:
        BadSourceError: if the file cannot be read or is no such list.
    """
    remedy = "Take a file of splits_taskonomy.zip, or write id,train,val,test and a 1 in each row"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise BadSourceError(
            f"Expected a CSV of buildings at {path}, got: {words}. {remedy}."
        ) from error
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    if columns[:1] != ["id"] or sorted(columns[1:]) != ["test", "train", "val"]:
        got = ",".join(columns)[:80] or "an empty file"
        raise BadSourceError(
            f"Expected the columns id,train,val,test in {path}, got {got}. {remedy}."
        )
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    seen: set[str] = set()
    for line, row in enumerate(rows[1:], 2):
        flags = [cell.strip() for cell in row[1:]]
        chosen = [name for name, flag in zip(columns[1:], flags, strict=False) if flag == "1"]
        if len(flags) != 3 or set(flags) - {"0", "1"} or len(chosen) > 1 or row[0] in seen:
            raise BadSourceError(
                f"Expected a new building and three flags, at most one of them 1, in line {line} "
                f"of {path}, got {','.join(row)[:80]}. {remedy}."
            )
        seen.add(row[0])
        if chosen:
            splits[chosen[0]].append(row[0].strip())
    return {
        "train": tuple(splits["train"]),
        "validation": tuple(splits["val"]),
        "test": tuple(splits["test"]),
    }


def strided(
    views: Sequence[View], buildings: Mapping[str, Sequence[str]], stride: int, offset: int
) -> dict[str, tuple[View, ...]]:
    """Return split -> every `stride`-th of its views, counted over all its buildings together.

    Args:
        views: sorted by building, point and view.
        buildings: split -> names.
        stride: 1 keeps all.
        offset: of the first one kept, 0 to stride - 1.
    """
    split_of = {name: split for split, names in buildings.items() for name in names}
    members: dict[str, list[View]] = {split: [] for split in buildings}
    for view in views:
        if view[0] in split_of:
            members[split_of[view[0]]].append(view)
    return {split: tuple(chosen[offset::stride]) for split, chosen in members.items()}


def ids_hash(ids: Sequence[str]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the ids, one a line, in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
