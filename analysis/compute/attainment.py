"""Attainment of two metrics: by what share of the seeds is a result, or a better one, reached?

A seed's runs at all priorities attain a point if one of them is at least as good on both axes. The
share of seeds that attain a point is a step function of the point; it is computed exactly, in any
order of the rows and with any numbers of seeds (Grunert da Fonseca et al. 2001; the difference of
two methods as in Lopez-Ibanez et al. 2010, here as fractions of each method's own seeds). All
values are minimised here; see `analysis.compute.fronts.minimised`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import minimised, nondominated, staircase
from analysis.load.axes import Axis, signs
from mtl.errors import UsageError

BAND = (0.25, 0.75)
"""Shares of the seeds between which the band about the median lies."""


@dataclass(frozen=True)
class AttainmentBand:
    """Staircases of one method in the box of a reference, in metric units; for drawing."""

    median: tuple[tuple[float, float], ...]
    """Corners of what half of the seeds attain, wall to wall; empty if that is not in the box."""
    outline: tuple[tuple[float, float], ...]
    """Closed outline (last corner = first) of what a quarter of the seeds attain and three
    quarters do not; empty if a quarter attains nothing in the box, or both are the same."""
    num_seeds: int


def attained_share(seeds: Sequence[np.ndarray], xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return the share of seeds that attain each of the points xs x ys.

    Args:
        seeds: for each seed its results (num_points, 2), minimised, finite; at least one seed.
        xs: (n,) first coordinates.
        ys: (m,) second coordinates.

    Returns:
        (n, m) shares from 0 to 1.

    Raises:
        ValueError: without seeds, for a seed without points, or for values that are not finite.
    """
    _check(seeds)
    share = np.zeros((len(xs), len(ys)))
    for points in seeds:
        reached = points[None, :, 0] <= xs[:, None]
        best_y = np.where(reached, points[None, :, 1], np.inf).min(axis=1)
        share += best_y[:, None] <= ys[None, :]
    return share / len(seeds)


@dataclass(frozen=True)
class AttainmentCells:
    """Shares of seeds of two methods on a grid that covers a box; all values minimised."""

    x_edges: np.ndarray
    """(n + 1,) rising, from the low to the high end of the box."""
    y_edges: np.ndarray
    """(m + 1,)"""
    share_a: np.ndarray
    """(n, m) from 0 to 1."""
    share_b: np.ndarray
    num_seeds: tuple[int, int]
    is_exact: bool
    """Shares change at edges alone; else they are those at the centres of evenly spaced cells."""

    @property
    def difference(self) -> np.ndarray:
        """Return share_a - share_b, (n, m) from -1 to 1."""
        # 0.6 - 0.4 is to be 0.2 and take no 17 digits in the page.
        return np.asarray((self.share_a - self.share_b).round(12) + 0.0)

    @property
    def areas(self) -> np.ndarray:
        """Return each cell's share of the box, (n, m)."""
        widths, heights = np.diff(self.x_edges), np.diff(self.y_edges)
        return np.asarray(np.outer(widths / widths.sum(), heights / heights.sum()))

    @property
    def led(self) -> tuple[float, float]:
        """Return the shares of the box that more seeds of a attain, and more of b."""
        signs_of = np.sign(self.difference)
        return float(self.areas[signs_of > 0].sum()), float(self.areas[signs_of < 0].sum())

    def largest(self, sign: int) -> tuple[int, int] | None:
        """Return the cell where a (sign 1) or b (sign -1) leads by most; None where it never does.

        Of equal ones the largest.
        """
        lead = sign * self.difference
        if lead.max() <= 0:
            return None
        areas = np.where(lead == lead.max(), self.areas, -1.0)
        i, j = np.unravel_index(int(np.argmax(areas)), areas.shape)
        return int(i), int(j)

    def point(self, i: int, j: int) -> tuple[float, float]:
        """Return the point that the shares of a cell are of: its best corner, or its centre."""
        if self.is_exact:
            return float(self.x_edges[i]), float(self.y_edges[j])
        return float(self.x_edges[i : i + 2].mean()), float(self.y_edges[j : j + 2].mean())


