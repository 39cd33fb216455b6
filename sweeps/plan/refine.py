"""More priorities where the measured front needs them: `--refine N`.

Once the grid is trained, N priorities are added: the same ones for every method and seed, so that
arms stay matched. The validation metrics decide. STORE/sweeps/<name>/decisions.jsonl keeps what was
chosen.

`gaps`: half-way between old ones, where the front (means over seeds) is thinnest. A gap is a pair
of neighbouring points of a front. With two tasks these follow each other in priority; with more,
one division has moved from one task to another. A gap is as wide as its points are apart in the
metrics, each divided by its range over all points of all methods.

`unsure`: on the lattice of twice the divisions, where the fitted front (`analysis.compute.fitted`)
has the widest intervals, over what each metric spans, summed over methods; those beyond the old
ones count too. Two that are chosen lie a division apart, as long as there are such.

Analysis takes a second to import; only a plan with --refine needs it.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtl.errors import StoreError, UsageError
from mtl.spec import RunSpec
from mtl.spec.methods import needs_of
from mtl.spec.strict import checked_name
from mtl.store import Store
from sweeps.plan.grid import Grid, Plan
from sweeps.plan.lattice import Point, simplex_lattice
from sweeps.text import counted, utc_now

RULES = ("gaps", "unsure")
LOG = "decisions.jsonl"
SPLIT = "validation"
"""What decides where to look closer; never the test split."""
Counts = tuple[int, ...]
"""Priorities as whole counts of a lattice's divisions: (1, 5) for (1/6, 5/6)."""
Front = Mapping[Counts, Sequence[float]]
"""Priorities -> metrics of one method, means over seeds, to be minimised and finite."""
DIGITS = 9
"""Widths that agree to so many count as equal, so that a choice is the same on every machine."""


@dataclass(frozen=True)
class Decision:
    """The priorities that were added to one set of comparable runs."""

    record: Mapping[str, Any]
    """As decisions.jsonl holds it."""
    is_new: bool
    """False where an earlier start took it."""
    arms: tuple[RunSpec, ...]
    """The specs of one old priority: what is trained at each new one, seed by seed."""

    @property
    def points(self) -> list[Point]:
        """Return the priorities, in the order of the tasks."""
        return [tuple(point) for point in self.record["priorities"]]


def num_gaps(num_tasks: int, divisions: int) -> int:
    """Return the neighbours on the interior lattice: each pair of tasks can swap one division."""
    return math.comb(num_tasks, 2) * math.comb(divisions - 2, num_tasks - 1)


def check_refinable(grid: Grid, num_points: int) -> None:
    """Raise a `UsageError` for a grid without gaps, or fewer gaps than are to be filled."""
    if num_points < 1:
        raise UsageError(f"Expected --refine of at least 1, got {num_points}.")
    if not any(needs_of(method).takes_priorities for method in grid.methods):
        raise UsageError(
            f"Expected a method that takes priorities for --refine, got "
            f"{' and '.join(grid.methods)}."
        )
    if grid.mixes:
        raise UsageError(
            f"Expected --refine or --mixes, got {num_points} and {grid.mixes}: networks are mixed "
            "between the priorities of a whole grid. Leave one out."
        )
    if "priorities" in grid.axes:
        raise UsageError(
            "Expected --divisions for --refine, got priorities of your own. Leave them out."
        )
    checked_name(grid.refine_by, RULES, "rule", of="--refine-by")
    is_unsure = grid.refine_by == "unsure"
    if is_unsure:
        from analysis.compute.inference import MIN_SEEDS

        if grid.seeds < MIN_SEEDS:
            raise UsageError(
                f"Expected at least {MIN_SEEDS} seeds for --refine-by unsure, got {grid.seeds}: "
                "fewer say nothing of how sure a front is."
            )
    for tasks in grid.task_sets:
        divisions = len(tasks) if grid.divisions is None else grid.divisions
        if is_unsure:
            if math.comb(divisions - 1, len(tasks) - 1) <= len(tasks):
                raise UsageError(
                    f"Expected more than {len(tasks)} priorities of {' '.join(tasks)} for "
                    f"--refine-by unsure, to fit a front, got {divisions} divisions. Use more."
                )
            continue
        most = num_gaps(len(tasks), divisions) if divisions >= len(tasks) else 0
        if num_points > most:
            remedy = "Use more --divisions." if len(tasks) > 1 else "Name more --tasks."
            raise UsageError(
                f"Expected --refine of at most {most}, the gaps between the priorities of "
                f"{' '.join(tasks)} with {divisions} divisions, got {num_points}. {remedy}"
            )


