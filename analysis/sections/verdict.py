"""The verdict in generated words: what the runs show, and its caveats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.findings import (
    PAPER_PAIR,
    Comparison,
    Findings,
    method_of,
    prioritised_arms,
)
from analysis.compute.fronts import means_of, minimised
from analysis.compute.significance import SIGNIFICANCE
from analysis.load.axes import shown_number
from analysis.load.groups import field_name
from analysis.load.priorities import Priorities
from analysis.load.text import counted, first_items, first_listed, listed

PRIMARY = "primary comparison, declared before training"
MAX_NAMED = 4
"""Methods or priorities that a sentence names; it counts the rest."""
MAX_SENTENCES = 6
"""Of one kind."""
MIN_SEEDS = 5
"""With fewer, standard deviations are called rough."""
CLEAR_RATIO = 5.0
"""From this range over spread on, a metric follows the priority clearly."""
DATA_CAVEATS: Mapping[tuple[str, str], str] = {
    ("scenes", "simple"): "A demonstration and no evidence about real data: the simple variant of "
    "the scenes is built to show a trade-off between tasks within minutes.",
    ("scenes", "rooms"): "The rooms are rendered: whether the same holds for photographs is open.",
}


@dataclass(frozen=True)
class Verdict:
    """A report in a few sentences."""

    headline: str
    statements: tuple[str, ...]
    """What was found, with numbers."""
    caveats: tuple[str, ...]


def verdict(findings: Findings) -> Verdict:
    """Return the verdict; it names a winner only where a test is significant."""
    if not findings.points:
        return Verdict(
            f"Nothing to compare yet: none of {len(findings.states)} runs has a usable result.",
            (),
            tuple(_incomplete(findings)),
        )
    comparisons = _by_weight(findings)
    left_out = [
        f"{c.arm_a} and {c.arm_b} are compared only on {c.shared}. {' '.join(c.left_out)}"
        for c in comparisons
        if c.left_out
    ]
    counts = sorted({point.n for point in findings.points})
    few_seeds = []
    if counts == [1]:
        few_seeds = ["One seed a setting cannot separate methods from chance."]
    elif counts[0] < MIN_SEEDS:
        shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        few_seeds = [f"The standard deviations are rough: {shown} seeds."]
    common = findings.provenance.common
    data = (str(common.get("data.name")), str(common.get("data.variant")))
    return Verdict(
        headline=_headline(findings),
        statements=(
            *_first([_compared(c, findings) for c in comparisons], "comparisons"),
            *_single_points(findings),
            *_first([_movement(a, findings) for a in prioritised_arms(findings)], "methods"),
            *_against_prior(findings),
        ),
        caveats=(
            *_forked(findings),
            *_first(left_out, "pairs that are compared in part"),
            *_not_declared(findings),
            *([DATA_CAVEATS[data]] if data in DATA_CAVEATS else []),
            *_incomplete(findings),
            *_without_result(findings),
            *few_seeds,
            _reach(findings),
        ),
    )


def _first(sentences: Sequence[str], noun: str) -> list[str]:
    """Return the first sentences, and one that counts them where there are more."""
    shown, note = first_items(sentences, MAX_SENTENCES, noun)
    return [*shown, note.strip()] if note else shown


def _incomplete(findings: Findings) -> list[str]:
    counts = {state: n for state, n in findings.counts.items() if state != "done"}
    if not counts:
        return []
    rest = listed([f"{number} {state}" for state, number in counts.items()])
    number = sum(counts.values())
    verb = "is" if number == 1 else "are"
    return [
        f"{number} of {len(findings.states)} runs {verb} not shown: {rest} (reasons under what was "
        "run)."
    ]


def _not_declared(findings: Findings) -> list[str]:
    """Say that no comparison here was declared before training, where some are tested."""
    number = sum(c.test is not None for c in findings.comparisons)
    if not number or any(c.is_primary for c in findings.comparisons):
        return []
    corrected = f", so Holm corrects the p-values of all {number} pairs" if number > 1 else ""
    if not findings.primary:
        return [f"No primary comparison was declared before training{corrected}."]
    methods = method_of(findings)
    both = {*findings.primary}
    pairs = sum({methods[c.arm_a], methods[c.arm_b]} == both for c in findings.comparisons)
    what = f"is {pairs} pairs here" if pairs else "has no results here"
    return [f"The {PRIMARY}, {' against '.join(findings.primary)}, {what}{corrected}."]


def _without_result(findings: Findings) -> list[str]:
    """Say at which priorities, and with which seeds, a method lacks results that others have."""
    if findings.searched:
        return []  # each method has points of its own
    held: dict[str, dict[Priorities, tuple[int, ...]]] = {}
    grid: dict[Priorities, set[int]] = {}
    for point in findings.points:
        if point.priorities is not None:
            held.setdefault(point.arm, {})[point.priorities] = point.seeds
            grid.setdefault(point.priorities, set()).update(point.seeds)
    sentences = []
    for arm, settings in held.items():
        places = []
        for setting, seeds in sorted(grid.items()):
            lacking = [str(seed) for seed in sorted(seeds.difference(settings.get(setting, ())))]
            if lacking:
                noun = "seed" if len(lacking) == 1 else "seeds"
                named = f"{noun} {first_listed(lacking, MAX_NAMED)} of "
                places.append(
                    (named if setting in settings else "") + findings.shown_priorities(setting)
                )
        if places:
            sentences.append(f"{arm} has no result for {first_listed(places, MAX_NAMED)}.")
    return _first(sentences, "methods with gaps")


def _forked(findings: Findings) -> list[str]:
    """Say that the runs were forked from trunks, where they were."""
    after = findings.provenance.common.get("forked_after")
    if after is None:
        return []
    return [
        f"Forked runs: until epoch {after} of {findings.provenance.common['epochs']} one training "
        "at equal priorities served all priorities of a method and seed. A front of whole "
        "trainings may lie elsewhere.",
        *_mixed(findings),
    ]


def _mixed(findings: Findings) -> list[str]:
    """Say that some networks were mixed and not trained, where they were."""
    number = len(findings.mixed_points)
    if not number:
        return []
    points = counted(number, "point is", "points are")
    return [
        f"{points} of networks mixed between forks and not trained: labelled so, and in no "
        "comparison."
    ]


def _reach(findings: Findings) -> str:
    if findings.searched:
        return (
            "One data set and one network: how the methods rank elsewhere is open. Points chosen "
            "by their outcome flatter every method; for a comparison train a grid."
        )
    common = findings.provenance.common
    if "train" in common:
        return (
            f"One training function, {common['train']}, with the same params for all methods: how "
            "they rank elsewhere, or each with its own tuned ones, is open."
        )
    if findings.tuned:
        return (
            f"One data set and one network; {listed([*map(field_name, findings.tuned)])} tuned for "
            "each method by itself: how they rank elsewhere is open."
        )
    if "data.name" in common:  # of runs in stores; no table has it
        return (
            "One data set, one network, one setting of the optimiser for all methods: how they "
            "rank elsewhere, or each with its own tuned learning rate, is open."
        )
    missing = [
        *([] if "dataset" in common else ["data set"]),
        *([] if {"architecture", "encoder"} & set(common) else ["network"]),
        "setting of the optimiser",
    ]
    return (
        f"The table does not say which {listed(missing)} the runs had, nor whether all methods had "
        "the same: what a difference is due to is open."
    )


def _single_points(findings: Findings) -> list[str]:
    """Say why methods without priorities have no front where others have one."""
    if not findings.single_points or not findings.comparisons:
        return []
    names = first_listed(findings.single_points, MAX_NAMED)
    if len(findings.single_points) == 1:
        return [f"{names} takes no priorities, so it has one operating point and no front."]
    return [f"{names} take no priorities, so they have one operating point each and no front."]


def _by_weight(findings: Findings) -> list[Comparison]:
    """Return the comparisons: the primary one, the paper's, those of its first method, by p."""
    methods = method_of(findings)

    def weight(c: Comparison) -> tuple[bool, bool, bool, bool, float]:
        pair = {methods[c.arm_a], methods[c.arm_b]}
        p = 2.0 if c.p_adjusted is None else c.p_adjusted
        is_papers, has_first = pair == set(PAPER_PAIR), PAPER_PAIR[0] in pair
        return not c.is_primary, not is_papers, not has_first, not c.is_significant, p

    return sorted(findings.comparisons, key=weight)


