"""The lines of docs/findings.md, each a function of the summaries it rests on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

Summary = Mapping[str, Any]
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Claim:
    """One line of findings.md."""

    summaries: tuple[str, ...]
    """Names in tests/evidence/summaries, without .json."""
    line: Callable[..., str]
    """Makes the line of these summaries, in this order."""


def front(data: str, s: Summary) -> str:
    """Return the row of a comparison of fronts: the primary one, and what else is significant."""
    first, *others = sorted(s["comparisons"], key=lambda c: not c["is_primary"])
    assert first["is_primary"]
    a, b = first["hypervolumes"]
    test = first["test"]
    winner = (first["arm_a"] if a > b else first["arm_b"]) if _holds(first) else "no winner"
    led = [_led(c) for c in others if _holds(c)]
    cells = [
        f"{data}; {_rates(s)}",
        f"{first['num_priorities']} x {test['num_seeds']}",
        f"{a:.3g}",
        f"{b:.3g}",
        f"{(a - b) / b:+.1%}",
        f"{test['p']:.3f}",
        f"**{winner}**",
        "; ".join(led) or ("none" if others else "-"),
        " and ".join(_above_baseline(s, first[side]) for side in ("arm_a", "arm_b")),
    ]
    return f"| {' | '.join(cells)} |"


def _rates(s: Summary) -> str:
    """Return the learning rate of all, or of each method where they were tuned."""
    common = s["common"].get("optimizer.learning_rate")
    if common is not None:
        return f"{common:g} for both"
    (note,) = (note for note in s["notes"] if note.startswith("optimizer.learning_rate was tuned"))
    return note.partition(": ")[2].rstrip(".").replace(";", ",")


def _above_baseline(s: Summary, arm: str) -> str:
    """Return how many points of a method beat the image-independent baseline on every axis."""
    signs = np.array([1 if a["metric"]["direction"] == "max" else -1 for a in s["axes"]])
    baseline = signs * [s["prior"][a["column"]] for a in s["axes"]]
    means = [signs * p["means"] for p in s["points"] if p["arm"] == arm]
    return f"{sum((m > baseline).all() for m in means)} of {len(means)}"


def in_readme(s: Summary) -> str:
    """Return what README says of the primary comparison."""
    (first,) = (c for c in s["comparisons"] if c["is_primary"])
    (a, b), test = first["hypervolumes"], first["test"]
    return (
        f"{(a - b) / b:+.1%} hypervolume beside fixed weighting (p = {test['p']:.3f}, "
        f"{test['num_seeds']} seeds)"
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
    axes = " and ".join(f"{a['task']} {a['metric']['name']}" for a in s["axes"])
    return f"- Over the priorities, {axes} run from {'; '.join(parts)}."


def units(s: Summary, *others: Summary) -> str:
    """Return, for each method, how far its points move where a loss has another unit."""
    before = _means(s)
    axes = " and ".join(f"{a['task']} {a['metric']['name']}" for a in s["axes"])
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
    return f"- With the depth loss in other units, points move: {'; '.join(lines)} ({axes})."


def _means(s: Summary) -> dict[tuple[str, tuple[float, ...]], list[float]]:
    points = (p for p in s["points"] if p["priorities"] is not None)
    return {(p["arm"], tuple(p["priorities"])): p["means"] for p in points}


def evenness(data: str, s: Summary) -> str:
    """Return the row of how equal the loss scales end, and from which epoch on they are."""
    cells = []
    for held in s["sections"]["trends"]["methods"]:
        epochs = held["even_from_epoch"]
        since = "never" if None in epochs else f"from epoch {max(epochs)} on"
        ratio = float(np.median(held["largest_over_smallest_loss_scale"]))
        cells.append(f"{held['method']} {ratio:.3g} ({since})")
    return f"| {data} | {' | '.join(cells)} |"


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
        + f"; smallest that so many would settle: {smallest}."
    )


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
    axes = " and ".join(f"{a['task']} {a['metric']['name']}" for a in s["axes"])
    return f"- {'; '.join(parts)} ({axes}, {len(s['points'][0]['seeds'])} seeds)."


def _off(held: Mapping[str, Any]) -> list[tuple[float, float]]:
    return list(zip(held["mean_gains"], held["least_gains"], strict=True))


SCENES = "Simple scenes"
README = Claim(("three_points",), in_readme)
CLAIMS: tuple[Claim, ...] = (
    Claim(("three_points",), partial(front, f"{SCENES}; tuned at three priorities")),
    Claim(("one_point",), partial(front, f"{SCENES}; tuned at equal priorities")),
    Claim(("rate_004",), partial(front, SCENES)),
    Claim(("rate_008",), partial(front, SCENES)),
    Claim(("camvid",), partial(front, "CamVid; tuned at three priorities")),
    Claim(("three_points",), partial(settled, f"{SCENES}, tuned at three priorities")),
    Claim(("one_point",), partial(settled, f"{SCENES}, tuned at equal priorities")),
    Claim(("three_points",), reach),
    Claim(("three_points",), partial(control, f"{SCENES}, tuned at three priorities")),
    Claim(("rate_004",), partial(control, f"{SCENES}, .004 for both")),
    Claim(("camvid",), partial(control, "CamVid")),
    Claim(("rate_004", "unit_tenth", "unit_ten"), units),
    Claim(("trends_three",), partial(evenness, "depth, normal and segmentation")),
    Claim(("fork_half",), partial(forks, "a half")),
    Claim(("mixed",), mixed),
)