def _groups_to_refine(plan: Plan) -> dict[str, dict[str, RunSpec]]:
    """Return label -> run id -> spec of the sets of comparable runs that take priorities."""
    from analysis.load.groups import comparable_groups

    specs = {r: spec for r, spec in plan.runs.items() if needs_of(spec.method).takes_priorities}
    return {
        label: {run_id: specs[run_id] for run_id in run_ids}
        for label, run_ids in comparable_groups(specs, plan.tuned).items()
    }


def num_added(plan: Plan, num_points: int) -> int:
    """Return the most runs that a refinement of `plan` adds."""
    return num_points * sum(map(len, map(_at_one_priority, _groups_to_refine(plan).values())))


def decide(plan: Plan, grid: Grid, num_points: int, store: Store) -> list[Decision]:
    """Return what is added to each set of comparable runs of `plan`, all of them done.

    The same results give the same decision, and one that was recorded stands.

    Raises:
        StoreError: if a result cannot be read.
    """
    recorded = _recorded(store, plan.name)
    decisions = []
    for label, group in _groups_to_refine(plan).items():
        digest = hashlib.sha256(" ".join(sorted(group)).encode()).hexdigest()[:16]
        key = {"decision": "refine", "grid": digest, "asked": num_points}
        if grid.refine_by != "gaps":  # as earlier releases wrote theirs
            key["rule"] = grid.refine_by
        of_rule = (r for r in recorded if r.get("rule") == key.get("rule"))
        earlier = [r for r in of_rule if key.items() <= r.items()]
        if earlier:
            chosen = earlier[-1]
        else:
            chosen = {**key, "group": label, **_chosen(group, grid, num_points, store)}
        decisions.append(Decision(chosen, is_new=not earlier, arms=tuple(_at_one_priority(group))))
    return decisions


def refined_plan(plan: Plan, decisions: Sequence[Decision]) -> Plan:
    """Return `plan` with the decided priorities after its own, seed 0 first."""
    added = [
        replace(spec, priorities=point)
        for decision in decisions
        for point in decision.points
        for spec in decision.arms
    ]
    added.sort(key=lambda spec: spec.seed)
    return plan.of((*plan.specs, *added))


def record(store: Store, name: str, decisions: Sequence[Decision]) -> None:
    """Add the new ones of `decisions` to decisions.jsonl, the sweep's lock held.

    All at once, and in place of a last line that a kill tore.
    """
    added = [{"time": utc_now(), **d.record} for d in decisions if d.is_new]
    if added:
        key = store.sweep_key(name, LOG)
        lines = [json.dumps(line, allow_nan=False).encode() + b"\n" for line in added]
        store.write_log(key, [*_whole_lines(store, key), *lines])


def decision_text(decision: Decision) -> str:
    """Return what was decided, for people."""
    held = decision.record
    where = f" for {held['group'].replace(',', ', ')}" if held["group"] else ""
    points = ", ".join(f"({' / '.join(f'{p:.3g}' for p in point)})" for point in decision.points)
    if not points:
        return f"Refined{where}: no priority was added. {held.get('why_none', '')}".rstrip()
    why = f"in the widest gaps of the {held['split']} front"
    if held.get("rule") == "unsure":
        why = f"where the fitted {held['split']} front is least sure"
    text = f"Refined{where}: {points} of {' '.join(held['tasks'])}, {why}"
    text += f" ({', '.join(held['metrics'])})."
    if len(decision.points) < held["asked"]:
        gaps = counted(len(decision.points), "gap" if "rule" not in held else "place")
        text += f" It has {gaps} where {held['asked']} were to be filled."
    return text


