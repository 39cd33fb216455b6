"""All that a report says, computed once: every number in a figure, table or sentence is in here."""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.fronts import (
    OperatingPoint,
    Reference,
    Spread,
    baseline_point,
    hypervolume,
    means_of,
    operating_points,
    reference_point,
    spreads,
    unusable,
)
from analysis.compute.inference import PermutationTest, seed_level_test
from analysis.compute.significance import SIGNIFICANCE, holm
from analysis.load.axes import NONE, Axis, priority_texts
from analysis.load.groups import common_fields
from analysis.load.matched import Settings, by_arm, matched_runs
from analysis.load.metrics import Declared
from analysis.load.priorities import PRIORITY_PREFIX
from analysis.load.runs import STATES, Baselines, Loaded, RunState, trained_arm
from analysis.load.text import counted
from mtl.spec.strict import flat

MANIFEST_FIELDS = (
    "code_version", "environment", "data.name", "data.label", "data.folder_hash", "hardware",
    "execution.packed",
)  # fmt: skip
"""Parts of a manifest, dotted, that the provenance shows with all below them."""
ALIKE = {"code_version": "versions of the code", "data.folder_hash": "versions of the data"}
"""Manifest fields that make runs doubtful to compare where they differ -> what to call them."""
MORE_POINTS = "more points alone raise a hypervolume"


@dataclass(frozen=True)
class Comparison:
    """Two methods' hypervolumes set side by side, or why that must not be done."""

    arm_a: str
    arm_b: str
    test: PermutationTest | None = None
    is_primary: bool = False
    """Whether it was declared before training to be the one that counts without correction."""
    p_adjusted: float | None = None
    """Holm-adjusted over all pairs of the report but the primary one, whose p stands."""
    minimum_p_adjusted: float | None = None
    """The same if every pair came out as extreme as its seeds allow."""
    why_not: str | None = None
    """Why there is no test."""
    hypervolumes: tuple[float, ...] = ()
    """Of the first and second method; empty where they must not be set side by side."""
    num_priorities: int = 0
    """Priorities that both methods have; their runs there with the seeds below are compared."""
    seeds: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    """What only one of them has, one sentence each; empty where both have the same runs."""

    @property
    def untested(self) -> bool:
        """Return whether the hypervolumes stand side by side though without a test."""
        return self.test is None and bool(self.hypervolumes)

    @property
    def is_significant(self) -> bool:
        """Return whether the difference is statistically significant."""
        return self.p_adjusted is not None and self.p_adjusted < SIGNIFICANCE

    @property
    def winner(self) -> str | None:
        """Return the method with the larger hypervolume if the difference is significant."""
        if not self.is_significant or not self.hypervolumes:
            return None
        first, second = self.hypervolumes
        return self.arm_a if first > second else self.arm_b

    @property
    def shared(self) -> str:
        """Return in words on what the methods are compared."""
        priorities = counted(self.num_priorities, "priority", "priorities")
        seeds = counted(len(self.seeds), "seed", "seeds")
        return f"the {priorities} and {seeds} that both have in full"


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from."""

    common: Mapping[str, Any]
    """Dotted spec field -> value that all runs share."""
    varies: Mapping[str, tuple[str, ...]]
    """What differs between the runs -> its values, in words."""
    recorded: Mapping[str, Mapping[str, int]]
    """Dotted manifest field -> value -> number of runs."""
    selections: tuple[str, ...]
    """Rules by which the reported epoch of a run was chosen."""


@dataclass(frozen=True)
class Findings:
    """Values behind every figure, table and sentence of a report."""

    axes: tuple[Axis, ...]
    runs: pd.DataFrame
    """Usable runs, as `Loaded.runs`."""
    points: tuple[OperatingPoint, ...]
    reference: Reference | None
    hypervolumes: Mapping[str, float]
    """Arm -> hypervolume; only arms that may be shown together, or the only one with priorities."""
    baseline_hypervolume: float | None
    """Of the image-independent baseline as a single point, 0 where it is worse than the reference
    on any axis; None unless it is known on every axis."""
    primary: tuple[str, ...]
    """The two methods whose comparison was declared before training; empty where none was."""
    comparisons: tuple[Comparison, ...]
    spreads: tuple[Spread, ...]
    states: tuple[RunState, ...]
    prior: Mapping[str, float]
    provenance: Provenance
    notes: tuple[str, ...]
    searched: bool = False
    """Whether a search chose each method's points, with the method's own tuned settings."""
    tuned: tuple[str, ...] = ()
    """Dotted spec fields in which each method has a value of its own."""
    baselines: Baselines = field(default_factory=dict)
    """Of single-task runs under the same settings; maybe empty."""
    declared: Declared = field(default_factory=dict)
    """What the runs say of the metrics of each task."""
    mixed: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Usable networks that are mixed and not trained, as `Loaded.mixed`; in no other value."""
    mixed_points: tuple[OperatingPoint, ...] = ()
    """Of these; nondominated among themselves."""

    @functools.cached_property
    def arms(self) -> tuple[str, ...]:
        """Return every arm that was asked for, in plan order; it fixes colour and marker.

        Mixed networks are drawn as those of their forks' arm.
        """
        arms = (trained_arm(state.arm) for state in self.states if state.arm is not None)
        return tuple(dict.fromkeys(arms))

    @property
    def networks(self) -> pd.DataFrame:
        """Return the usable runs, trained and mixed, of which one may choose a network."""
        return self.runs if self.mixed.empty else pd.concat([self.runs, self.mixed])

    def shown_priorities(self, priorities: tuple[float, ...] | None, *, empty: str = NONE) -> str:
        """Return priorities as all of this report writes them; `empty` for None."""
        return empty if priorities is None else self._priority_texts[priorities]

    @functools.cached_property
    def _priority_texts(self) -> dict[tuple[float, ...], str]:
        return priority_texts(s.priorities for s in self.states if s.priorities is not None)

    @property
    def single_points(self) -> tuple[str, ...]:
        """Return the arms that take no priorities and so have one operating point."""
        return tuple(point.arm for point in self.points if point.priorities is None)

    @property
    def counts(self) -> dict[str, int]:
        """Return state -> number of runs, only states that occur."""
        counted = Counter[str](state.state for state in self.states)
        return {state: counted[state] for state in STATES if state in counted}