def _headline(findings: Findings) -> str:
    arms = list(dict.fromkeys(point.arm for point in findings.points))
    if len(arms) == 1:
        return f"One method, {arms[0]}: there is nothing to compare it with."
    comparisons = _by_weight(findings)
    if not comparisons:
        return "No comparison of fronts: fewer than two methods take priorities."
    untested = [c for c in comparisons if c.untested]
    if untested:
        shown_arms = _arms_of(untested)
        volumes = [f"{findings.hypervolumes[arm]:.4g} for {arm}" for arm in shown_arms]
        each = sum(point.arm == shown_arms[0] for point in findings.points)
        return (
            f"No test, so no winner: hypervolume {first_listed(volumes, MAX_NAMED)}, with {each} "
            "points each that a search chose on validation."
        )
    if findings.searched:
        return "No comparison: the methods do not have equally many points and seeds."
    tested = [c for c in comparisons if c.test is not None]
    if not tested:
        why_not = "no two methods share priorities with seeds that have them all"
        return f"No comparison: {comparisons[0].why_not if len(comparisons) == 1 else why_not}."
    others = [c for c in tested if not c.is_primary]
    if not comparisons[0].is_primary:
        return f"{_outcome(tested)}."
    first = comparisons[0]
    leading = f"{_outcome([first])} ({PRIMARY})."
    if first.test is None:
        leading = f"No result of the {PRIMARY}: {first.why_not}."
    if not others:
        return leading
    if any(c.is_significant for c in others):
        return f"{leading} Of the other pairs, {_outcome(others)}."
    if len(others) == 1:
        return f"{leading} The other pair does not differ significantly."
    return f"{leading} None of the {len(others)} other pairs differs significantly."


