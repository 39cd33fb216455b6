"""A plan for people and for machines."""

from collections.abc import Collection
from typing import Any

from mtl.spec import OwnSpec, RunSpec, method_text
from mtl.spec.methods import needs_of
from sweeps.plan.comparisons import comparisons_of
from sweeps.plan.cost import Estimate
from sweeps.plan.fields import spec_fields
from sweeps.plan.grid import Plan
from sweeps.plan.packs import Pack, at_a_time
from sweeps.text import counted, duration_range, priorities_text, size

MAX_ROWS = 40
"""Runs listed for people; --json lists all."""
FIRST_PERIOD_WITH_RATE = 3
"""LSB's difficulties compare the losses of two periods before."""


def plan_json(
    plan: Plan, done: Collection[str], cost: Estimate, num_to_come: int = 0
) -> dict[str, Any]:
    """Return what `--plan --json` prints; its keys are stable.

    Args:
        plan: the runs.
        done: ids of those that are done.
        cost: of those to do.
        num_to_come: runs at most that a refinement adds, named only where there are any.
    """
    held = {
        "num_runs": len(plan.specs),
        "num_done": len(done),
        "runs": [
            {"run_id": run_id, "spec": spec.to_dict(), "done": run_id in done}
            for run_id, spec in plan.runs.items()
        ],
        "expected_seconds": (
            [round(seconds, 1) for seconds in cost.seconds] if cost.is_known else None
        ),
        "expected_bytes": cost.num_bytes,
    }
    return held | ({"most_refinement_runs": num_to_come} if num_to_come else {})


def refinement_note(num_points: int, num_runs: int) -> str:
    """Return what `--refine` adds once the grid is trained."""
    what = "priority" if num_points == 1 else "priorities"
    return (
        f"--refine then adds {num_points} {what} where the measured front needs them: at most "
        f"{counted(num_runs, 'run')}, not counted here."
    )


def plan_notes(plan: Plan) -> list[str]:
    """Return what a user should know of the methods of a plan."""
    short, in_parts, num_mixed = 0, set(), 0
    for spec in plan.specs:
        if isinstance(spec, OwnSpec):
            continue
        num_mixed += spec.is_mixed
        if spec.method == "lsb" and _num_periods(spec) < FIRST_PERIOD_WITH_RATE:
            short = max(short, spec.epochs)
        if spec.micro_batches > 1 and needs_of(spec.method).needs_gradients:
            in_parts.add(spec.method)
    notes = [
        f"{method} compares the gradients of each micro-batch, not those of the whole batch."
        for method in sorted(in_parts)
    ]
    if short and "method_options.increase_rate" in plan.varies:
        notes.append(
            f"An increase rate acts from period {FIRST_PERIOD_WITH_RATE} on: runs of "
            f"{counted(short, 'epoch')} are alike at every rate."
        )
    if num_mixed:
        notes.append(
            f"{num_mixed:,} of the runs are mixed, networks between two forks: they train no "
            "epochs, and take a pass over the training images and an evaluation each."
        )
    compared = comparisons_of(plan)
    return [*notes, *(compared.to_text() if compared is not None else [])]


def _num_periods(spec: RunSpec) -> int:
    if spec.period_steps is None:
        return spec.epochs // spec.period_epochs
    return spec.epochs * spec.steps_per_epoch // spec.period_steps


def sums_text(
    plan: Plan,
    done: Collection[str],
    failed: Collection[str],
    cost: Estimate,
    slots: int,
    pack: Pack = 1,
) -> str:
    """Return how many runs are done, failed earlier and to do, and what the last of these cost."""
    to_do = plan.without({*done, *failed})
    epochs = sum(
        spec.own_epochs if isinstance(spec, RunSpec) else spec.epochs or 0
        for spec in to_do.values()
    )
    text = f"{counted(len(plan.specs), 'run')}: {len(done):,} done, {len(to_do):,} to do"
    if to_do:
        text += f" ({counted(epochs, 'epoch')})" if epochs else ""
    if failed:
        text += f", {len(failed):,} failed earlier (--retry-failed tries them again)"
    return f"{text}.{expected_text(cost, slots, pack) if to_do else ''}"


def expected_text(cost: Estimate, slots: int, pack: Pack = 1, at_most: str = "") -> str:
    """Return the line that says what an estimate expects."""
    if not cost.is_known:
        return f"\nExpected: {cost.source}; {at_a_time(slots, pack)}."
    written = f", checkpoints write up to {size(cost.written_bytes)}" if cost.written_bytes else ""
    return (
        f"\nExpected: {at_most}{duration_range(cost.seconds)} with {at_a_time(slots, pack)}, "
        f"{size(cost.num_bytes)} of disk{written}; from {cost.source}."
    )


def runs_text(plan: Plan, done: Collection[str], failed: Collection[str]) -> str:
    """Return a table of the runs."""
    columns = {"tasks", "method", "priorities", "seed", "epochs", "mixed_between"}
    varies = [name for name in plan.varies if name not in columns]
    rows = [["run", "tasks", "method", "priorities", "seed", "epochs", "state", "varies"]]
    for run_id, spec in list(plan.runs.items())[:MAX_ROWS]:
        state = "done" if run_id in done else "failed" if run_id in failed else "to do"
        held = spec_fields(spec)
        values = " ".join(f"{name}={held[name]}" for name in varies if name in held)
        settings = (" ".join(spec.tasks), method_text(spec), priorities_text(spec))
        is_mixed = isinstance(spec, RunSpec) and spec.is_mixed
        epochs = "-" if is_mixed else str(spec.epochs or "-")
        rows.append([run_id, *settings, str(spec.seed), epochs, state, values])
    if not varies:
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if len(plan.specs) > MAX_ROWS:
        lines.append(f"... and {len(plan.specs) - MAX_ROWS:,} more; --json lists all.")
    return "\n".join(lines)
