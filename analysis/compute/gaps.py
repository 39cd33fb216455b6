"""Where a measured front is thin: the priorities that would fill its widest gaps. Values in, out.

Priorities are whole counts of a lattice's divisions, (1, 5) for (1/6, 5/6). New ones lie half-way
between old ones and so are counts of twice the divisions.

A gap of a front is a pair of its points that are neighbours. With two tasks these follow each
other in priority. With more tasks they are neighbours on the lattice: one division has moved from
one task to another; points with a dominated one between them are none, as no single new priority
lies between them. A gap is as wide as its points are apart in the metrics, each metric divided by
its range over all points of all methods.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import nondominated

Counts = tuple[int, ...]
_DIGITS = 9
"""Widths that agree to so many count as equal, so that a choice is the same on every machine."""


@dataclass(frozen=True)
class Gap:
    """Two neighbouring points of a front."""

    ends: tuple[Counts, Counts]
    """In divisions."""
    width: float
    """In ranges of the metrics."""

    @property
    def length(self) -> int:
        """Return the divisions between the ends."""
        return sum(abs(a - b) for a, b in zip(*self.ends, strict=True)) // 2

    def place(self, counts: Counts) -> int | None:
        """Return how many half divisions `counts` (of twice the divisions) is from the first end.

        None for what does not lie between the ends.
        """
        first, second = self.ends
        for place in range(1, 2 * self.length):
            if counts == self._at(place, first, second):
                return place
        return None

    def middles(self) -> list[Counts]:
        """Return the new points between the ends, in counts of twice the divisions."""
        return [self._at(place, *self.ends) for place in range(1, 2 * self.length, 2)]

    def _at(self, place: int, first: Counts, second: Counts) -> Counts:
        length = self.length
        return tuple(2 * a + place * (b - a) // length for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class Middle:
    """A priority that fills a gap."""

    counts: Counts
    """Of twice the divisions."""
    width: float
    """Of the gap, mean over the methods; a method whose front has none there counts 0."""


def ranges(fronts: Sequence[Mapping[Counts, Sequence[float]]]) -> np.ndarray:
    """Return the range of each metric over all points of all methods."""
    values = np.array([point for front in fronts for point in front.values()], dtype=np.float64)
    return np.ptp(values, axis=0)


def gaps(points: Mapping[Counts, Sequence[float]], widths: np.ndarray) -> list[Gap]:
    """Return the gaps of one method's front.

    Args:
        points: priorities -> metrics, means over seeds, all to be minimised and finite.
        widths: what each metric is divided by; one that is 0 everywhere says nothing.
    """
    kept = nondominated(np.array(list(points.values()), dtype=np.float64))
    front = sorted(counts for counts, keep in zip(points, kept, strict=True) if keep)
    scale = np.where(widths > 0, widths, np.inf)
    return [
        Gap((a, b), float(np.linalg.norm((np.array(points[a]) - np.array(points[b])) / scale)))
        for a, b in _neighbours(front)
    ]


def why_no_gaps(fronts: Sequence[Mapping[Counts, Sequence[float]]]) -> str:
    """Return, in a sentence, why the fronts of all methods hold no gap; "" if one does.

    Args:
        fronts: as for `widest`.
    """
    widths = ranges(fronts)
    if any(gaps(points, widths) for points in fronts):
        return ""
    sizes = [
        int(nondominated(np.array(list(points.values()), dtype=np.float64)).sum())
        for points in fronts
    ]
    if max(sizes) == 1:
        return (
            "Of each method one priority's point dominates all others, so no front has a gap to "
            "fill."
        )
    return (
        "No two neighbouring priorities are both on a front: points between them are dominated, "
        "so there is no gap to fill."
    )


def _neighbours(front: Sequence[Counts]) -> list[tuple[Counts, Counts]]:
    if not front or len(front[0]) == 2:
        return list(itertools.pairwise(front))
    held = set(front)
    pairs = []
    for counts in front:
        for giver, taker in itertools.combinations(range(len(counts)), 2):
            other = list(counts)
            other[giver] += 1
            other[taker] -= 1
            if tuple(other) in held:
                pairs.append((counts, tuple(other)))
    return pairs


def widest(
    fronts: Sequence[Mapping[Counts, Sequence[float]]], num_points: int
) -> tuple[Middle, ...]:
    """Return the priorities in the widest gaps, the widest first; fewer if there are fewer.

    One after the other is chosen. A gap that holds several is taken to be cut by each in
    proportion, so the first few of a longer list are a shorter list. Of equally wide gaps the
    most central comes first.

    Args:
        fronts: for each method its points, see `gaps`; all choose together.
        num_points: how many to choose.
    """
    widths = ranges(fronts)
    by_method = [gaps(points, widths) for points in fronts]
    holding: dict[Counts, list[Gap]] = {}
    for found in by_method:
        for gap in found:
            for counts in gap.middles():
                holding.setdefault(counts, []).append(gap)
    chosen: list[Middle] = []
    while len(chosen) < num_points and len(chosen) < len(holding):
        taken = [middle.counts for middle in chosen]
        candidates = [
            Middle(counts, sum(_width_at(gap, counts, taken) for gap in held) / len(fronts))
            for counts, held in holding.items()
            if counts not in taken
        ]
        chosen.append(min(candidates, key=_order))
    return tuple(chosen)


def _order(middle: Middle) -> tuple[float, float, Counts]:
    centre = sum(middle.counts) / len(middle.counts)
    return (
        -round(middle.width, _DIGITS),
        round(math.dist(middle.counts, [centre] * len(middle.counts)), _DIGITS),
        middle.counts,
    )


def _width_at(gap: Gap, counts: Counts, taken: Sequence[Counts]) -> float:
    """Return the width of that piece of `gap` in which `counts` lies, the taken points cut out."""
    place = gap.place(counts)
    if place is None:
        return 0.0
    cuts = [0, 2 * gap.length, *(p for c in taken if (p := gap.place(c)) is not None)]
    piece = min(c for c in cuts if c > place) - max(c for c in cuts if c < place)
    return gap.width * piece / (2 * gap.length)
