"""What docs/findings.md says, each line a function of the summaries it rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import moocore
import numpy as np

from analysis.compute.seeds import MAX_SEEDS
from analysis.compute.significance import SIGNIFICANCE, holm

Summary = Mapping[str, Any]

DATA = {
    "40f2ca9193d1ed0a": "CamVid",
    "5d626af06d1e9f86": "CamVid",
    "8d0b3be2bbfc3936": "NYUv2, 18 frames",
}
"""Hashes of prepared photographs, and what they are."""


@dataclass(frozen=True)
class Claim:
    """One line or sentence."""

    summaries: tuple[str, ...]
    """Names in tests/evidence/summaries, without .json."""
    line: Callable[..., str]
    """Makes the line of these summaries, in this order."""


@dataclass(frozen=True)
class Block:
    """A table or list of findings.md."""

    head: str
    """First line of the table; empty for a list."""
    claims: tuple[Claim, ...]


def setting(s: Summary) -> str:
    """Return what was trained: data, size, tasks, and what is not as in most sweeps."""
    common = s["common"]
    prepared = common["data.prepared"]
    data = DATA[prepared] if prepared else "Scenes"
    words = [f"{data} {common['data.height']}x{common['data.width']}: {', '.join(common['tasks'])}"]
    if (architecture := common.get("network.architecture")) != "full_sharing":
        words.append(str(architecture))
    units = {task: common.get(f"loss_units.{task}", 1) for task in common["tasks"]}
    words += [f"{task} loss x {unit:g}" for task, unit in units.items() if unit != 1]
    return ", ".join(words)


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def primary(s: Summary) -> Mapping[str, Any]:
    """Return the comparison of the two methods that the sweep declared."""
    (first,) = (c for c in s["comparisons"] if c["is_primary"])
    found: Mapping[str, Any] = first
    return found


def front(number: int, s: Summary) -> str:
    """Return the row of a primary comparison of fronts."""
    first = primary(s)
    a, b = first["hypervolumes"]
    arms = (first["arm_a"], first["arm_b"])
    baseline = [_from_baseline(s, arm) for arm in arms]
    from_baseline = f"{baseline[0] / baseline[1] - 1:+.1%}" if all(baseline) else "-"
    return row(
        str(number),
        f"{setting(s)}; {_rates(s)}",
        f"{first['num_priorities']} x {first['test']['num_seeds']}",
        f"{a:.3g} and {b:.3g}",
        f"{(a - b) / b:+.1%} ({from_baseline})",
        f"{first['test']['p']:.3f}",
        _led(first) if _holds(first) else "none",
        " and ".join(_above_baseline(s, arm) for arm in arms),
    )


def _led(comparison: Mapping[str, Any]) -> str:
    """Return the method with the larger hypervolume."""
    a, b = comparison["hypervolumes"]
    led: str = comparison["arm_a" if a > b else "arm_b"]
    return led


def _holds(comparison: Mapping[str, Any]) -> bool:
    return comparison["test"] is not None and comparison["p_adjusted"] < SIGNIFICANCE


def _from_baseline(s: Summary, arm: str) -> float:
    """Return a method's hypervolume with the image-independent baseline as the reference point."""
    means = [p["means"] for p in s["points"] if p["arm"] == arm]
    reference = [s["prior"][a["column"]] for a in s["axes"]]
    maximise = [a["metric"]["direction"] == "max" for a in s["axes"]]
    return float(moocore.hypervolume(means, ref=reference, maximise=maximise))


def _above_baseline(s: Summary, arm: str) -> str:
    """Return how many points beat the baseline on each axis by a standard error, of how many."""
    signs = _signs(s)
    baseline = signs * [s["prior"][a["column"]] for a in s["axes"]]
    points = [p for p in s["points"] if p["arm"] == arm]
    above = [
        (signs * p["means"] - np.divide(p["sds"], np.sqrt(p["n"])) > baseline).all() for p in points
    ]
    return f"{sum(map(bool, above))} of {len(points)}"


def _signs(s: Summary) -> np.ndarray:
    """Return for each axis 1 where more is better, else -1."""
    return np.array([1 if a["metric"]["direction"] == "max" else -1 for a in s["axes"]])


