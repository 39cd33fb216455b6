"""The section on indicators draws, tabulates and says what `analysis.indicators` computes."""

import numpy as np
import pytest

from analysis.compute.fronts import hypervolume, means_of
from analysis.load.run_files import NO_FILES
from analysis.render.panels import Line, Points
from analysis.sections.indicators import front_indicators
from tests.analysis.made_findings import made_findings

PRIORITIES = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
FRONT = {0.25: (0.5, 0.8), 0.5: (0.7, 0.7), 0.75: (0.8, 0.5)}


def drawn_rows(seeds=(3, 3), arms=("lsb", "fixed"), seed=0):
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    return [
        (arm, p, s, tuple(np.array(FRONT[p[0]]) + generator.normal(0, 0.02, 2)))
        for arm, number in zip(arms, seeds, strict=True)
        for p in PRIORITIES
        for s in range(number)
    ]


def words(section) -> str:
    return " ".join([section.lead, *(p for p in section.parts if isinstance(p, str))])


@pytest.mark.parametrize("metrics", [{}, {"depth": "rmse"}])
def test_hypervolumes_are_those_of_the_means(metrics):
    findings = made_findings(drawn_rows(), **metrics)
    section = front_indicators(findings, NO_FILES)
    found = section.values["pairs"][0]["indicators"]
    volumes = [
        hypervolume(means_of(findings.points, arm), findings.reference, findings.axes)
        for arm in ("lsb", "fixed")
    ]
    assert found.hypervolume_a.value == pytest.approx(volumes[0])
    assert found.ratio.value == pytest.approx(volumes[0] / volumes[1])
    test = section.values["pairs"][0]["test_by_whole_seeds"]
    assert test == findings.comparisons[0].test
    assert f"{found.ratio.value:.3f} times the hypervolume" in section.lead


def test_points_and_intervals_drawn_are_those_computed():
    section = front_indicators(made_findings(drawn_rows()), NO_FILES)
    found = section.values["pairs"][0]["indicators"]
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
            ends = (indicator.by_seed.low * factor, indicator.by_seed.high * factor)
            assert line.x == pytest.approx(ends)
        low, high = sorted(panel.x.limits)
        assert all(low <= x <= high for m in (*points, *lines) for x in m.x)
    # Better is to the right everywhere.
    assert panels["indicators_ratio"].x.limits[0] < panels["indicators_ratio"].x.limits[1]
    assert panels["indicators_epsilon"].x.limits[0] > panels["indicators_epsilon"].x.limits[1]


def test_strip_is_drawn_and_printed_at_the_reference():
    findings = made_findings(drawn_rows(), prior={"depth_delta1": 0.3, "segmentation_miou": 0.2})
    section = front_indicators(findings, NO_FILES)
    found = section.values["pairs"][0]["sensitivity"]
    panel = next(p for f in section.figures for p in f.panels if p.name.endswith("reference_1"))
    lines = [m for m in panel.marks if isinstance(m, Line)]
    assert [line.name for line in lines] == ["all metrics", "depth alone", "segmentation alone"]
    for line, ratios in zip(lines, (found.together, *found.each), strict=True):
        held = [(m, r) for m, r in zip(found.multiples, ratios, strict=True) if r is not None]
        assert list(zip(line.x, line.y, strict=True)) == held
    assert len({(line.colour, line.dash) for line in lines}) == 3
    table = next(t for t in section.tables if t.name == "indicators")
    assert "depth delta1 30.00 %, segmentation miou 20.00 %" in table.caption
    assert "per-pixel prior" in table.caption
    row = table.raw.iloc[0]
    assert (row["reference_depth_delta1"], row["reference_segmentation_miou"]) == (0.3, 0.2)
    at_one = dict(zip(found.multiples, found.together, strict=True))[1.0]
    assert at_one == pytest.approx(section.values["pairs"][0]["indicators"].ratio.value)


def test_both_p_and_both_intervals_are_in_the_table():
    section = front_indicators(made_findings(drawn_rows()), NO_FILES)
    pair = section.values["pairs"][0]
    found = pair["indicators"]
    table = next(t for t in section.tables if t.name == "indicators")
    row = table.raw[table.raw["indicator"] == "difference"].iloc[0]
    assert row["p_whole_seeds"] == pair["test_by_whole_seeds"].p
    assert row["p_within_priority"] == pair["test_within_priorities"].p
    # Three seeds: 2 / 8; nine runs of each method: 2 / 512.
    assert (row["smallest_p_whole_seeds"], row["smallest_p_within_priority"]) == (0.25, 2 / 512)
    assert row["low_whole_seeds"] == found.difference.by_seed.low
    assert row["high_within_priority"] == found.difference.by_priority.high
    assert "0.25 by whole seeds" in words(section)