def _chosen(
    group: Mapping[str, RunSpec], grid: Grid, num_points: int, store: Store
) -> dict[str, Any]:
    from analysis.load.axes import choose_axes, signs
    from analysis.load.metrics import declared_by

    tasks = next(iter(group.values())).tasks
    divisions = grid.divisions or len(tasks)
    results = store.for_each(store.result, list(group))
    axes = choose_axes(tasks, declared=declared_by(filter(None, results), tasks))
    turn = signs(axes)
    values: dict[Any, dict[Counts, list[list[float]]]] = {}
    for spec, result in zip(group.values(), results, strict=True):
        if result is None or spec.priorities is None:
            raise UsageError("Expected a finished run with priorities, got another.")
        metrics = result.selected_metrics[SPLIT]
        arm = (spec.method, tuple(spec.method_settings.items()))
        counts = tuple(round(p * divisions) for p in spec.priorities)
        measured = [metrics[axis.task][axis.metric.name] for axis in axes]
        # A split that holds nothing to measure a task on says nothing of any priority.
        held = [value for value in measured if value is not None]
        of_arm = values.setdefault(arm, {})
        if len(held) == len(axes):
            of_arm.setdefault(counts, []).append(held)
    fronts = [
        {
            counts: [
                sign * math.fsum(of_metric) / len(of_metric)
                for sign, of_metric in zip(turn, zip(*seeds, strict=True), strict=True)
            ]
            for counts, seeds in arm.items()
        }
        for arm in values.values()
    ]
    middles: list[Middle] = []
    if not any(fronts):
        why_none = f"The {SPLIT} split measures no priority on every task."
    elif grid.refine_by == "gaps":
        middles, why_none = widest(fronts, num_points)
    else:
        middles = least_sure_places([arm for arm in values.values() if arm], num_points)
        why_none = "" if middles else "No front can be fitted to these priorities."
    return {
        "tasks": list(tasks),
        "split": SPLIT,
        "metrics": [axis.column for axis in axes],
        "priorities": [[c / (2 * divisions) for c in middle.counts] for middle in middles],
        "widths": [round(middle.width, 6) for middle in middles],
        **({"why_none": why_none} if why_none else {}),
    }


@dataclass(frozen=True)
class Middle:
    """A priority that is added."""

    counts: Counts
    """Of twice the divisions."""
    width: float
    """Of the gap, mean over the methods; a method whose front has none there counts 0. Or of the
    intervals, over what the metrics span, summed over axes and methods."""


def least_sure_places(
    arms: Sequence[Mapping[Counts, list[list[float]]]], num_points: int
) -> list[Middle]:
    """Return the priorities where the fitted fronts are least sure, the widest first.

    Args:
        arms: of each method, at least one, priorities -> metrics (seeds, axes).
        num_points: how many to choose.
    """
    import numpy as np

    from analysis.compute.fitted import fitted, relative_widths

    first = next(iter(arms[0]))
    divisions = sum(first)
    finer = simplex_lattice(len(first), 2 * divisions)
    every = (tuple(round(2 * divisions * p) for p in point) for point in finer)
    new = [counts for counts in every if any(c % 2 for c in counts)]
    found = []
    for arm in arms:
        old = sorted(arm)
        points = [[count / divisions for count in counts] for counts in old]
        held = fitted(points, np.array([arm[counts] for counts in old]))
        widths = None if held is None else relative_widths(held, np.array(new) / (2 * divisions))
        if widths is not None:
            found.append(widths)
    if not found:
        return []
    summed = zip(new, np.sum(found, axis=0).tolist(), strict=True)
    middles = sorted((Middle(counts, width) for counts, width in summed), key=_order)
    chosen: list[Middle] = []
    for least in (2, 1):  # half divisions between two that are chosen
        for middle in middles:
            near = (_steps(middle.counts, other.counts) < least for other in chosen)
            if len(chosen) < num_points and not any(near):
                chosen.append(middle)
    return chosen


def _steps(first: Counts, second: Counts) -> int:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) // 2


@dataclass(frozen=True)
class _Gap:
    middles: tuple[Counts, ...]
    """The new priorities between its ends, one in each division, in counts of twice as many."""
    width: float

    def width_at(self, counts: Counts, taken: Sequence[Counts]) -> float:
        """Return the width of the piece in which `counts` lies, the taken points cut out."""
        end = 2 * len(self.middles)
        places = {middle: 2 * k + 1 for k, middle in enumerate(self.middles)}
        cuts = [0, end, *(places[c] for c in taken if c in places)]
        place = places[counts]
        piece = min(c for c in cuts if c > place) - max(c for c in cuts if c < place)
        return self.width * piece / end