def _rates(s: Summary) -> str:
    """Return the learning rate of all, or of each method where they were tuned."""
    common = s["common"].get("optimizer.learning_rate")
    if common is not None:
        return f"{common:g} for all"
    (note,) = (note for note in s["notes"] if note.startswith("optimizer.learning_rate was tuned"))
    return note.partition(": ")[2].rstrip(".").replace(";", ",")


def _winners(planned: Sequence[Summary]) -> tuple[list[str], list[tuple[int, str, float]]]:
    """Return who wins planned comparisons, and which of them Holm leaves: row, winner and p."""
    firsts = [primary(s) for s in planned]
    adjusted = holm([c["test"]["p"] for c in firsts])
    left = [
        (number, _led(c), p)
        for number, (c, p) in enumerate(zip(firsts, adjusted, strict=True), 1)
        if p < SIGNIFICANCE
    ]
    return [_led(c) for c in firsts if _holds(c)], left


def headline(*planned: Summary) -> str:
    """Return how many planned comparisons each method wins, before and after correction."""
    won, left = _winners(planned)
    after = [method for _, method, _ in left]
    words = f"{after.count('lsb')} and {after.count('fixed')} are" if after else "none is"
    return (
        f"Of {len(planned)} planned comparisons with fixed weights of the raw losses "
        f"{won.count('lsb')} are for LSB and {won.count('fixed')} for fixed weights; after "
        f"correction for their number {words} left"
    )


def in_readme(*planned: Summary) -> str:
    """Return the same in fewer words."""
    won, left = _winners(planned)
    return (
        f"of {len(planned)} planned comparisons {won.count('lsb')} favour it and "
        f"{won.count('fixed')} fixed weights, {len(left) or 'none'} after correction"
    )


def scaled(*summaries: Summary) -> str:
    """Return how LSB compares with fixed weights over each loss's first value, after Holm."""
    pairs = [_pair(s, "lsb", "scaled_fixed") for s in summaries]
    ahead = [_led(c) for c in pairs].count("lsb")
    held = [_led(c) for c in pairs if _holds(c)]
    both = f"{held.count('lsb')} for LSB and {held.count('scaled_fixed')} against it"
    return (
        f"LSB's hypervolume is larger than that of `scaled_fixed` in {ahead} of {len(pairs)} "
        f"settings; significant differences: {both if held else 'none'}"
    )


def _pair(s: Summary, a: str, b: str) -> Mapping[str, Any]:
    (found,) = (c for c in s["comparisons"] if {c["arm_a"], c["arm_b"]} == {a, b})
    pair: Mapping[str, Any] = found
    return pair


def together(*planned: Summary) -> str:
    """Return which of the planned comparisons are significant with Holm over them."""
    _, left = _winners(planned)
    held = [f"{method} in row {number} (p = {p:.3f})" for number, method, p in left]
    least = max(holm([primary(s)["test"]["minimum_p"] for s in planned]))
    return (
        f"- Holm over the {len(planned)} planned comparisons, rows 1 to {len(planned)}, leaves "
        f"{'; '.join(held) or 'none'}; were all as clear as their seeds allow, each would have p = "
        f"{least:.3f}."
    )


def all_pairs(data: str, s: Summary) -> str:
    """Return the hypervolumes of all methods, and which of the other pairs are significant."""
    others = [c for c in s["comparisons"] if not c["is_primary"]]
    led = [
        f"{_led(c)} over {({c['arm_a'], c['arm_b']} - {_led(c)}).pop()}"
        for c in others
        if _holds(c)
    ]
    volumes = ", ".join(
        f"{arm} {value:.3g} ({_from_baseline(s, arm):.3g})"
        for arm, value in s["hypervolumes"].items()
    )
    pair = _pair(s, "lsb", "scaled_fixed")
    return (
        f"- {data}: {volumes}. lsb against scaled_fixed: p = {pair['p_adjusted']:.3f}; of "
        f"{len(others)} pairs beside the planned one significant: {'; '.join(led) or 'none'}."
    )


