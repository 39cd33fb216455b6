"""Fronts against closed forms, hand arithmetic and brute force."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.compute.fronts import (
    Reference,
    covered_by,
    hypervolume,
    minimised,
    nondominated,
    operating_points,
    other_references,
    reference_point,
    spreads,
    staircase,
    unusable,
)
from analysis.load.axes import Axis, choose_axes
from tests.metrics import METRICS

DELTA1 = Axis("depth", METRICS["delta1"])
RMSE = Axis("depth", METRICS["rmse"])
MIOU = Axis("segmentation", METRICS["miou"])


def frame(rows: list[tuple[str, float | None, int, float, float]]) -> pd.DataFrame:
    """Return a run table from (method, depth priority, seed, delta1, miou)."""
    return pd.DataFrame(
        {
            "run_id": [f"{i:016x}" for i in range(len(rows))],
            "method": [row[0] for row in rows],
            "arm": [row[0] for row in rows],
            "priority_depth": [row[1] for row in rows],
            "priority_segmentation": [None if r[1] is None else 1 - r[1] for r in rows],
            "seed": [row[2] for row in rows],
            "depth_delta1": [row[3] for row in rows],
            "segmentation_miou": [row[4] for row in rows],
        }
    )


def test_means_and_standard_deviations_by_hand():
    # delta1 .6, .8: mean .7, sd sqrt(.01 + .01) = .1414; miou .5, .5: mean .5, sd 0.
    runs = frame(
        [("lsb", 0.25, 0, 0.6, 0.5), ("lsb", 0.25, 1, 0.8, 0.5), ("equal", None, 0, 0.7, 0.5)]
    )
    lsb, equal = operating_points(runs, (DELTA1, MIOU))
    assert operating_points(runs.iloc[[1, 0, 2]], (DELTA1, MIOU)) == (lsb, equal)
    assert (lsb.arm, lsb.priorities, lsb.seeds, lsb.n) == ("lsb", (0.25, 0.75), (0, 1), 2)
    assert lsb.means == pytest.approx((0.7, 0.5))
    assert lsb.sds == pytest.approx((math.sqrt(0.02), 0.0))
    assert (equal.priorities, equal.sds) == (None, (None, None))
    # Equal means: neither dominates the other, both are kept.
    assert lsb.nondominated
    assert equal.nondominated


def brute_nondominated(points: np.ndarray) -> list[bool]:
    return [
        not any((other <= point).all() and (other < point).any() for other in points)
        for point in points
    ]


def brute_hypervolume(points: np.ndarray, corner: np.ndarray) -> float:
    """Return the volume by inclusion and exclusion over boxes (points are minimised)."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            sides = np.clip(corner - np.max(subset, axis=0), 0, None)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


@pytest.mark.parametrize("dim", [2, 3])
def test_nondominated_and_hypervolume_equal_brute_force(dim):
    axes = (DELTA1, RMSE, MIOU)[:dim]
    for seed in range(40):
        print(f"{dim=} {seed=}")
        # A coarse lattice has many ties and duplicates.
        points = np.random.default_rng(seed).integers(0, 4, (7, dim)) / 4.0
        points.setflags(write=False)
        low = minimised(points, axes)
        assert nondominated(low).tolist() == brute_nondominated(low)
        corner = (0.1, 0.8, 0.1)[:dim]
        volume = hypervolume(points, Reference(corner, ""), axes)
        expected = brute_hypervolume(low, minimised(np.array(corner), axes))
        assert volume == pytest.approx(expected, abs=1e-12)
        again = hypervolume(points[:, ::-1], Reference(corner[::-1], ""), axes[::-1])
        assert again == pytest.approx(volume, abs=1e-12)


few_points = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 3).map(float)
)


@settings(max_examples=50)
@given(few_points, few_points)
def test_coverage_is_that_of_the_definition(a, b):
    wanted = [any((x <= y).all() and (x < y).any() for x in a) for y in b]
    assert covered_by(a, b).tolist() == wanted


def test_hypervolume_closed_form():
    # Points (i / n, 1 - i / n), i = 1 .. n - 1, both maximised, from (0, 0): columns of width 1/n
    # and heights (n - 1) / n ... 1 / n, in all (n - 1) n / 2 squares of 1 / n^2 = (n - 1) / (2 n).
    for n in (2, 3, 10):
        points = np.array([(i / n, 1 - i / n) for i in range(1, n)])
        volume = hypervolume(points, Reference((0.0, 0.0), ""), (DELTA1, MIOU))
        assert volume == pytest.approx((n - 1) / (2 * n))
    assert hypervolume(np.empty((0, 2)), Reference((0.0, 0.0), ""), (DELTA1, MIOU)) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    points = np.array([(0.8, 0.5), (0.7, value)])
    with pytest.raises(ValueError, match="finite"):
        hypervolume(points, Reference((0.0, 0.0), ""), (DELTA1, MIOU))
    with pytest.raises(ValueError, match="finite"):
        nondominated(points)
    with pytest.raises(ValueError, match="finite"):
        hypervolume(points[:1], Reference((0.0, value), ""), (DELTA1, MIOU))


def test_unusable_runs_are_named_with_reasons():
    runs = frame(
        [("lsb", 0.5, 0, math.nan, 0.5), ("lsb", 0.5, 1, 0.5, math.inf), ("lsb", 0.5, 2, 0.5, 0.5)]
    )
    runs["depth_delta1"] = runs["depth_delta1"].astype(object).where(runs["seed"] > 0, None)
    assert unusable(runs, (DELTA1, MIOU)) == {
        f"{0:016x}": "test split holds no value for depth_delta1",
        f"{1:016x}": "test split holds an infinite value for segmentation_miou",
    }
    assert set(unusable(runs, (RMSE,))) == {f"{i:016x}" for i in range(3)}