def _outcome(tested: Sequence[Comparison]) -> str:
    """Say which methods cover more hypervolume than which others."""
    won = [c for c in tested if c.is_significant]
    shown = won or tested
    on = ""
    if any(c.left_out for c in shown):
        several = "the priorities and seeds that both of a pair have in full"
        on = f", on {shown[0].shared if len(shown) == 1 else several}"
    if not won:
        names = first_listed(_arms_of(tested), MAX_NAMED)
        return f"No winner: {names} do not differ significantly in hypervolume{on}"
    parts = []
    for c in won[: MAX_NAMED // 2]:
        is_first = c.hypervolumes[0] > c.hypervolumes[1]
        better, worse = (c.arm_a, c.arm_b) if is_first else (c.arm_b, c.arm_a)
        parts.append(f"{better} covers more hypervolume than {worse}")
    winners = listed(parts)
    more = len(won) - len(parts)
    if more:
        winners += f", and {counted(more, 'more pair differs', 'more pairs differ')}"
    undecided = len(tested) - len(won)
    rest = f"; {undecided} of {len(tested)} comparisons are not significant" if undecided else ""
    return f"{winners}{on}{rest}"


def _arms_of(comparisons: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(arm for c in comparisons for arm in (c.arm_a, c.arm_b)))


def _compared(comparison: Comparison, findings: Findings) -> str:
    a, b, test = comparison.arm_a, comparison.arm_b, comparison.test
    volumes = [
        f"{volume:.4g} for {arm}"
        for volume, arm in zip(comparison.hypervolumes, (a, b), strict=False)
    ]
    if comparison.untested:
        mine = [point for point in findings.points if point.arm == a]
        seeds = "one seed" if mine[0].n == 1 else f"the mean over {mine[0].n} seeds"
        return (
            f"Hypervolume {listed(volumes)}, from {len(mine)} points each, a point being {seeds}. "
            f"No paired test: {comparison.why_not}."
        )
    if test is None:
        return f"No hypervolume comparison of {a} and {b}: {comparison.why_not}."
    where = f" on {comparison.shared}" if comparison.left_out else ""
    minimum, adjusted = test.minimum_p, comparison.minimum_p_adjusted
    if comparison.is_significant:
        outcome = "Significant"
    elif (minimum if adjusted is None else adjusted) >= SIGNIFICANCE:
        outcome = "Too few seeds for any significance"
    else:
        outcome = "Not significant"
    if comparison.is_primary:
        outcome = f"{PRIMARY.capitalize()}. {outcome}"
    how = f"all {test.num_permutations} permutations"
    if not test.exact:
        how = f"{test.num_permutations} permutations drawn with seed {test.seed}"
    return (
        f"{outcome}{where}: hypervolume {', '.join(volumes)}, difference "
        f"{shown_number(test.difference, '+.2g')} "
        f"(two-sided p = {_with_holm(test.p, comparison.p_adjusted)}"
        f"{' without correction' if comparison.is_primary else ''}; minimum attainable "
        f"{_with_holm(minimum, adjusted)}; {how} of {test.unit})."
    )


def _with_holm(p: float, adjusted: float | None) -> str:
    holm = f", {adjusted:.2g} after Holm" if adjusted is not None and adjusted != p else ""
    return f"{p:.2g}{holm}"


def _movement(arm: str, findings: Findings) -> str:
    """Say how far the priority moves each metric of a method, against the seeds."""
    moved, held = [], []
    spreads = [spread for spread in findings.spreads if spread.arm == arm]
    means = means_of(findings.points, arm)
    for axis, spread, values in zip(findings.axes, spreads, means.T, strict=True):
        low, high = axis.shown(min(values)), axis.shown(max(values))
        if low == high:
            held.append(f"{axis.name} stays at {low} {axis.unit}")
            continue
        seeds = "seed spread unknown"
        if spread.pooled_sd == 0:
            seeds = "seeds do not differ"
        if spread.ratio is not None:
            decimals = 0 if spread.ratio >= 10 else 1
            seeds = f"{spread.ratio:.{decimals}f} times the seed spread"
            seeds += "" if spread.ratio >= CLEAR_RATIO else ", not clearly"
        moved.append(f"{axis.name} from {low} to {high} {axis.unit} ({seeds})")
    if not moved:
        return f"Over the priorities of {arm} {listed(held)}."
    rest = f"; {listed(held)}" if held else ""
    return f"The priority moves {arm}: {listed(moved)}{rest}."


def _against_prior(findings: Findings) -> list[str]:
    """Say how the operating points stand to the image-independent baseline, where it is known."""
    known = [(k, axis) for k, axis in enumerate(findings.axes) if axis.column in findings.prior]
    if not known:
        return []
    axes = [axis for _, axis in known]
    means = np.array([[point.means[k] for k, _ in known] for point in findings.points])
    prior = np.array([findings.prior[axis.column] for axis in axes])
    margins = minimised(prior, axes) - minimised(means, axes)
    better = margins > 0
    if better.all():
        least = [
            f"at least {axis.shown(value)} {axis.difference_unit} of {axis.name}"
            for axis, value in zip(axes, margins.min(axis=0), strict=True)
        ]
        return [f"Every operating point beats the image-independent baseline, by {listed(least)}."]
    worse = []
    for axis, mine in zip(axes, better.T, strict=True):
        if not mine.all():
            number = f"{len(mine) - mine.sum()} of {len(mine)}" if mine.any() else "all"
            worse.append(f"{number} on {axis.name}")
    sentence = f"Not better than the image-independent baseline: {listed(worse)}."
    if not better.all(axis=1).any() and len(axes) > 1:
        sentence += " None is better on every metric."
    return [sentence]
