"""The section on indicators shows what `analysis.indicators` computes."""

import numpy as np
import pytest

from analysis.compute.fronts import hypervolume, means_of
from analysis.load.run_files import NO_FILES
from analysis.render.panels import Line, Points
from analysis.sections.indicators import front_indicators
from tests.analysis.made_findings import FRONT, PRIORITIES, front_rows, made_findings, words


@pytest.mark.parametrize("metrics", [{}, {"depth": "rmse"}])
def test_hypervolumes_are_those_of_the_means(metrics):
    findings = made_findings(front_rows(), **metrics)
    section = front_indicators(findings, NO_FILES)
    found = section.values["pairs"][0].indicators
    volumes = [
        hypervolume(means_of(findings.points, arm), findings.reference, findings.axes)
        for arm in ("lsb", "fixed")
    ]
    assert found.hypervolume_a.value == pytest.approx(volumes[0])
    assert found.ratio.value == pytest.approx(volumes[0] / volumes[1])
    test = section.values["pairs"][0].seed_level_test
    assert test == findings.comparisons[0].test
    assert f"{found.ratio.value:.3f} times the hypervolume" in section.lead


def test_points_and_intervals_drawn_are_those_computed():
    section = front_indicators(made_findings(front_rows()), NO_FILES)
    found = section.values["pairs"][0].indicators
    panels = {p.name: p for f in section.figures for p in f.panels}
    wanted = {
        "indicators_ratio": [(found.ratio, 1)],
        "indicators_epsilon": [(found.epsilon_a, 100), (found.epsilon_b, 100)],
        "indicators_igd_plus": [(found.igd_plus_a, 100), (found.igd_plus_b, 100)],
    }
    for name, rows in wanted.items():
        panel = panels[name]
        points = [m for m in panel.marks if isinstance(m, Points)]
        lines = [m for m in panel.marks if isinstance(m, Line)]
        for (indicator, factor), point, line in zip(rows, points, lines, strict=True):
            assert point.x == pytest.approx((indicator.value * factor,))
            assert line.x == pytest.approx([end * factor for end in indicator.seed_level])
        low, high = sorted(panel.x.limits)
        assert all(low <= x <= high for m in (*points, *lines) for x in m.x)
    # Better is to the right everywhere.
    assert panels["indicators_ratio"].x.limits[0] < panels["indicators_ratio"].x.limits[1]
    assert panels["indicators_epsilon"].x.limits[0] > panels["indicators_epsilon"].x.limits[1]


def test_reference_and_ranges_are_in_the_table():
    rows = [(arm, p, s, (v[0], 0.5)) for arm, p, s, v in front_rows(arms=("<script>$_{}", "fixed"))]
    prior = {"depth_delta1": 0.3, "segmentation_miou": 0.2}
    findings = made_findings(rows, prior=prior)
    section = front_indicators(findings, NO_FILES)
    found = section.values["pairs"][0].indicators
    table = section.tables[0]
    assert findings.reference.rule in table.caption
    row = table.raw.iloc[0]
    held = (row["reference_depth_delta1"], row["reference_segmentation_miou"])
    assert held == findings.reference.point
    assert held[1] == pytest.approx(0.45), "a tenth of a constant metric"
    # A constant metric has no range.
    assert (found.ranges[1], row["range_segmentation_miou"]) == (0.0, 0.0)
    assert "segmentation miou none, as it is the same in all runs" in table.caption
    assert np.isfinite(found.ratio.value)


def test_both_p_and_both_intervals_are_in_the_table():
    section = front_indicators(made_findings(front_rows()), NO_FILES)
    pair = section.values["pairs"][0]
    found = pair.indicators
    table = section.tables[0].raw
    assert len(table) == 8
    row = table[table["indicator"] == "difference"].iloc[0]
    for level in ("seed_level", "run_level"):
        assert row[f"p_{level}"] == getattr(pair, f"{level}_test").p
        interval = getattr(found.difference, level)
        assert (row[f"low_{level}"], row[f"high_{level}"]) == interval
    # Three seeds: 2 / 8; nine runs of each method: 2 / 512.
    assert (row["minimum_p_seed_level"], row["minimum_p_run_level"]) == (0.25, 2 / 512)
    assert "p = " in section.lead
    assert "minimum attainable 0.25" in section.lead