def settled(number: str, s: Summary) -> str:
    """Return the row of how many seeds settle the primary comparison."""
    (held,) = (c for c in s["sections"]["seeds"]["comparisons"] if c["is_primary"])
    base = s["hypervolumes"][held["arm_b"]]
    by_seeds = dict(zip(s["sections"]["seeds"]["planned_seeds"], held["smallest"], strict=True))
    return row(
        number,
        f"{held['settled_with']} of {held['num_seeds']}" if held["settled_with"] else "not reached",
        f"{held['mean'] / base:+.1%}",
        str(held["num_needed"] or f"over {MAX_SEEDS}"),
        f"{by_seeds[8] / base:.1%}",
        f"{by_seeds[20] / base:.1%}",
    )


def attained(number: str, s: Summary) -> str:
    """Return where more seeds of one method than of the other reach, and where they differ most."""
    held = s["sections"]["attainment"]
    a, b, seeds = held["method_a"], held["method_b"], len(held["seeds_a"])
    (one,) = held["comparisons"]
    most = one["largest_difference"]
    levels = " and ".join(
        f"{axis['task']} {axis['metric']['name']} {level:.3g}"
        for axis, level in zip(s["axes"], most["levels"], strict=True)
    )
    reach = [round(most[f"share_of_seeds_{side}"] * seeds) for side in "ab"]
    return (
        f"- {number}: more seeds of {a} than of {b} reach {one['share_of_plane_led_by_a']:.0%} of "
        f"the plane, fewer {one['share_of_plane_led_by_b']:.0%}; most apart at {levels}: "
        f"{reach[0]} seeds of {a} and {reach[1]} of {b}, of {seeds}."
    )


def untuned(number: str, s: Summary) -> str:
    """Return LSB at equal priorities minus the best point of the fixed grid; above 0 is better."""
    (held,) = s["sections"]["compute_budget"]["untuned"]
    grid = sorted(p["priorities"] for p in s["points"] if p["arm"] == held["rival"])
    best = " / ".join(f"{p:.3g}" for p in grid[held["chosen"]])
    parts = []
    for axis, sign, one in zip(s["axes"], _signs(s), held["metrics"], strict=True):
        low, high = sorted(sign * end for end in one["interval"])
        parts.append(
            f"{axis['task']} {axis['metric']['name']} {sign * one['difference']:+.3f} "
            f"({low:+.3f} to {high:+.3f})"
        )
    return (
        f"- {number}: against {held['rival']} at {best}, the best of {len(grid)} on "
        f"{held['chosen_on']}: {', '.join(parts)}."
    )


def in_between(number: str, s: Summary) -> str:
    """Return how well each method's fitted front predicts a priority that was left out."""
    parts = [
        f"{held['arm']} "
        + " and ".join(
            f"{error:.3f} ({own:.3f})"
            for error, own in zip(held["held_out_errors"], held["standard_errors"], strict=True)
        )
        for held in s["sections"]["fitted"]["fronts"]
    ]
    return f"- {number}, {_axes(s)}: {'; '.join(parts)}."


def refined(number: str, held: Summary) -> str:
    """Return how much of the whole grid's hypervolume each rule of `--refine-by` finds."""
    by_method: dict[str, list[str]] = {}
    for one in held["shares"]:
        by_method.setdefault(one["method"], []).append(f"{one['median']:.3f}")
    parts = [f"{method} {', '.join(values)}" for method, values in by_method.items()]
    return f"- {number}, {held['added']} priorities added: {'; '.join(parts)}."


def increase_rates(s: Summary) -> str:
    """Return the row of hypervolumes by increase rate, and which pairs differ."""
    rate = {arm: arm.partition("increase_rate ")[2].rstrip(")") for arm in s["hypervolumes"]}
    volumes = [f"{rate[arm]}: {value:.3f}" for arm, value in s["hypervolumes"].items()]
    alike = [
        f"{rate[c['arm_a']]} and {rate[c['arm_b']]}" for c in s["comparisons"] if not _holds(c)
    ]
    number = len({tuple(p["priorities"]) for p in s["points"]})
    seeds = s["comparisons"][0]["test"]["num_seeds"]
    return (
        f"- LSB's hypervolume by increase rate ({_rates(s)}, {number} priorities x {seeds} seeds): "
        f"{', '.join(volumes)}. After Holm all pairs differ but {'; '.join(alike)}."
    )


