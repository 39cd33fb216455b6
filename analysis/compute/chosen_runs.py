"""Which runs stand for a method where few can be shown: those at equal priorities, or nearest."""

from dataclasses import dataclass, replace

from analysis.compute.findings import PAPER_PAIR, Findings
from analysis.load.matched import ids_by_point
from analysis.load.priorities import Priorities, is_equal, nearest_to_equal
from analysis.load.text import first_listed, listed

MAX_ARMS = 6
"""Methods side by side that a reader can still follow."""
FIRST_ARMS = (*PAPER_PAIR, "equal")
"""Shown before others where not all can be: the paper's comparison."""


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


def runs_near_equal(findings: Findings) -> Choice:
    """Return the runs of each method at the setting of the grid nearest to equal priorities.

    All methods that take priorities are shown at one setting; a method that has no run there, at
    its own nearest, with a note.
    """
    settings: dict[str, list[Priorities]] = {}
    for point in findings.points:
        own = settings.setdefault(point.arm, [])
        own += [point.priorities] if point.priorities is not None else []
    arms = [arm for arm in findings.arms if arm in settings]
    first = sorted(arms, key=lambda arm: FIRST_ARMS.index(arm) if arm in FIRST_ARMS else 9)
    shown = [arm for arm in arms if arm in first[:MAX_ARMS]]
    by_seed = ids_by_point(findings.runs, [axis.task for axis in findings.axes])
    nearest = nearest_to_equal([setting for arm in shown for setting in settings[arm]])
    chosen, notes = [], []
    if nearest is not None:
        text = findings.shown_priorities(nearest)
        notes.append(
            f"Methods that take priorities are shown at equal ones, {text}."
            if is_equal(nearest)
            else f"No finished run has equal priorities; shown are those nearest to it, {text}."
        )
    for arm in shown:
        own = settings[arm]
        priorities = nearest if nearest in own else nearest_to_equal(own)
        if own and priorities != nearest:
            text = findings.shown_priorities(priorities)
            notes.append(f"{arm} has no finished run there: it is shown at {text}.")
        held = tuple(by_seed[arm, priorities].items())
        chosen.append(ChosenRuns(arm, findings.arms.index(arm), priorities, held))
    if len(shown) < len(arms):
        notes.append(f"{len(shown)} of {len(arms)} methods are shown: {listed(shown)}.")
    without = [arm for arm in findings.arms if arm not in settings]
    if without:
        notes.append(f"Without a finished run: {first_listed(without, 3)}.")
    return Choice(tuple(chosen), tuple(notes))


def one_seed(choice: Choice) -> Choice:
    """Return one run a method: of the lowest seed that all have, else of each one's lowest."""
    if not choice.chosen:
        return choice
    shared = set.intersection(*({seed for seed, _ in c.runs} for c in choice.chosen))
    common = min(shared, default=None)
    chosen = tuple(
        replace(c, runs=(next((run for run in c.runs if run[0] == common), c.runs[0]),))
        for c in choice.chosen
    )
    note = f"All pictures are of seed {common}."
    if common is None:
        each = listed([f"{c.arm} {c.runs[0][0]}" for c in chosen])
        note = f"No seed has finished with every method, so the seeds differ: {each}."
    return Choice(chosen, (*choice.notes, note))
