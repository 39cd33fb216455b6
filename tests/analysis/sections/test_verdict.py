"""The verdict: its headline, its numbers and its caveats, from runs given outright."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.compute.fronts import hypervolume
from analysis.load.run_files import RunFiles
from analysis.sections.overview_tables import hypervolume_section, spread_section
from analysis.sections.verdict import verdict
from tests.analysis.conftest import MEANS, PRIORITIES
from tests.analysis.made_findings import Row, made_findings

PRIOR = {"depth_delta1": 0.547, "segmentation_miou": 0.279}


def grid(
    seeds: int,
    shift: float = 0.0,
    skip: Callable[[str, float, int], bool] = lambda method, priority, seed: False,
    spread: float = 0.008,
) -> list[Row]:
    """Return runs of lsb and fixed around `MEANS`; `shift` is added to those of lsb."""
    generator = np.random.default_rng(7)
    rows: list[Row] = []
    for method in ("lsb", "fixed"):
        for priority, means in zip(PRIORITIES, MEANS[method], strict=True):
            for seed in range(seeds):
                noise = generator.normal(0, spread, 2) + shift * (method == "lsb")
                x, y = np.array(means) + noise
                if not skip(method, priority, seed):
                    rows.append((method, (priority, 1 - priority), seed, (float(x), float(y))))
    return rows


@pytest.mark.parametrize(
    ("seeds", "shift", "headline", "statement"),
    [
        (6, 0, "No winner: lsb and fixed do not differ significantly", "Not significant: hyper"),
        (6, 0.1, "lsb covers more hypervolume than fixed.", "Significant: hypervolume "),
        (6, -0.1, "fixed covers more hypervolume than lsb.", "Significant: hypervolume "),
        (5, 0.1, "No winner", "Too few seeds for any significance: hypervolume "),
        (1, 0.1, "No winner", "Too few seeds for any significance: hypervolume "),
    ],
)
def test_winner_is_named_only_where_a_test_is_significant(seeds, shift, headline, statement):
    words = verdict(made_findings(grid(seeds, shift), prior=PRIOR))
    assert words.headline.startswith(headline)
    assert words.statements[0].startswith(statement)
    assert f"all {2**seeds} permutations of whole seeds" in words.statements[0]
    assert f"minimum attainable {min(1, 2 / 2**seeds):.2g};" in words.statements[0]
    assert any("One seed a setting" in caveat for caveat in words.caveats) == (seeds == 1)


def test_three_methods_need_more_seeds_than_two():
    # Six seeds: 2 / 64 x 3 pairs = 0.094 is the least that Holm leaves.
    rows = grid(6, 0.1)
    rows += [("stch", row[1], row[2], (0.3, 0.3)) for row in rows if row[0] == "lsb"]
    findings = made_findings(rows, prior=PRIOR)
    assert [c.p_adjusted for c in findings.comparisons] == pytest.approx([6 / 64] * 3)
    words = verdict(findings)
    assert words.headline.startswith("No winner")
    assert words.statements[0].startswith("Too few seeds")
    assert "minimum attainable 0.031, 0.094 after Holm;" in words.statements[0]


def three_methods(seeds: int = 6, shift: float = 0.1) -> list[Row]:
    rows = grid(seeds, shift)
    return rows + [("stch", p, seed, (0.3, 0.3)) for arm, p, seed, _ in rows if arm == "lsb"]


def test_primary_comparison_stands_and_the_others_share_holm():
    # Six seeds: 2 / 64 = 0.031 for the primary one; two others, so 0.0625 each.
    findings = made_findings(three_methods(), primary=("fixed", "lsb"))
    held = {(c.arm_a, c.arm_b): (c.is_primary, c.p_adjusted) for c in findings.comparisons}
    assert held == {
        ("lsb", "fixed"): (True, 2 / 64),
        ("lsb", "stch"): (False, 4 / 64),
        ("fixed", "stch"): (False, 4 / 64),
    }
    words = verdict(findings)
    assert words.headline == (
        "lsb covers more hypervolume than fixed (primary comparison, declared before training). "
        "None of the 2 other pairs differs significantly."
    )
    first = "Primary comparison, declared before training. Significant: hypervolume "
    assert words.statements[0].startswith(first)
    assert "two-sided p = 0.031 without correction;" in words.statements[0]
    assert "No primary" not in " ".join(words.caveats)
    table = hypervolume_section(findings, RunFiles()).tables[1].raw
    assert table["is_primary"].tolist() == [True, False, False]


def test_lost_primary_comparison_leads_all_the_same():
    rows = [r for r in three_methods(8, 0.0) if r[0] != "stch"]
    rows += [("stch", p, seed, (0.3, 0.3)) for arm, p, seed, _ in rows if arm == "lsb"]
    words = verdict(made_findings(rows, primary=("lsb", "fixed")))
    assert words.headline.startswith(
        "No winner: lsb and fixed do not differ significantly in hypervolume (primary comparison, "
        "declared before training). Of the other pairs, lsb covers more hypervolume than stch and "
    )


def test_what_was_not_declared_is_said():
    words = verdict(made_findings(three_methods()))
    says = "No primary comparison was declared before training, so Holm corrects the p-values of "
    assert f"{says}all 3 pairs." in words.caveats
    assert (
        "No primary comparison was declared before training."
        in verdict(made_findings(grid(2))).caveats
    )
    gone = verdict(made_findings(grid(2), primary=("lsb", "stch")))
    assert "declared before training, lsb against stch, has no results here." in " ".join(
        gone.caveats
    )
    one = made_findings([r for r in grid(2) if r[0] == "lsb"])
    assert "primary" not in " ".join(verdict(one).caveats)


def test_unequal_grids_are_compared_where_they_match():
    # One of 70 runs is missing: six whole seeds of seven are left, just enough for a winner.
    rows = grid(7, 0.1, skip=lambda method, p, seed: (method, seed) == ("fixed", 1) and p > 0.8)
    findings = made_findings(rows, prior=PRIOR)
    assert findings.hypervolumes == {}, "those of all runs must not stand side by side"
    (c,) = findings.comparisons
    assert (c.num_priorities, c.seeds) == (5, (0, 2, 3, 4, 5, 6))
    assert c.test.minimum_p == 2 / 2**6
    kept = findings.runs[(findings.runs["seed"] != 1) & (findings.runs["arm"] == "lsb")]
    means = kept.groupby("priority_depth")[["depth_delta1", "segmentation_miou"]].mean()
    volume = hypervolume(means.to_numpy(), findings.reference, findings.axes)
    assert c.hypervolumes[0] == pytest.approx(volume)
    assert c.test.difference == pytest.approx(c.hypervolumes[0] - c.hypervolumes[1])
    words = verdict(findings)
    on = "on the 5 priorities and 6 seeds that both have in full"
    assert words.headline == f"lsb covers more hypervolume than fixed, {on}."
    assert words.statements[0].startswith(f"Significant {on}: hypervolume ")
    assert words.caveats[0].startswith(
        f"lsb and fixed are compared only {on}. Of lsb seed 1 is left out"
    )
    assert "fixed has no result for seed 1 of (5/6, 1/6)." in words.caveats


def test_methods_that_share_nothing_are_not_compared():
    rows = grid(2, skip=lambda method, p, seed: (method == "fixed") == (p < 0.4))
    findings = made_findings(rows, prior=PRIOR)
    assert (findings.hypervolumes, findings.comparisons[0].test) == ({}, None)
    words = verdict(findings)
    assert words.headline == "No comparison: lsb and fixed share no priority."
    assert "fixed has no result for (1/6, 5/6) and (1/3, 2/3)." in words.caveats


def test_many_methods_make_a_short_verdict():
    # Thirty methods have 435 pairs; those of lsb come first.
    names = ["lsb", "fixed", *(f"m{k}" for k in range(28))]
    rows = [
        (name, (p, 1 - p), seed, (0.5 + p / 3 + k / 500 + seed / 1000, 0.9 - p / 3 + k / 500))
        for k, name in enumerate(names)
        for p in (0.25, 0.5)
        for seed in (0, 1)
    ]
    words = verdict(made_findings(rows))
    assert words.headline.startswith("No winner: lsb, fixed, m0, m1 and 26 more do not differ")
    assert " for lsb, " in words.statements[0]
    assert " for fixed, " in words.statements[0]
    # Six comparisons, six methods, a line that counts the rest of either; no baseline is known.
    assert len(words.statements) == 14
    assert words.statements[6] == "The first 6 of 435 comparisons are shown."
    assert words.statements[13] == "The first 6 of 30 methods are shown."


@pytest.mark.parametrize(
    ("shift", "text"),
    [
        # The baseline is .547 and .279: by hand, means up to .747 and .479, .947 and .679.
        (0.0, "Every operating point beats the image-independent baseline"),
        (-0.2, "baseline: 3 of 10 on depth delta1 and 2 of 10 on segmentation miou."),
        (-0.4, "all on depth delta1 and 7 of 10 on segmentation miou. None is better on every"),
    ],
)
def test_points_no_better_than_the_baseline_are_counted(shift, text):
    rows = [
        (method, priorities, seed, tuple(max(value + shift, 0.0) for value in values))
        for method, priorities, seed, values in grid(2, spread=0)
    ]
    words = verdict(made_findings(rows, prior=PRIOR))
    assert text in words.statements[-1]


def test_strong_baseline_cuts_off_no_point():
    # Both methods lie below the baseline on depth at most priorities, as on real photographs.
    prior = {"depth_delta1": 0.84, "segmentation_miou": 0.5}
    findings = made_findings(grid(6, 0.1), prior=prior)
    below = [p for p in findings.points if p.means[0] < 0.84 or p.means[1] < 0.5]
    assert len(below) > 3
    without = made_findings(grid(6, 0.1))
    assert findings.reference == without.reference
    assert findings.hypervolumes == without.hypervolumes
    assert verdict(findings).headline == "lsb covers more hypervolume than fixed."
    # Its own hypervolume, a box, stands beside those of the methods.
    corner = findings.reference.point
    box = (0.84 - corner[0]) * (0.5 - corner[1])
    assert findings.baseline_hypervolume == pytest.approx(box)
    section = hypervolume_section(findings, RunFiles())
    assert f"The image-independent baseline has {box:.4g}." in section.lead
    row = section.tables[0].raw.iloc[-1]
    assert (row["method"], row["hypervolume"]) == ("image-independent baseline", box)
    assert (
        without.baseline_hypervolume,
        len(hypervolume_section(without, RunFiles()).tables[0].rows),
    ) == (None, 2)


TWO_BY_TWO = [
    ("lsb", (0.25, 0.75), 0, (0.8, 0.5)),
    ("lsb", (0.5, 0.5), 0, (0.7, 0.5)),
    ("fixed", (0.25, 0.75), 0, (0.6, 0.5)),
    ("fixed", (0.5, 0.5), 0, (0.5, 0.5)),
]


def test_constant_metric_has_no_range_and_some_reference():
    findings = made_findings(TWO_BY_TWO)
    assert "; segmentation miou stays at 50.0 %." in verdict(findings).statements[1]
    assert "segmentation miou is the same in all runs and is moved a tenth of that value" in (
        findings.reference.rule
    )
    # miou is to be maximised: 0.5 moved by 0.05 to worse.
    assert findings.reference.point[1] == pytest.approx(0.45)


def test_movement_is_in_deviations_over_seeds():
    # By hand: means of delta1 .5 and .9, deviation .1 under lsb; miou does not differ by seed.
    rows = [
        ("lsb", (p, 1 - p), seed, (mean + sign * 0.1 / 2**0.5, 0.5))
        for p, mean in ((0.25, 0.5), (0.75, 0.9))
        for seed, sign in ((0, -1), (1, 1))
    ]
    lead = "The priority moves the metrics by 4.0 standard deviations over seeds."
    assert spread_section(made_findings(rows), RunFiles()).lead == lead
    assert "no spread over seeds" in spread_section(made_findings(TWO_BY_TWO), RunFiles()).lead


def test_rounding_errors_are_no_range():
    noisy = [(*row[:3], (row[3][0], (0.3, 0.1 + 0.2)[k % 2])) for k, row in enumerate(TWO_BY_TWO)]
    findings = made_findings(noisy)
    spread = next(s for s in findings.spreads if s.column == "segmentation_miou")
    assert spread.range_of_means == 0
    assert findings.reference.point[1] == pytest.approx(0.27)


def test_caveat_names_what_a_table_does_not_say():
    findings = made_findings(TWO_BY_TWO)
    text = " ".join(verdict(findings).caveats)
    assert "The table does not say which data set, network and setting of the optimiser" in text
    assert "One data set, one network" not in text
    named = replace(findings.provenance, common={"dataset": "x", "encoder": "y"})
    text = " ".join(verdict(replace(findings, provenance=named)).caveats)
    assert "The table does not say which setting of the optimiser" in text


def test_forked_runs_are_called_so():
    findings = made_findings(grid(6))
    held = findings.provenance
    common = {**held.common, "forked_after": 8, "epochs": 16}
    words = verdict(replace(findings, provenance=replace(held, common=common)))
    assert words.caveats[0].startswith("Forked runs: until epoch 8 of 16 one training")
    assert not any("Forked" in caveat for caveat in verdict(findings).caveats)


def test_methods_without_priorities_are_single_points():
    findings = made_findings([*grid(2), ("equal", None, 0, (0.78, 0.66))], prior=PRIOR)
    assert findings.single_points == ("equal",)
    assert set(findings.hypervolumes) == {"lsb", "fixed"}
    assert "equal takes no priorities, so it has one operating point and no front." in (
        verdict(findings).statements
    )