def control(number: str, s: Summary) -> str:
    """Return the row of how well metrics follow the priority, for each method."""
    by_arm: dict[str, list[str]] = {}
    for held in s["sections"]["controllability"]["responses"]:
        by_arm.setdefault(held["arm"], []).append(f"{held['control']['rank_correlation']:.2f}")
    cells = [f"{arm} {' and '.join(values)}" for arm, values in by_arm.items()]
    return row(number, ", ".join(s["common"]["tasks"]), "; ".join(cells))


def _axes(s: Summary) -> str:
    return " and ".join(f"{a['task']} {a['metric']['name']}" for a in s["axes"])


def reach(number: str, s: Summary) -> str:
    """Return how far each method's front reaches on each axis."""
    parts = []
    for arm in s["hypervolumes"]:
        means = np.array([p["means"] for p in s["points"] if p["arm"] == arm])
        spans = [
            f"{low:.2f} to {high:.2f}"
            for low, high in zip(means.min(axis=0), means.max(axis=0), strict=True)
        ]
        parts.append(f"{arm} {' and '.join(spans)}")
    return f"- {number}: over the priorities {_axes(s)} run from {'; '.join(parts)}."


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
        lines.append(f"{arm} {' and '.join(f'{value:.3f}' for value in largest)}")
    factors = " or ".join(f"{other['common']['loss_units.depth']:g}" for other in others)
    number = len({priorities for _, priorities in _means(others[0])})
    return (
        f"- With the depth loss times {factors} ({_rates(s)}, {number} priorities) points move by "
        f"at most {'; '.join(lines)} ({_axes(s)})."
    )


def _means(s: Summary) -> dict[tuple[str, tuple[float, ...]], list[float]]:
    points = (p for p in s["points"] if p["priorities"] is not None)
    return {(p["arm"], tuple(p["priorities"])): p["means"] for p in points}


def evenness(s: Summary) -> str:
    """Return the row of how equal the loss scales end, and from which epoch on they are."""
    cells = []
    for held in s["sections"]["trends"]["methods"]:
        epochs = held["equal_from_epoch"]
        since = "never" if None in epochs else f"from epoch {max(epochs)} on"
        cells.append(f"{held['method']} {_end_ratio(held):.3g} ({since})")
    return row(", ".join(s["common"]["tasks"]), *cells)


def _end_ratio(held: Mapping[str, Any]) -> float:
    """Return the largest over the smallest loss scale in the last epoch, median over seeds."""
    return float(np.median(held["largest_over_smallest_loss_scale"]))


def end_ratio(arm: str, s: Summary) -> str:
    """Return how unequal the two losses of a sweep end under a method at equal priorities."""
    (held,) = (m for m in s["sections"]["trends"]["methods"] if m["method"] == arm)
    return f"the raw edge loss ends at 1/{_end_ratio(held):.0f} of the segmentation loss"


def each_task(arms: Sequence[str], s: Summary) -> list[str]:
    """Return for each task what methods give, and the image-independent baseline."""
    means = {p["arm"]: p["means"] for p in s["points"]}
    number = len(s["axes"])
    return [
        row(
            str(number),
            f"{a['task']} {a['metric']['name']} ({a['metric']['direction']})",
            *(f"{means[arm][k]:.3g}" for arm in arms),
            f"{s['prior'][a['column']]:.3g}",
        )
        for k, a in enumerate(s["axes"])
    ]


def task_row(place: int, s: Summary) -> str:
    """Return one row of `each_task`."""
    return each_task(("lsb", "equal"), s)[place]


def rank_row(method: str, *tables: Summary) -> str:
    """Return a method's average ranks at equal priorities and its Delta_m, by architecture."""
    cells = []
    for s in tables:
        (held,) = (r for r in s["sections"]["method_ranks"]["summary"] if r["method"] == method)
        cells.append(f"{held['rank_avg']:.1f} ({held['delta_m_percent_tasks_first']:+.1f} %)")
    return row(method, *cells)


def rank_head(*tables: Summary) -> str:
    """Return the first row of the table of ranks: architectures, seeds and trials."""
    cells = []
    for s in tables:
        held = s["sections"]["method_ranks"]["summary"]
        trials = sum(r["num_trials"] for r in held)
        seeds = trials // len(held)
        cells.append(f"{s['common']['network.architecture']}: {seeds} seeds, {trials} trials")
    return row("*seeds and trials*", *cells)


