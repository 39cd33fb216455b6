"""The lines of docs/findings.md, each a function of the summaries it rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import moocore
import numpy as np

from analysis.compute.significance import SIGNIFICANCE, holm

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One line of findings.md."""

    summaries: tuple[str, ...]
    """Names in tests/evidence/summaries, without .json."""
    line: Callable[..., str]
    """Makes the line of these summaries, in this order."""


def front(data: str, s: Summary) -> str:
    """Return the row of a primary comparison of fronts."""
    first = primary(s)
    a, b = first["hypervolumes"]
    test = first["test"]
    winner = (first["arm_a"] if a > b else first["arm_b"]) if _holds(first) else "no winner"
    above = [_above_baseline(s, first[side]) for side in ("arm_a", "arm_b")]
    is_learned = any(num for num, _ in above)
    from_baseline = [_from_baseline(s, first[side]) for side in ("arm_a", "arm_b")]
    cells = [
        f"{data}; {_rates(s)}",
        f"{first['num_priorities']} x {test['num_seeds']}",
        f"{a:.3g}",
        f"{b:.3g}",
        f"{(a - b) / b:+.1%}",
        f"{from_baseline[0] / from_baseline[1] - 1:+.1%}" if all(from_baseline) else "-",
        f"{test['p']:.3f}",
        winner if is_learned else f"{winner}, but nothing was learned",
        " and ".join(f"{num} of {of}" for num, of in above),
    ]
    return f"| {' | '.join(cells)} |"


def primary(s: Summary) -> Mapping[str, Any]:
    """Return the comparison of the two methods that the sweep declared."""
    (first,) = (c for c in s["comparisons"] if c["is_primary"])
    found: Mapping[str, Any] = first
    return found


def together(*summaries: Summary) -> str:
    """Return which of several planned comparisons are significant with Holm over them."""
    firsts = [primary(s) for s in summaries]
    adjusted = holm([c["test"]["p"] for c in firsts])
    held = [
        f"{_led(c)} in row {row} (p = {p:.3f})"
        for row, (c, p) in enumerate(zip(firsts, adjusted, strict=True), 1)
        if p < SIGNIFICANCE
    ]
    return (
        f"- With Holm over the {len(firsts)} planned comparisons, rows 1 to {len(firsts)}, these "
        f"are significant: {'; '.join(held) or 'none'}."
    )


def all_pairs(data: str, s: Summary) -> str:
    """Return the hypervolumes of all methods, and which of the other pairs are significant."""
    others = [c for c in s["comparisons"] if not c["is_primary"]]
    led = [_led(c) for c in others if _holds(c)]
    volumes = ", ".join(f"{arm} {value:.3g}" for arm, value in s["hypervolumes"].items())
    (scaled,) = (c for c in others if {c["arm_a"], c["arm_b"]} == {"lsb", "scaled_fixed"})
    return (
        f"- {data}: hypervolume {volumes}. After Holm, lsb against scaled_fixed has p = "
        f"{scaled['p_adjusted']:.3f}; of the {len(others)} pairs beside the planned one these are "
        f"significant: {'; '.join(led) or 'none'}."
    )


def increase_rates(s: Summary) -> str:
    """Return the row of hypervolumes by increase rate, and which pairs differ."""
    volumes = [
        f"{arm.partition('increase_rate ')[2].rstrip(')')}: {value:.3f}"
        for arm, value in s["hypervolumes"].items()
    ]
    alike = [
        " and ".join(
            arm.partition("increase_rate ")[2].rstrip(")") for arm in (c["arm_a"], c["arm_b"])
        )
        for c in s["comparisons"]
        if not _holds(c)
    ]
    seeds = s["comparisons"][0]["test"]["num_seeds"]
    return (
        f"- LSB's hypervolume by increase rate ({_rates(s)}, 3 priorities x {seeds} seeds): "
        f"{', '.join(volumes)}. After Holm all pairs differ but {'; '.join(alike)}."
    )


def _from_baseline(s: Summary, arm: str) -> float:
    """Return a method's hypervolume with the image-independent baseline as the reference point."""
    means = [p["means"] for p in s["points"] if p["arm"] == arm]
    reference = [s["prior"][a["column"]] for a in s["axes"]]
    maximise = [a["metric"]["direction"] == "max" for a in s["axes"]]
    return float(moocore.hypervolume(means, ref=reference, maximise=maximise))