def find(
    loaded: Loaded,
    axes: tuple[Axis, ...],
    tuned: Sequence[str] = (),
    primary: Sequence[str] = (),
    *,
    searched: bool = False,
    is_over: bool = True,
) -> Findings:
    """Return all findings on `loaded`, judged by `axes`.

    `tuned` is that of `common_fields`, `primary` and `searched` those of
    `analysis.load.groups.Group`. Without `is_over` no methods are compared: whoever looks again and
    again and stops where it suits finds differences where there are none. Otherwise a `UserError`
    refuses runs that differ in anything but what is compared.
    """
    common = common_fields(loaded.fields, tuned) if is_over else {}
    excluded: dict[str, str] = {}
    for held in (loaded.runs, loaded.mixed):
        excluded |= {} if held.empty else unusable(held, axes)
    states = tuple(
        replace(state, state="excluded", reason=excluded[state.run_id])
        if state.run_id in excluded
        else state
        for state in loaded.states
    )
    runs, mixed = (_without(held, excluded) for held in (loaded.runs, loaded.mixed))
    mixed = _nearest_forks(mixed)
    recorded = _recorded(loaded.manifests)
    notes = [
        *loaded.notes,
        *(
            f"Run {state.run_id} is left out, its files are damaged: {state.reason}"
            for state in states
            if state.state == "damaged"
        ),
        *_left_out(excluded),
        *_tuned_apart(loaded, tuned),
        *(
            f"The runs come from {len(recorded[name])} {what}; see the provenance."
            for name, what in ALIKE.items()
            if len(recorded.get(name, ())) > 1
        ),
    ]
    prior = {axis.column: loaded.prior[axis.column] for axis in axes if axis.column in loaded.prior}
    points = operating_points(runs, axes)
    reference = reference_point(runs, axes) if axes else None
    baseline = baseline_point(axes, prior)
    baseline_hypervolume = None
    if reference is not None and baseline is not None:
        baseline_hypervolume = hypervolume(np.array([baseline]), reference, axes)
    comparisons: tuple[Comparison, ...] = ()
    if is_over:
        comparisons = compare_arms(
            runs, points, axes, reference, searched=searched, primary=primary
        )
    return Findings(
        axes=axes,
        runs=runs,
        points=points,
        reference=reference,
        hypervolumes=_hypervolumes(points, comparisons, axes, reference),
        baseline_hypervolume=baseline_hypervolume,
        primary=tuple(primary),
        comparisons=comparisons,
        spreads=spreads(points, axes, prior),
        states=states,
        prior=prior,
        provenance=Provenance(
            common=common,
            varies=_varies(states),
            recorded=recorded,
            selections=tuple(dict.fromkeys(map(str, runs.get("selection", ())))),
        ),
        notes=tuple(notes),
        searched=searched,
        tuned=tuple(tuned),
        baselines=loaded.baselines,
        declared=loaded.declared,
        mixed=mixed,
        mixed_points=operating_points(mixed, axes),
    )