def told_apart(s: Summary) -> str:
    """Return whether methods differ in single metrics, and whether pairs could be told apart."""
    held = s["sections"]["method_ranks"]
    differing = [b for b in held["blocks"] if b["p"] < SIGNIFICANCE]
    largest = max(b["p"] for b in held["blocks"])
    could = held["min_attainable_p"] * held["num_tests"] < SIGNIFICANCE
    pairs = (
        f"{len(held['significant'])} are significant after Holm"
        if could
        else "none could be significant after Holm, whatever came out"
    )
    return (
        f"- {s['common']['network.architecture']}: methods differ in {len(differing)} of "
        f"{len(held['blocks'])} metrics (Friedman over whole seeds, p up to {largest:.1g}). Of "
        f"{held['num_tests']} tests of two methods in one metric {pairs}."
    )


def forks(data: str, method: str, held: Summary) -> str:
    """Return the row of a method's forked front beside its full one."""
    (one,) = (one for one in held["ways"] if one["method"] == method)
    n = one["num_priorities"]
    share = (1 - one["cost"]) * n / (n - 1)  # cost = (share + (1 - share) * n) / n
    low, high = one["seed_range"]
    return row(
        f"{share:.2g}",
        f"{data}; {n} x {one['num_seeds']}",
        method,
        f"{one['cost']:.2f}",
        f"{one['ratio']:.3f}",
        f"{one['seed_ratio']:.3f} ({low:.2f} to {high:.2f})",
        " and ".join(f"{shift:.1f}" for shift in one["largest_shift"]),
    )


def mixed(arm: str, s: Summary) -> str:
    """Return the row of what networks half-way between neighbouring forks give."""
    (held,) = (d for d in s["sections"]["dial"]["dials"] if d["arm"] == arm)
    share = s["common"]["forked_after"] / s["common"]["epochs"]
    off = " and ".join(
        f"{mean:+.3f} ({least:+.3f})"
        for mean, least in zip(held["mean_gains"], held["least_gains"], strict=True)
    )
    return row(
        f"{setting(s)}; forked after {share:.2g}, {len(held['seeds'])} seeds",
        arm,
        f"{held['num_forks']} and {len(held['points'])}",
        off,
        f"{held['hypervolume'] / held['hypervolume_forks']:.3f}",
    )


PLANNED = (
    "one_point", "depth_normal", "normal_segmentation", "photographs", "camvid", "column", "rgbd",
)  # fmt: skip
ADDED = (
    "three_points", "rate_004", "rate_008", "unit_tenth", "unit_ten",
    "four_normal_segmentation", "four_depth_normal",
)  # fmt: skip
ROWS = tuple(enumerate((*PLANNED, *ADDED), 1))
"""Of the first table."""
SCALED = ("one_point", "four_normal_segmentation", "four_depth_normal", "photographs", "rgbd")
TABLES = ("table_columns", "table_decoders", "table_sharing")
RANKED = (
    "torchjd:CAGrad", "gls", "lsb", "torchjd:UPGrad", "imtl_l", "scaled_fixed", "uncertainty",
    "equal", "dwa", "torchjd:MGDA", "gradnorm", "stch", "rlw",
)  # fmt: skip