def _rates(s: Summary) -> str:
    """Return the learning rate of all, or of each method where they were tuned."""
    common = s["common"].get("optimizer.learning_rate")
    if common is not None:
        return f"{common:g} for all"
    (note,) = (note for note in s["notes"] if note.startswith("optimizer.learning_rate was tuned"))
    return note.partition(": ")[2].rstrip(".").replace(";", ",")


def _above_baseline(s: Summary, arm: str) -> tuple[int, int]:
    """Return how many points of a method beat the baseline on every axis, and of how many."""
    signs = np.array([1 if a["metric"]["direction"] == "max" else -1 for a in s["axes"]])
    baseline = signs * [s["prior"][a["column"]] for a in s["axes"]]
    means = [signs * p["means"] for p in s["points"] if p["arm"] == arm]
    return sum(bool((m > baseline).all()) for m in means), len(means)


def in_readme(*planned: Summary) -> str:
    """Return what README says of the planned comparisons."""
    held = []
    for s in planned:
        first = primary(s)
        a, b = first["hypervolumes"]
        held.append(f"{(a - b) / b:+.1%} (p = {first['test']['p']:.3f})")
    return (
        f"LSB's hypervolume beside that of fixed weighting is {', '.join(held[:-1])} and, on "
        f"photographs, {held[-1]}"
    )


def _holds(comparison: Mapping[str, Any]) -> bool:
    return comparison["test"] is not None and comparison["p_adjusted"] < SIGNIFICANCE


def _led(comparison: Mapping[str, Any]) -> str:
    a, b = comparison["hypervolumes"]
    names = (comparison["arm_a"], comparison["arm_b"])
    return " over ".join(names if a > b else names[::-1])


def control(data: str, s: Summary) -> str:
    """Return the row of how well metrics follow the priority, for each method."""
    responses = s["sections"]["controllability"]["responses"]
    by_arm: dict[str, list[str]] = {}
    for held in responses:
        by_arm.setdefault(held["arm"], []).append(f"{held['control']['rank_correlation']:.2f}")
    cells = [f"{arm} {' and '.join(values)}" for arm, values in by_arm.items()]
    return f"| {data} | {' | '.join(cells)} |"


def _axes(s: Summary) -> str:
    return " and ".join(f"{a['task']} {a['metric']['name']}" for a in s["axes"])


def reach(s: Summary) -> str:
    """Return how far each method's front reaches on each axis."""
    parts = []
    for arm in s["hypervolumes"]:
        means = np.array([p["means"] for p in s["points"] if p["arm"] == arm])
        spans = [
            f"{low:.2f} to {high:.2f}"
            for low, high in zip(means.min(axis=0), means.max(axis=0), strict=True)
        ]
        parts.append(f"{arm} {' and '.join(spans)}")
    return f"- Over the priorities, {_axes(s)} run from {'; '.join(parts)}."


def units(s: Summary, *others: Summary) -> str:
    """Return, for each method, how far its points move where a loss has another unit."""
    before = _means(s)
    lines = []
    for arm in s["hypervolumes"]:
        moved = [
            np.abs(np.subtract(means, before[key]))
            for other in others
            for key, means in _means(other).items()
            if key[0] == arm and key in before
        ]
        largest = np.max(moved, axis=0)
        lines.append(f"{arm} by at most {' and '.join(f'{value:.3f}' for value in largest)}")
    factors = " and ".join(f"{other['common']['loss_units.depth']:g}" for other in others)
    number = len({priorities for _, priorities in _means(others[0])})
    return (
        f"- With the depth loss times {factors} ({_rates(s)}, {number} priorities), points move: "
        f"{'; '.join(lines)} ({_axes(s)})."
    )


def _means(s: Summary) -> dict[tuple[str, tuple[float, ...]], list[float]]:
    points = (p for p in s["points"] if p["priorities"] is not None)
    return {(p["arm"], tuple(p["priorities"])): p["means"] for p in points}