def _without(runs: pd.DataFrame, excluded: Mapping[str, str]) -> pd.DataFrame:
    if runs.empty or not excluded:
        return runs
    return runs[~runs["run_id"].isin(list(excluded))].reset_index(drop=True)


def _nearest_forks(mixed: pd.DataFrame) -> pd.DataFrame:
    """Return mixed runs, at the same priorities and seed that of the forks nearest to each other.

    Two sweeps may mix the same priorities of different forks.
    """
    if mixed.empty:
        return mixed
    apart = mixed["mixed_between"].map(lambda ends: round(math.dist(*ends), 9))
    priorities = [str(name) for name in mixed if str(name).startswith(PRIORITY_PREFIX)]
    nearest_first = mixed.loc[apart.sort_values(kind="stable").index]
    kept = nearest_first.drop_duplicates(["arm", "seed", *priorities])
    return kept.sort_index().reset_index(drop=True)


def _tuned_apart(loaded: Loaded, tuned: Sequence[str]) -> list[str]:
    """Return one sentence for each tuned field with every arm's values."""
    notes = []
    arms = {state.run_id: str(state.arm) for state in loaded.states}
    for name in tuned:
        held: dict[str, dict[str, None]] = {}
        for run_id, fields in loaded.fields.items():
            if name in fields:
                held.setdefault(arms[run_id], {})[str(fields[name])] = None
        each = "; ".join(f"{arm} {' and '.join(values)}" for arm, values in held.items())
        if each:
            notes.append(f"{name} was tuned for each method by itself: {each}.")
    return notes


def _left_out(excluded: Mapping[str, str]) -> list[str]:
    """Return one sentence for each reason for which runs are left out."""
    by_reason: dict[str, list[str]] = {}
    for run_id, reason in excluded.items():
        by_reason.setdefault(reason, []).append(run_id)
    return [
        f"Run {ids[0]} is left out: {reason}."
        if len(ids) == 1
        else f"{len(ids)} runs are left out: {reason}. They are listed under the reasons below."
        for reason, ids in by_reason.items()
    ]