def test_one_seed_has_numbers_without_intervals():
    section = front_indicators(made_findings(front_rows((1, 1))), NO_FILES)
    found = section.values["pairs"][0].indicators
    assert (found.num_resamples, found.ratio.seed_level) == (0, None)
    assert "One seed: there are no intervals" in section.lead
    assert "Without intervals" in section.figures[0].caption
    assert not any(isinstance(m, Line) for p in section.figures[0].panels for m in p.marks)


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (lambda r: (r[0] == "lsb") == (r[1] == PRIORITIES[0]), "share no priority"),
        (lambda r: r[1] == PRIORITIES[0], "lsb and fixed share one priority"),
        (lambda r: (r[0] == "lsb") == (r[2] == 0), "no seed with a run at every priority"),
    ],
)
def test_uncompared_methods_are_explained(keep, text):
    section = front_indicators(made_findings([r for r in front_rows() if keep(r)]), NO_FILES)
    assert text in section.lead
    assert not section.figures


def test_verdict_is_repeated_under_other_reference_points():
    # The baseline cuts off two of three points of either method, and all of neither.
    prior = {"depth_delta1": 0.6, "segmentation_miou": 0.6}
    findings = made_findings(front_rows((6, 6), spread=0.005, shift=0.02), prior=prior)
    section = front_indicators(findings, NO_FILES)
    (pair,) = section.values["pairs"]
    assert [under.num_cut_off for under in pair.references] == [4, 0, 2]
    for under in pair.references:
        volumes = [
            hypervolume(means_of(findings.points, arm), under.reference, findings.axes)
            for arm in ("lsb", "fixed")
        ]
        assert (under.hypervolume_a, under.hypervolume_b) == pytest.approx(tuple(volumes))
        assert under.difference == pytest.approx(volumes[0] - volumes[1])
    text = "twice the margin and the nadir of the means too (p = 0.031; 0.031 under the one used)."
    assert text in words(section)
    table = section.tables[1]
    assert table.name == "reference_points"
    assert table.raw["p"].tolist() == [under.p for under in pair.references]


def test_verdict_that_hangs_on_the_reference_point_is_said():
    # lsb has the better ends, fixed the better middle: the nadir and the baseline take the ends.
    front = {
        "lsb": ((0.2, 0.9), (0.5, 0.5), (0.9, 0.2)),
        "fixed": ((0.45, 0.55), (0.53, 0.53), (0.55, 0.45)),
    }
    rows = [
        (arm, p, seed, values)
        for arm, points in front.items()
        for p, values in zip(PRIORITIES, points, strict=True)
        for seed in (0, 1)
    ]
    prior = {"depth_delta1": 0.4, "segmentation_miou": 0.4}
    section = front_indicators(made_findings(rows, prior=prior), NO_FILES)
    assert "not under the image-independent baseline and the nadir of the means" in words(section)
    prior = {"depth_delta1": 0.95, "segmentation_miou": 0.4}
    section = front_indicators(made_findings(rows, prior=prior), NO_FILES)
    assert "but not under the nadir of the means: " in words(section)
    assert (
        "None of their points is better than the image-independent baseline on every metric."
        in words(section)
    )
    assert section.tables[1].rows[0][-1] == "6 of 6"


def test_at_most_six_pairs_are_compared():
    arms = tuple(f"m{k}" for k in range(5))
    section = front_indicators(made_findings(front_rows((1,) * 5, arms)), NO_FILES)
    assert len(section.values["pairs"]) == 6
    assert "The first 6 of 10 pairs of methods are shown." in words(section)
    one = [r for r in front_rows() if r[0] == "lsb"]
    assert front_indicators(made_findings(one), NO_FILES) is None


def test_lead_says_what_epsilon_asks_of_each_method():
    # lsb is better by 0.1 on both metrics everywhere; metrics range over 0.4 on both.
    rows = [
        (arm, p, 0, tuple(np.array(FRONT[p[0]]) + (0.1 if arm == "lsb" else 0.0)))
        for arm in ("lsb", "fixed")
        for p in PRIORITIES
    ]
    section = front_indicators(made_findings(rows), NO_FILES)
    assert "lsb has 25.0 % of a metric's range to spare" in section.lead
    assert "fixed must improve by 25.0 % of a metric's range" in section.lead
    same = [(arm, p, s, v) for arm in ("lsb", "fixed") for a, p, s, v in rows if a == "lsb"]
    equal = front_indicators(made_findings(same), NO_FILES)
    assert "lsb need not improve and fixed need not improve" in equal.lead
