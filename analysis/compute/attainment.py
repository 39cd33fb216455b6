"""Attainment of two metrics: by what share of the seeds is a result, or a better one, reached?

A seed's runs at all priorities attain a point if one of them is at least as good on both axes. The
share of seeds that attain a point is a step function of the point; it is computed exactly, in any
order of the rows and with any numbers of seeds (Grunert da Fonseca et al. 2001; the difference of
two methods as in Lopez-Ibanez et al. 2010, here as fractions of each method's own seeds). All
values are minimised.

moocore's `eaf` needs rows sorted by seed and its `eafdiff` equal numbers of seeds; otherwise they
are wrong without a word, so they are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import nondominated
from mtl.errors import UsageError


def attained_share(seeds: Sequence[np.ndarray], xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return the share of seeds that attain each of the points xs x ys, (n, m) from 0 to 1.

    Args:
        seeds: for each seed its results (num_points, 2), minimised, finite; at least one seed.
        xs: (n,) first coordinates.
        ys: (m,) second coordinates.

    Raises:
        UsageError: without seeds, for a seed without points, or for values that are not finite.
    """
    share = np.zeros((len(xs), len(ys)))
    fronts = _fronts(seeds)
    for points in fronts:
        reached = points[None, :, 0] <= xs[:, None]
        best_y = np.where(reached, points[None, :, 1], np.inf).min(axis=1)
        share += best_y[:, None] <= ys[None, :]
    return share / len(fronts)


def attainment_surface(seeds: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return the best points that at least `share` (above 0, at most 1) of the seeds attain.

    (num_points, 2) nondominated corners by rising x, falling y; 0.5 gives the median surface.
    `seeds` as for `attained_share`.
    """
    everything = np.concatenate(_fronts(seeds))
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


@dataclass(frozen=True)
class AttainmentDifference:
    """Shares of seeds of two methods on a grid that covers a box; all values minimised."""

    x_edges: np.ndarray
    """(n + 1,) rising, from the low to the high end of the box."""
    y_edges: np.ndarray
    """(m + 1,)"""
    share_a: np.ndarray
    """(n, m) from 0 to 1, at each cell's best corner."""
    share_b: np.ndarray

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

    def largest(self) -> tuple[int, int] | None:
        """Return the cell where the methods differ most, of equal ones the largest; None if never.

        Where a and b lead by as much, the one where a leads.
        """
        size = np.abs(self.difference)
        if size.max() == 0:
            return None
        most = self.difference == size.max()
        areas = np.where(most if most.any() else size == size.max(), self.areas, -1.0)
        i, j = np.unravel_index(int(np.argmax(areas)), areas.shape)
        return int(i), int(j)


def attainment_difference(
    seeds_a: Sequence[np.ndarray],
    seeds_b: Sequence[np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    max_cells: int,
) -> AttainmentDifference:
    """Return the shares of seeds of two methods in a box.

    Args:
        seeds_a: results of the first method by seed, see `attained_share`.
        seeds_b: of the second.
        low: (2,) best corner of the box, minimised.
        high: (2,) worst corner, above `low` on both axes.
        max_cells: along each axis. Cells lie between the coordinates of the results, so that shares
            are the same all over a cell; where that takes more cells, they are evenly spaced.
    """
    everything = np.concatenate([*_fronts(seeds_a), *_fronts(seeds_b)])
    xs, ys = (_edges(everything[:, k], float(low[k]), float(high[k])) for k in (0, 1))
    if max(len(xs), len(ys)) - 1 > max_cells:
        xs, ys = (np.linspace(low[k], high[k], max_cells + 1) for k in (0, 1))
    share_a, share_b = (attained_share(side, xs[:-1], ys[:-1]) for side in (seeds_a, seeds_b))
    return AttainmentDifference(xs, ys, share_a, share_b)


def _edges(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return low, every value between, and high."""
    inside = np.unique(values)
    return np.array([low, *inside[(inside > low) & (inside < high)], high])


def _fronts(seeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return each seed's nondominated results: what others attain, these attain as well."""
    if not seeds or any(p.ndim != 2 or p.shape[1] != 2 or len(p) == 0 for p in seeds):
        raise UsageError("Expected at least one seed, each with results on two axes.")
    return [points[nondominated(points)] for points in seeds]