def attainment_cells(
    seeds_a: Sequence[np.ndarray],
    seeds_b: Sequence[np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    most_cells: int,
) -> AttainmentCells:
    """Return the shares of seeds of two methods in a box.

    Args:
        seeds_a: results of the first method by seed, see `attained_share`.
        seeds_b: of the second.
        low: (2,) best corner of the box, minimised.
        high: (2,) worst corner, above `low` on both axes.
        most_cells: along each axis; where the exact grid has more, shares are taken at the centres
            of as many evenly spaced cells.

    Raises:
        ValueError: for a box without area, and as `attained_share`.
    """
    _check(seeds_a)
    _check(seeds_b)
    if not (np.asarray(low) < np.asarray(high)).all():
        raise UsageError(f"Expected a box with area, got corners {low} and {high}.")
    seeds_a, seeds_b = ([_best(points) for points in side] for side in (seeds_a, seeds_b))
    everything = np.concatenate([*seeds_a, *seeds_b])
    exact = [_edges(everything[:, k], float(low[k]), float(high[k])) for k in (0, 1)]
    is_exact = all(len(edges) - 1 <= most_cells for edges in exact)
    if is_exact:
        xs, ys = exact
        at_x, at_y = xs[:-1], ys[:-1]
    else:
        xs, ys = (np.linspace(low[k], high[k], most_cells + 1) for k in (0, 1))
        at_x, at_y = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
    return AttainmentCells(
        xs,
        ys,
        attained_share(seeds_a, at_x, at_y),
        attained_share(seeds_b, at_x, at_y),
        (len(seeds_a), len(seeds_b)),
        is_exact,
    )


def _best(points: np.ndarray) -> np.ndarray:
    """Return a seed's nondominated results: what others attain, these attain as well."""
    return points[nondominated(points)]


def _edges(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return low, every value between, and high."""
    inside = np.unique(values)
    return np.array([low, *inside[(inside > low) & (inside < high)], high])


def attainment_surface(seeds: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return the best points that at least `share` of the seeds attain.

    Args:
        seeds: see `attained_share`.
        share: above 0, at most 1; 0.5 gives the median attainment surface.

    Returns:
        (num_points, 2) nondominated corners by rising x, falling y.

    Raises:
        ValueError: for a share outside (0, 1], and as `attained_share`.
    """
    if not 0 < share <= 1:
        raise UsageError(f"Expected a share of seeds above 0 and at most 1, got {share}.")
    _check(seeds)
    seeds = [_best(points) for points in seeds]
    everything = np.concatenate(seeds)
    xs, ys = np.unique(everything[:, 0]), np.unique(everything[:, 1])
    # A billionth less: 2 of 3 seeds are 0.666..., whichever way that was computed.
    enough = attained_share(seeds, xs, ys) >= share - 1e-9
    corners: list[tuple[float, float]] = []
    for x, reached in zip(xs, enough, strict=True):
        if reached.any():
            y = float(ys[int(np.argmax(reached))])
            if not corners or y < corners[-1][1]:
                corners.append((float(x), y))
    return np.array(corners).reshape(-1, 2)


def attainment_band(
    seeds: Sequence[np.ndarray], reference: np.ndarray, axes: Sequence[Axis]
) -> AttainmentBand:
    """Return the median attainment staircase and the outline of the 25-75 % band of the seeds.

    With fewer than four seeds the band reaches from the best to the worst seed, and the median of
    two is the better one of them at each place: say how many seeds there are.

    Args:
        seeds: for each seed its results (num_points, 2), in metric units, finite.
        reference: (2,), metric units; opens the box, see `analysis.compute.fronts.staircase`.
        axes: the two axes.
    """
    low = [minimised(points, axes) for points in seeds]

    def corners(share: float) -> list[tuple[float, float]]:
        return staircase(attainment_surface(low, share) * signs(axes), reference, axes)

    outer, inner = (corners(share) for share in BAND)
    outline: list[tuple[float, float]] = []
    if outer and outer != inner:
        # Where three quarters attain nothing in the box, the band reaches to the reference.
        back = inner[::-1] or [(float(reference[0]), float(reference[1]))]
        outline = [*outer, *back, outer[0]]
    return AttainmentBand(tuple(corners(0.5)), tuple(outline), len(low))


def _check(seeds: Sequence[np.ndarray]) -> None:
    if not seeds or any(points.ndim != 2 or points.shape[1] != 2 for points in seeds):
        raise UsageError("Expected at least one seed with results on two axes, got none.")
    if any(len(points) == 0 for points in seeds):
        raise UsageError("Expected results of every seed, got a seed without any. Leave it out.")
    if not all(np.isfinite(points).all() for points in seeds):
        raise UsageError("Expected finite results, got NaN or infinity. Exclude such runs.")