def test_one_seed_has_numbers_without_intervals():
    section = front_indicators(made_findings(drawn_rows((1, 1))), NO_FILES)
    found = section.values["pairs"][0]["indicators"]
    assert (found.num_resamples, found.ratio.by_seed) == (0, None)
    assert "One seed: there are no intervals" in section.lead
    assert "Without intervals" in section.figures[0].caption
    assert not any(isinstance(m, Line) for p in section.figures[0].panels for m in p.marks)


def test_what_the_methods_do_not_share_is_left_out_aloud():
    rows = [r for r in drawn_rows() if r[:3] != ("fixed", PRIORITIES[1], 2)]
    section = front_indicators(made_findings(rows), NO_FILES)
    assert section.values["pairs"][0]["seeds"] == [0, 1]
    assert "Of lsb seed 2 is left out" in words(section)


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (lambda r: (r[0] == "lsb") == (r[1] == PRIORITIES[0]), "share no priority"),
        (lambda r: r[1] == PRIORITIES[0], "they share one priority"),
        (lambda r: (r[0] == "lsb") == (r[2] == 0), "no seed with a run at every priority"),
    ],
)
def test_what_is_not_computed_is_said(keep, text):
    section = front_indicators(made_findings([r for r in drawn_rows() if keep(r)]), NO_FILES)
    assert text in section.lead
    assert not section.figures


def test_a_prior_better_than_every_run_has_no_ratio_and_no_strip():
    prior = {"depth_delta1": 0.99, "segmentation_miou": 0.2}
    section = front_indicators(made_findings(drawn_rows(), prior=prior), NO_FILES)
    assert "Neither lsb nor fixed has a point better than the reference point" in section.lead
    (figure,) = section.figures
    assert [panel.name for panel in figure.panels] == ["indicators_epsilon", "indicators_igd_plus"]
    assert "No ratio of hypervolumes is drawn" in words(section)
    assert "No figure of the reference point" in words(section)


def test_a_constant_metric_and_names_of_any_kind():
    rows = [(a, p, s, (v[0], 0.5)) for a, p, s, v in drawn_rows(arms=("<script>$_{}", "fixed %"))]
    section = front_indicators(made_findings(rows), NO_FILES)
    found = section.values["pairs"][0]["indicators"]
    assert found.ranges[1] == 0.0
    table = next(t for t in section.tables if t.name == "indicators")
    assert "segmentation miou none, as it is the same in all runs" in table.caption
    assert "100.00 %" not in table.caption
    assert np.isfinite(found.ratio.value)
    names = [x.name for x in (*section.tables, *section.figures)]
    assert all(name.replace("_", "").isalnum() for name in names)


def test_many_pairs_are_bounded_and_one_method_has_none():
    arms = tuple(f"m{k}" for k in range(5))
    section = front_indicators(made_findings(drawn_rows((2,) * 5, arms)), NO_FILES)
    assert len(section.values["pairs"]) == 6
    assert "4 of 10 pairs of methods are left out" in words(section)
    one = [r for r in drawn_rows() if r[0] == "lsb"]
    assert front_indicators(made_findings(one), NO_FILES) is None


def test_epsilon_is_said_as_what_each_method_must_do_or_has_to_spare():
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


def test_a_ratio_over_a_wide_range_has_a_logarithmic_axis():
    rows = [
        (arm, p, 0, tuple(np.array(FRONT[p[0]]) + (0.15 if arm == "lsb" else 0.0)))
        for arm in ("lsb", "fixed")
        for p in PRIORITIES
    ]
    for findings, is_log in ((made_findings(rows), True), (made_findings(drawn_rows()), False)):
        section = front_indicators(findings, NO_FILES)
        panel = next(p for f in section.figures for p in f.panels if p.name.endswith("ence_1"))
        ratios = [y for m in panel.marks if isinstance(m, Line) for y in m.y]
        assert (max(*ratios, 1.0) / min(*ratios, 1.0) > 3) == is_log
        assert panel.y.is_log == is_log
        assert panel.y.limits[0] < min(ratios) <= max(ratios) < panel.y.limits[1]