def test_reference_is_the_worst_run_with_a_margin():
    runs = frame([("lsb", 0.5, 0, 0.6, 0.4), ("fixed", 0.5, 0, 0.8, 0.4)])
    # delta1: worst .6, range .2, a tenth of it worse: .58. miou is constant at .4: a tenth of
    # its size worse, .36.
    assert reference_point(runs, (DELTA1, MIOU)).point == pytest.approx((0.58, 0.36))
    # rmse: worst is the largest, 2.0; range 1.0; so 2.1.
    runs["depth_rmse"] = [1.0, 2.0]
    assert reference_point(runs, (RMSE,)).point == pytest.approx((2.1,))
    assert reference_point(runs.iloc[:0], (RMSE,)) is None


def test_other_references_are_baseline_wider_margin_and_nadir():
    runs = frame(
        [("lsb", 0.2, 0, 0.6, 0.4), ("lsb", 0.2, 1, 0.7, 0.4), ("lsb", 0.8, 0, 0.8, 0.3)]
    ).assign(depth_rmse=[2.0, 1.5, 1.0])
    prior = {"depth_rmse": 1.2, "segmentation_miou": 0.35}
    axes = (RMSE, MIOU)
    points = operating_points(runs, axes)
    found = {held.rule: held.point for held in other_references(runs, points, axes, prior)}
    # rmse: 2.0 and two tenths of 1.0; the means are 1.75 and 1.0. miou: .3 less .02; .4 and .3.
    assert found["the image-independent baseline"] == (1.2, 0.35)
    assert found["twice the margin"] == pytest.approx((2.2, 0.28))
    assert found["the nadir of the means"] == pytest.approx((1.75, 0.3))
    assert len(other_references(runs, points, axes, {"depth_rmse": 1.2})) == 2


def polygon_area(corners: list[tuple[float, float]]) -> float:
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def test_area_under_the_staircase_is_the_hypervolume():
    for axes, corner in (((DELTA1, MIOU), (0.2, 0.1)), ((RMSE, MIOU), (0.8, 0.1))):
        for seed in range(20):
            print(f"{seed=}")
            points = np.random.default_rng(seed).random((8, 2))
            corners = staircase(points, np.array(corner), axes)
            volume = hypervolume(points, Reference(corner, ""), axes)
            assert polygon_area([*corners, corner]) == pytest.approx(volume)
            steps = itertools.pairwise(corners)
            assert all(a[0] == b[0] or a[1] == b[1] for a, b in steps), "no slopes"


def test_staircase_by_hand():
    # Both maximised, reference (0, 0), points (1, 2) and (2, 1): from the x axis up at 2, left to
    # 1 at height 1, up to 2, left to 0.
    corners = staircase(np.array([(1.0, 2.0), (2.0, 1.0)]), np.zeros(2), (DELTA1, MIOU))
    assert corners == [(2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
    assert staircase(np.array([(-1.0, 2.0)]), np.zeros(2), (DELTA1, MIOU)) == []


def test_range_over_spread_by_hand_with_unequal_seeds():
    # Priority .2: .4, .6 -> mean .5, variance .02, 1 degree. Priority .8: .7, .8, .9 -> mean .8,
    # variance .01, 2 degrees. Pooled sqrt((.02 + 2 x .01) / 3); range .3.
    runs = frame(
        [("lsb", 0.2, s, v, 0.5) for s, v in enumerate((0.4, 0.6))]
        + [("lsb", 0.8, s, v, 0.5) for s, v in enumerate((0.7, 0.8, 0.9))]
    )
    points = operating_points(runs, (DELTA1, MIOU))
    delta1, miou = spreads(points, (DELTA1, MIOU), {"depth_delta1": 0.45})
    pooled = math.sqrt(0.04 / 3)
    assert delta1.range_of_means == pytest.approx(0.3)
    assert delta1.pooled_sd == pytest.approx(pooled)
    assert delta1.ratio == pytest.approx(0.3 / pooled)
    assert delta1.min_margin_over_prior == pytest.approx(0.05)
    # A constant metric has no ratio, and no prior no margin.
    assert (miou.range_of_means, miou.pooled_sd, miou.ratio) == (0.0, 0.0, None)
    assert miou.min_margin_over_prior is None
    # Where lower is better the margin turns; one seed has no spread.
    runs = frame([("lsb", 0.2, 0, 0, 0), ("lsb", 0.8, 0, 0, 0)]).assign(depth_rmse=[1.0, 1.5])
    (rmse,) = spreads(operating_points(runs, (RMSE,)), (RMSE,), {"depth_rmse": 1.2})
    assert rmse.min_margin_over_prior == pytest.approx(-0.3)
    assert (rmse.pooled_sd, rmse.ratio) == (None, None)


def test_axes_know_aliases_and_list_known_metrics():
    (axis,) = choose_axes(["segmentation"], {"segmentation": "acc"})
    assert axis.column == "segmentation_pixel_accuracy"
    with pytest.raises(ValueError, match="Known: abs, abs_log, delta1, rel, rmse"):
        choose_axes(["depth"], {"depth": "miou"})
    with pytest.raises(ValueError, match="Known: depth"):
        choose_axes(["depth"], {"normal": "within_30"})