def evenness(data: str, s: Summary) -> str:
    """Return the row of how equal the loss scales end, and from which epoch on they are."""
    cells = []
    for held in s["sections"]["trends"]["methods"]:
        epochs = held["equal_from_epoch"]
        since = "never" if None in epochs else f"from epoch {max(epochs)} on"
        ratio = float(np.median(held["largest_over_smallest_loss_scale"]))
        cells.append(f"{held['method']} {ratio:.3g} ({since})")
    return f"| {data} | {' | '.join(cells)} |"


def smallest(data: str, s: Summary) -> str:
    """Return the row of what LSB and equal weights give each task, that of the smallest loss."""
    lsb, equal = (
        next(p["means"] for p in s["points"] if p["arm"] == arm) for arm in ("lsb", "equal")
    )
    cells = [
        f"{a['task']} {a['metric']['name']} {ours:.3g} and {theirs:.3g}"
        for a, ours, theirs in zip(s["axes"], lsb, equal, strict=True)
    ]
    return f"- {data}, lsb and equal: {'; '.join(cells)}."


def settled(data: str, s: Summary) -> str:
    """Return how many seeds would settle the primary comparison."""
    (held,) = (c for c in s["sections"]["seeds"]["comparisons"] if c["is_primary"])
    arm_b = held["arm_b"]
    base = s["hypervolumes"][arm_b]
    with_planned = zip(s["sections"]["seeds"]["planned_seeds"], held["smallest"], strict=True)
    smallest = ", ".join(f"{n} seeds {value / base:.1%}" for n, value in with_planned if value)
    needed = held["num_needed"]
    seen = f"{held['mean'] / base:+.1%} of {arm_b}'s hypervolume"
    return (
        f"- {data}: the mean difference of single seeds, {seen}, "
        + (f"would take {needed} seeds" if needed else "no number of seeds looked at would settle")
        + f"; smallest that so many would find in {s['sections']['seeds']['power']:.0%} of "
        f"repetitions: {smallest}."
    )


def ranks(data: str, s: Summary) -> str:
    """Return each method's average rank at equal priorities, best first, and its Delta_m."""
    rows = sorted(s["sections"]["method_ranks"]["summary"], key=lambda row: row["rank_avg"])
    cells = [
        f"{row['method']} {row['rank_avg']:.1f} ({_signed(row['delta_m_percent_tasks_first'])} %)"
        for row in rows
    ]
    number = sum(row["num_trials"] for row in rows)
    return f"- {data}, {number} trials: {', '.join(cells)}."


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no -0.0


def told_apart(data: str, s: Summary) -> str:
    """Return whether methods differ in single metrics, and where LSB does."""
    held = s["sections"]["method_ranks"]
    better: dict[str, list[str]] = {}
    worse: dict[str, list[str]] = {}
    for test in held["significant"]:
        if "lsb" in (test["method_a"], test["method_b"]):
            is_first = test["method_a"] == "lsb"
            other = test["method_b" if is_first else "method_a"]
            is_better = is_first == (test["probability_a_better"] > 0.5)
            (better if is_better else worse).setdefault(other, []).append(test["column"])
    differing = [b for b in held["blocks"] if b["p"] < SIGNIFICANCE]
    largest = max(b["p"] for b in held["blocks"])
    return (
        f"- {data}: some methods differ in {len(differing)} of {len(held['blocks'])} metrics "
        f"(Friedman over whole seeds, p up to {largest:.1g}). Of two methods in one metric, Holm "
        f"over {held['num_tests']} tests whose p is {held['min_attainable_p']:.2g} at least: LSB "
        f"better than {_named(better)}, worse than {_named(worse)}."
    )


def _named(found: Mapping[str, Sequence[str]]) -> str:
    cells = [f"{method} ({', '.join(columns)})" for method, columns in found.items()]
    return "; ".join(cells) or "none"


def forks(share: str, held: Summary) -> str:
    """Return the row of a forked front beside the full one, for each method."""
    cells = [
        f"{one['method']} {one['ratio']:.3f} (seeds {one['seed_range'][0]:.2f} to "
        f"{one['seed_range'][1]:.2f})"
        for one in held
    ]
    return f"| {share} | {held[0]['cost']:.2f} | {' | '.join(cells)} |"