def compare_arms(
    runs: pd.DataFrame,
    points: Sequence[OperatingPoint],
    axes: Sequence[Axis],
    reference: Reference | None,
    *,
    searched: bool = False,
    primary: Sequence[str] = (),
) -> tuple[Comparison, ...]:
    """Return one comparison for each pair of arms that have priorities.

    An arm without priorities is one point and no front. p is adjusted by Holm over the tested
    pairs, but that of the two methods of `primary`, if they are one pair of arms, stands. Points
    that a search chose (`searched`) are not tested.
    """
    if reference is None:
        return ()
    fronts: dict[str, list[OperatingPoint]] = {}
    for point in points:
        if point.priorities is not None:
            fronts.setdefault(point.arm, []).append(point)
    held = by_arm(runs, axes)
    found = [
        _untested(fronts[a], fronts[b], axes, reference)
        if searched
        else _tested(held, (a, b), axes, reference)
        for a, b in itertools.combinations(fronts, 2)
    ]
    methods = {} if runs.empty else dict(zip(runs["arm"], runs["method"], strict=True))
    declared = [c for c in found if {methods[c.arm_a], methods[c.arm_b]} == {*primary}]
    if len(declared) == 1:
        found = [replace(c, is_primary=c is declared[0]) for c in found]
    return tuple(_adjusted(found))


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons with p after Holm, over all that are tested but the primary one."""
    tests = [c.test for c in comparisons if c.test is not None and not c.is_primary]
    adjusted = iter(holm([test.p for test in tests]))
    smallest = iter(holm([test.minimum_p for test in tests]))
    found = []
    for c in comparisons:
        if c.test is not None and c.is_primary:
            c = replace(c, p_adjusted=c.test.p, minimum_p_adjusted=c.test.minimum_p)
        elif c.test is not None:
            c = replace(c, p_adjusted=next(adjusted), minimum_p_adjusted=next(smallest))
        found.append(c)
    return found


def _tested(
    held: Mapping[str, Settings], pair: tuple[str, str], axes: Sequence[Axis], reference: Reference
) -> Comparison:
    """Compare at the priorities and seeds that both have: more points alone raise a hypervolume."""
    matched = matched_runs(held, pair, same_seeds=True)
    if isinstance(matched, str):
        return Comparison(*pair, why_not=matched)
    both = matched.a.metrics, matched.b.metrics
    return Comparison(
        *pair,
        seed_level_test(*both, reference, axes),
        hypervolumes=tuple(hypervolume(runs.mean(axis=1), reference, axes) for runs in both),
        num_priorities=len(matched.a.priorities),
        seeds=matched.a.seeds,
        left_out=matched.left_out,
    )


def _untested(
    points_a: Sequence[OperatingPoint],
    points_b: Sequence[OperatingPoint],
    axes: Sequence[Axis],
    reference: Reference,
) -> Comparison:
    """Set the points of a search side by side where they are equally many, of as many seeds each.

    A search chooses each method's points by their outcome on validation, so that the methods' runs
    are not exchangeable, even where both happen to have the same priorities.
    """
    a, b = points_a[0].arm, points_b[0].arm
    if len(points_a) != len(points_b):
        number = counted(len(points_a), "point", "points")
        why_not = f"{a} has {number} and {b} {len(points_b)}; {MORE_POINTS}"
        return Comparison(a, b, why_not=why_not)
    if len({point.n for point in (*points_a, *points_b)}) > 1:
        why_not = f"the points of {a} and {b} are not means over equally many seeds"
        return Comparison(a, b, why_not=why_not)
    why_not = (
        "the search chose each method's points on validation by their outcome, so no pairing of "
        "runs is exchangeable between the methods"
    )
    volumes = (hypervolume(means_of(of, of[0].arm), reference, axes) for of in (points_a, points_b))
    return Comparison(a, b, why_not=why_not, hypervolumes=tuple(volumes))


def _hypervolumes(
    points: Sequence[OperatingPoint],
    comparisons: Sequence[Comparison],
    axes: Sequence[Axis],
    reference: Reference | None,
) -> dict[str, float]:
    if reference is None:
        return {}
    whole = [c for c in comparisons if c.hypervolumes and not c.left_out]
    shown = {arm for c in whole for arm in (c.arm_a, c.arm_b)}
    if not comparisons:  # at most one method has a front
        shown = {point.arm for point in points if point.priorities is not None}
    arms = dict.fromkeys(point.arm for point in points if point.arm in shown)
    return {arm: hypervolume(means_of(points, arm), reference, axes) for arm in arms}


def _varies(states: Sequence[RunState]) -> dict[str, tuple[str, ...]]:
    known = [state for state in states if state.arm is not None]
    priorities = {state.priorities for state in known if state.priorities is not None}
    return {
        "method": tuple(dict.fromkeys(str(state.arm) for state in known)),
        "priorities": tuple(priority_texts(sorted(priorities)).values()),
        "seed": tuple(str(s) for s in sorted({s.seed for s in known if s.seed is not None})),
    }


def _recorded(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return what the manifests record about code, environment, data and hardware."""
    counts: dict[str, Counter[str]] = {}
    for manifest in manifests.values():
        for name, value in flat(manifest).items():
            shown = any(f"{name}.".startswith(f"{field}.") for field in MANIFEST_FIELDS)
            if shown and value is not None:
                counts.setdefault(name, Counter())[str(value)] += 1
    return {name: dict(counter.most_common()) for name, counter in counts.items()}


PAPER_PAIR = ("lsb", "fixed")
"""The comparison that the paper makes; it leads wherever methods are set side by side."""


def method_of(findings: Findings) -> dict[str, str]:
    """Return arm -> method, of all arms with usable runs."""
    if findings.runs.empty:
        return {}
    return dict(zip(findings.runs["arm"], findings.runs["method"], strict=True))


def prioritised_arms(findings: Findings) -> tuple[str, ...]:
    """Return the arms with two priorities or more: those of `PAPER_PAIR` first, then by plan."""
    counts = dict.fromkeys(findings.arms, 0)
    for point in findings.points:
        counts[point.arm] += point.priorities is not None
    prioritised = [arm for arm, count in counts.items() if count > 1]
    methods = method_of(findings)
    first = [arm for method in PAPER_PAIR for arm in prioritised if methods[arm] == method]
    return tuple(dict.fromkeys([*first, *prioritised]))


def every_pair(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return all pairs of arms: first the paper's, where both are there, then in their order."""
    pairs = list(itertools.combinations(arms, 2))
    if all(arm in arms for arm in PAPER_PAIR):
        return [PAPER_PAIR, *(pair for pair in pairs if set(pair) != set(PAPER_PAIR))]
    return pairs


def paper_pairs(findings: Findings, arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return only the pairs of arms of the paper's two methods; every pair where there is none."""
    methods = method_of(findings)
    first, second = ([arm for arm in arms if methods[arm] == name] for name in PAPER_PAIR)
    return list(itertools.product(first, second)) or every_pair(arms)
