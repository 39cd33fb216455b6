"""Which runs stand for a method where few can be shown: those at equal priorities, or nearest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.compute.findings import PAPER_PAIR, Findings
from analysis.load.priorities import Priorities, is_equal, nearest_to_equal, priority_column
from analysis.load.text import listed

MOST_ARMS = 6
"""Methods side by side that a reader can still follow."""
FIRST_ARMS = (*PAPER_PAIR, "equal")
"""Shown before others where not all can be: the paper's comparison."""
MOST_SEEDS = 10


@dataclass(frozen=True)
class ChosenRuns:
    """The runs of one method at one setting."""

    arm: str
    number: int
    """Place among all methods, which fixes colour and marker."""
    priorities: Priorities | None
    """None where the method takes none."""
    runs: tuple[tuple[int, str], ...]
    """(seed, run id), seeds rising, one run a seed."""


@dataclass(frozen=True)
class Choice:
    """The runs to show, and what a reader must know of how they were chosen."""

    chosen: tuple[ChosenRuns, ...]
    notes: tuple[str, ...]


def runs_near_equal(
    findings: Findings, *, most_arms: int = MOST_ARMS, most_seeds: int = MOST_SEEDS
) -> Choice:
    """Return the runs of each method at the setting of the grid nearest to equal priorities.

    All methods that take priorities are shown at one setting; a method that has no run there, at
    its own nearest, which is said. Distance is the largest difference of a priority from 1 / K;
    of settings as near, the first in rising order.

    Args:
        findings: with points and runs.
        most_arms: methods at most.
        most_seeds: runs of a method at most.
    """
    settings: dict[str, list[Priorities | None]] = {}
    for point in findings.points:
        settings.setdefault(point.arm, []).append(point.priorities)
    arms = [arm for arm in findings.arms if arm in settings]
    shown = _shown_arms(arms, most_arms)
    notes = []
    if len(shown) < len(arms):
        notes.append(f"{len(shown)} of {len(arms)} methods are shown: {listed(shown)}.")
    without = [arm for arm in findings.arms if arm not in settings]
    if without:
        few = [*without[:3], *([f"{len(without) - 3} more"] if len(without) > 3 else [])]
        notes.append(f"Without a finished run: {listed(few)}.")
    nearest = nearest_to_equal([s for arm in shown for s in settings[arm] if s is not None])
    chosen = []
    for arm in shown:
        own = [s for s in settings[arm] if s is not None]
        priorities = None if not own else nearest if nearest in own else nearest_to_equal(own)
        runs, left_out = _runs(findings, arm, priorities, most_seeds)
        if left_out:
            notes.append(f"{arm}: {len(runs)} of {len(runs) + left_out} runs are read.")
        chosen.append(ChosenRuns(arm, findings.arms.index(arm), priorities, runs))
    return Choice(tuple(chosen), (*_about(findings, chosen, nearest), *notes))


def one_seed(choice: Choice) -> Choice:
    """Return one run a method: of the lowest seed that all have, else of each one's lowest."""
    seeds = [{seed for seed, _ in c.runs} for c in choice.chosen]
    common = min(set.intersection(*seeds), default=None) if seeds else None
    chosen = [
        replace(c, runs=(next((r for r in c.runs if r[0] == common), c.runs[0]),))
        for c in choice.chosen
    ]
    if common is not None or not chosen:
        note = f"All pictures are of seed {common}."
    else:
        each = listed([f"{c.arm} {c.runs[0][0]}" for c in chosen])
        note = f"No seed has finished with every method, so the seeds differ: {each}."
    return Choice(tuple(chosen), (*choice.notes, note))


def _shown_arms(arms: Sequence[str], most: int) -> list[str]:
    first = [arm for arm in FIRST_ARMS if arm in arms]
    picked = set([*first, *(arm for arm in arms if arm not in first)][:most])
    return [arm for arm in arms if arm in picked]


def _runs(
    findings: Findings, arm: str, priorities: Priorities | None, most: int
) -> tuple[tuple[tuple[int, str], ...], int]:
    """Return the runs shown and the number of those left out."""
    mine = findings.runs[findings.runs["arm"] == arm]
    columns = [priority_column(axis.task) for axis in findings.axes]
    held = mine[columns].to_numpy(dtype=float)
    if priorities is None:
        fits = mine[np.isnan(held).any(axis=1)]
    else:
        fits = mine[np.isclose(held, priorities, rtol=0, atol=1e-9).all(axis=1)]
    found: dict[int, str] = {}
    pairs = zip(fits["seed"], fits["run_id"], strict=True)
    for seed, run_id in sorted((int(s), str(r)) for s, r in pairs):
        found.setdefault(seed, run_id)
    runs = tuple(found.items())[:most]
    return runs, len(fits) - len(runs)


def _about(
    findings: Findings, chosen: Sequence[ChosenRuns], nearest: Priorities | None
) -> list[str]:
    if nearest is None:
        return []
    text = findings.shown_priorities(nearest)
    notes = [
        f"Methods that take priorities are shown at equal ones, {text}."
        if is_equal(nearest)
        else f"No finished run has equal priorities; shown are those nearest to it, {text}."
    ]
    notes += [
        f"{c.arm} has no finished run there: it is shown at "
        f"{findings.shown_priorities(c.priorities)}."
        for c in chosen
        if c.priorities is not None and c.priorities != nearest
    ]
    return notes