BLOCKS = (
    Block(
        "| row | data: tasks; learning rates | priorities x seeds | lsb and fixed "
        "| difference (from the baseline) | p | winner | above the baseline |",
        tuple(Claim((name,), partial(front, number)) for number, name in ROWS),
    ),
    Block("", (
        Claim(PLANNED, together),
        Claim(("one_point",), partial(all_pairs, "Row 1")),
        Claim(("photographs",), partial(all_pairs, "Row 4")),
        Claim(("rgbd",), partial(all_pairs, "Row 7")),
        Claim(("four_normal_segmentation",), partial(all_pairs, "Row 13")),
        Claim(("four_depth_normal",), partial(all_pairs, "Row 14")),
    )),
    Block("", (
        Claim(("photographs_five",), partial(attained, "Row 4 again")),
        Claim(("four_normal_segmentation",), partial(attained, "Row 13")),
        Claim(("four_depth_normal",), partial(attained, "Row 14")),
    )),
    Block("", (
        Claim(("photographs_five",), partial(untuned, "Row 4 again")),
        Claim(("four_normal_segmentation",), partial(untuned, "Row 13")),
        Claim(("four_depth_normal",), partial(untuned, "Row 14")),
    )),
    Block(
        "| row | significant with the first | mean difference of single seeds | seeds needed "
        "| 8 seeds find | 20 seeds find |",
        tuple(Claim((name,), partial(settled, str(number))) for number, name in ROWS),
    ),
    Block("| row | tasks | each task's metric with its priority |", (
        Claim(("one_point",), partial(control, "1")),
        Claim(("depth_normal",), partial(control, "2")),
        Claim(("normal_segmentation",), partial(control, "3")),
        Claim(("photographs",), partial(control, "4")),
        Claim(("column",), partial(control, "6")),
        Claim(("three_points",), partial(control, "8")),
        Claim(("rate_004",), partial(control, "9")),
    )),
    Block("", (
        Claim(("three_points",), partial(reach, "Row 8")),
        Claim(("rate_004", "unit_tenth", "unit_ten"), units),
        Claim(("scaled_one", "scaled_tenth", "scaled_ten"), units),
    )),
    Block(
        "| tasks | largest over smallest loss scale (since when within a factor of two) | | | | |",
        tuple(Claim((f"trends_{number}",), evenness) for number in ("three", "four", "eight")),
    ),
    Block("| tasks | metric | lsb | equal | baseline |", (
        *(Claim(("trends_four",), partial(task_row, k)) for k in range(4)),
        *(Claim(("trends_eight",), partial(task_row, k)) for k in range(8)),
    )),
    Block("", (Claim(("increase_rates",), increase_rates),)),
    Block("| method | average rank, lower is better (Delta_m) | | |", (
        Claim(TABLES, rank_head),
        *(Claim(TABLES, partial(rank_row, method)) for method in RANKED),
    )),
    Block("", (Claim(("table_columns",), told_apart),)),
    Block(
        "| fork after | data; priorities x seeds | method | epochs | hypervolume of the means "
        "| of single seeds | largest shift of a point, sd |",
        (
            Claim(("fork_half",), partial(forks, "Scenes 48x64: depth, segmentation", "lsb")),
            Claim(("fork_half",), partial(forks, "Scenes 48x64: depth, segmentation", "fixed")),
            *(
                Claim((name,), partial(forks, "row 1", method))
                for name, methods in (
                    ("fork_half_small", ("lsb", "fixed")),
                    ("fork_half_more", ("scaled_fixed", "stch")),
                    ("fork_quarter", ("lsb", "fixed")),
                    ("fork_late", ("lsb", "fixed")),
                )
                for method in methods
            ),
            *(
                Claim((name,), partial(forks, data, method))
                for name, data in (
                    ("fork_photographs", "row 4"),
                    ("fork_three", "Scenes 32x48: depth, normal, segmentation"),
                )
                for method in ("lsb", "fixed")
            ),
        ),
    ),
    Block(
        "| data; fork | method | forks and mixed | off the line: mean (worst) | hypervolume x |",
        tuple(
            Claim((name,), partial(mixed, method))
            for name in ("mixed", "mixed_photographs", "mixed_three", "mixed_early", "mixed_column")
            for method in ("lsb", "fixed")
        ),
    ),
    Block("", (
        Claim(("four_normal_segmentation",), partial(in_between, "Row 13")),
        Claim(("four_depth_normal",), partial(in_between, "Row 14")),
    )),
    Block("", (
        Claim(("refined_normal_segmentation",), partial(refined, "Row 13")),
        Claim(("refined_depth_normal",), partial(refined, "Row 14")),
    )),
)  # fmt: skip
"""All tables and lists of findings.md, in its order."""
SENTENCES = (
    Claim(PLANNED, headline),
    Claim(SCALED, scaled),
    Claim(("photographs",), partial(end_ratio, "fixed")),
)
"""What the text of findings.md says."""
README = (Claim(PLANNED, in_readme),)
"""What README says."""