def mixed(s: Summary) -> str:
    """Return what networks between neighbouring forks add, for each method."""
    parts = []
    for held in s["sections"]["dial"]["dials"]:
        off = " and ".join(f"{mean:+.3f} (the least {least:+.3f})" for mean, least in _off(held))
        ratio = held["hypervolume"] / held["hypervolume_forks"]
        parts.append(
            f"{held['arm']}: {len(held['points'])} networks between {held['num_forks']} forks lie "
            f"{off} off the line between them, hypervolume x {ratio:.3f}"
        )
    return f"- {'; '.join(parts)} ({_axes(s)}, {len(s['points'][0]['seeds'])} seeds)."


def _off(held: Mapping[str, Any]) -> list[tuple[float, float]]:
    return list(zip(held["mean_gains"], held["least_gains"], strict=True))


PLANNED = (
    "one_point", "depth_normal", "normal_segmentation", "photographs", "camvid", "column",
)  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    Claim(("one_point",), partial(front, "Scenes, depth and segmentation")),
    Claim(("depth_normal",), partial(front, "Scenes, depth and normals")),
    Claim(("normal_segmentation",), partial(front, "Scenes, normals and segmentation")),
    Claim(("photographs",), partial(front, "CamVid, segmentation and edges")),
    Claim(("camvid",), partial(front, "CamVid at 32x48, with keypoints as third task")),
    Claim(("column",), partial(front, "Scenes, depth and segmentation, multi-column")),
    Claim(("three_points",), partial(front, "as row 1, rates tuned at three priorities")),
    Claim(("rate_004",), partial(front, "as row 1")),
    Claim(("rate_008",), partial(front, "as row 1")),
    Claim(("unit_tenth",), partial(front, "as row 1, depth loss x 0.1")),
    Claim(("unit_ten",), partial(front, "as row 1, depth loss x 10")),
    Claim(PLANNED, together),
    Claim(("one_point",), partial(all_pairs, "Row 1")),
    Claim(("photographs",), partial(all_pairs, "Row 4")),
    Claim(("one_point",), partial(settled, "Row 1")),
    Claim(("depth_normal",), partial(settled, "Row 2")),
    Claim(("normal_segmentation",), partial(settled, "Row 3")),
    Claim(("photographs",), partial(settled, "Row 4")),
    Claim(("column",), partial(settled, "Row 6")),
    Claim(("three_points",), partial(settled, "Row 7")),
    Claim(("three_points",), partial(control, "Row 7: depth, segmentation")),
    Claim(("rate_004",), partial(control, "Row 8: depth, segmentation")),
    Claim(("depth_normal",), partial(control, "Row 2: depth, normals")),
    Claim(("normal_segmentation",), partial(control, "Row 3: normals, segmentation")),
    Claim(("photographs",), partial(control, "Row 4: segmentation, edges")),
    Claim(("column",), partial(control, "Row 6: depth, segmentation")),
    Claim(("three_points",), reach),
    Claim(("rate_004", "unit_tenth", "unit_ten"), units),
    Claim(("scaled_one", "scaled_tenth", "scaled_ten"), units),
    Claim(("trends_three",), partial(evenness, "depth, normal, segmentation")),
    Claim(("trends_four",), partial(evenness, "and edge2d, keypoint2d, without segmentation")),
    Claim(("trends_eight",), partial(evenness, "all eight but segmentation")),
    Claim(("trends_four",), partial(smallest, "Four tasks")),
    Claim(("trends_eight",), partial(smallest, "Eight tasks")),
    Claim(("increase_rates",), increase_rates),
    Claim(("table_columns",), partial(ranks, "Multi-column, 8 seeds")),
    Claim(("table_decoders",), partial(ranks, "Multi-decoder, 3 seeds")),
    Claim(("table_sharing",), partial(ranks, "Full sharing, 3 seeds")),
    Claim(("table_columns",), partial(told_apart, "Multi-column")),
    Claim(("fork_half",), partial(forks, "a half (48x64, 5 priorities x 5 seeds)")),
    Claim(("fork_half_small",), partial(forks, "a half (row 1, 7 x 8)")),
    Claim(("fork_half_more",), partial(forks, "a half (row 1, two more methods)")),
    Claim(("fork_quarter",), partial(forks, "a quarter (row 1, 7 x 8)")),
    Claim(("fork_late",), partial(forks, "three quarters (row 1, 7 x 8)")),
    Claim(("mixed",), mixed),
)
README = Claim(PLANNED[:4], in_readme)