def widest(fronts: Sequence[Front], num_points: int) -> tuple[list[Middle], str]:
    """Return the priorities in the widest gaps, the widest first, and why there is none.

    One after the other is chosen. A gap that holds several is taken to be cut by each in
    proportion, so the first few of a longer list are a shorter list. Of equally wide gaps the
    most central comes first.

    Args:
        fronts: of each method, not all empty; all choose together.
        num_points: how many to choose; there are fewer where the gaps hold fewer.
    """
    metrics = zip(*(point for front in fronts for point in front.values()), strict=True)
    ranges = [max(values) - min(values) for values in metrics]
    ends = [_nondominated(front) for front in fronts]
    holding: dict[Counts, list[_Gap]] = {}
    for front, held in zip(fronts, ends, strict=True):
        for first, second in _neighbours(held):
            gap = _gap(front, first, second, ranges)
            for counts in gap.middles:
                holding.setdefault(counts, []).append(gap)
    if not holding and max(map(len, ends)) == 1:
        return [], (
            "Of each method one priority's point dominates all others, so no front has a gap to "
            "fill."
        )
    if not holding:
        return [], (
            "No two neighbouring priorities are both on a front: points between them are "
            "dominated, so there is no gap to fill."
        )
    chosen: list[Middle] = []
    while len(chosen) < min(num_points, len(holding)):
        taken = [middle.counts for middle in chosen]
        candidates = [
            Middle(counts, sum(gap.width_at(counts, taken) for gap in gaps) / len(fronts))
            for counts, gaps in holding.items()
            if counts not in taken
        ]
        chosen.append(min(candidates, key=_order))
    return chosen, ""


def _nondominated(front: Front) -> list[Counts]:
    """Return the priorities of the nondominated points, sorted."""
    import numpy as np

    from analysis.compute.fronts import nondominated

    if not front:
        return []
    kept = nondominated(np.array(list(front.values())))
    return sorted(counts for counts, keep in zip(front, kept, strict=True) if keep)


def _neighbours(front: Sequence[Counts]) -> list[tuple[Counts, Counts]]:
    if not front or len(front[0]) == 2:
        return list(itertools.pairwise(front))
    held = set(front)
    pairs = []
    for counts in front:
        for giver, taker in itertools.combinations(range(len(counts)), 2):
            other = list(counts)
            other[giver] += 1
            other[taker] -= 1
            if tuple(other) in held:
                pairs.append((counts, tuple(other)))
    return pairs


def _gap(front: Front, first: Counts, second: Counts, ranges: Sequence[float]) -> _Gap:
    length = sum(abs(a - b) for a, b in zip(first, second, strict=True)) // 2
    middles = tuple(
        tuple(2 * a + place * (b - a) // length for a, b in zip(first, second, strict=True))
        for place in range(1, 2 * length, 2)
    )
    # A metric that never changes says nothing.
    apart = [
        (a - b) / width
        for a, b, width in zip(front[first], front[second], ranges, strict=True)
        if width > 0
    ]
    return _Gap(middles, math.hypot(*apart))


def _order(middle: Middle) -> tuple[float, float, Counts]:
    centre = sum(middle.counts) / len(middle.counts)
    return (
        -round(middle.width, DIGITS),
        round(math.dist(middle.counts, [centre] * len(middle.counts)), DIGITS),
        middle.counts,
    )


def _at_one_priority(group: Mapping[str, RunSpec]) -> list[RunSpec]:
    """Return the specs of a group at its first priority: one for each arm and seed."""
    specs = list(group.values())
    return [spec for spec in specs if spec.priorities == specs[0].priorities]


def _whole_lines(store: Store, key: str) -> list[bytes]:
    """Return the lines of decisions.jsonl; a last one that a killed process tore is none."""
    try:
        lines = store.read_log(key).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith(b"\n")]


def _recorded(store: Store, name: str) -> list[dict[str, Any]]:
    """Return the decisions of earlier starts; a damaged line is a `StoreError`."""
    key, found = store.sweep_key(name, LOG), []
    for number, line in enumerate(_whole_lines(store, key), 1):
        try:
            held = json.loads(line)
        except ValueError:
            held = None
        if not isinstance(held, dict):  # runs may have been trained by it
            raise StoreError(
                f"Expected decisions in {store.place(key)}, got a damaged line {number}. Remove "
                "that line: --refine chooses again, from the same results the same priorities."
            )
        found.append(held)
    return found
