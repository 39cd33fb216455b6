"""A plan for people and for machines."""

from collections.abc import Collection
from typing import Any

from mtl.spec import RunSpec
from mtl.spec.methods import METHODS
from sweeps.plan.cost import Estimate
from sweeps.plan.fields import spec_fields
from sweeps.plan.grid import Plan
from sweeps.text import counted, duration_range, priorities_text, size

MOST_ROWS = 40
"""Runs listed for people; --json lists all."""
FIRST_PERIOD_WITH_RATE = 3
"""LSB's difficulties compare the losses of two periods before."""


def plan_json(
    plan: Plan, done: Collection[str], cost: Estimate, num_to_come: int = 0
) -> dict[str, Any]:
    """Return the plan with the keys that DESIGN.md promises.

    Args:
        plan: the runs.
        done: ids of those that are done.
        cost: of those to do.
        num_to_come: runs at most that a refinement adds, whose priorities are not known yet; named
            only where there are any.
    """
    to_come = {"most_refinement_runs": num_to_come} if num_to_come else {}
    return {
        "num_runs": len(plan.specs),
        "num_done": len(done),
        "runs": [
            {"run_id": run_id, "spec": spec.to_dict(), "done": run_id in done}
            for run_id, spec in zip(plan.run_ids, plan.specs, strict=True)
        ],
        "expected_seconds": [round(seconds, 1) for seconds in cost.seconds],
        "expected_bytes": cost.num_bytes,
        **to_come,
    }


def refinement_note(num_points: int, num_runs: int) -> str:
    """Return what `--refine` adds once the grid is trained."""
    what = "priority" if num_points == 1 else "priorities"
    return (
        f"--refine adds {num_points} {what} in the widest gaps of the measured front once these "
        f"runs are done: {counted(num_runs, 'run')} at most, not counted below."
    )


def plan_notes(plan: Plan) -> list[str]:
    """Return what a user should know of the methods of a plan."""
    too_short = [
        spec
        for spec in plan.specs
        if spec.method == "lsb" and _num_periods(spec) < FIRST_PERIOD_WITH_RATE
    ]
    short = []
    if "method_options.increase_rate" in plan.varies and too_short:
        short.append(
            f"An increase rate acts from period {FIRST_PERIOD_WITH_RATE} on: runs of "
            f"{counted(max(spec.epochs for spec in too_short), 'epoch')} are alike at every rate."
        )
    in_parts = {
        spec.method
        for spec in plan.specs
        if spec.micro_batches > 1 and METHODS[spec.method].needs_gradients
    }
    return short + [
        f"{method} compares the gradients of each micro-batch, not those of the whole batch."
        for method in sorted(in_parts)
    ]


def _num_periods(spec: RunSpec) -> int:
    if spec.period_steps is None:
        return spec.epochs // spec.period_epochs
    return spec.epochs * spec.steps_per_epoch // spec.period_steps


def plan_text(
    plan: Plan, done: Collection[str], failed: Collection[str], cost: Estimate, concurrency: int
) -> str:
    """Return the plan as a table with its sums.

    Args:
        plan: the runs.
        done: ids of those that are done.
        failed: ids of those that failed earlier and would not be tried again.
        cost: of the others.
        concurrency: runs side by side.
    """
    shown_apart = {"tasks", "method", "priorities", "seed", "epochs"}
    rows = [["run", "tasks", "method", "priorities", "seed", "epochs", "varies", "state"]]
    varies = [name for name in plan.varies if name not in shown_apart]
    for run_id, spec in list(zip(plan.run_ids, plan.specs, strict=True))[:MOST_ROWS]:
        state = "done" if run_id in done else "failed" if run_id in failed else "to do"
        values = _values(spec, varies)
        rows.append(
            [
                run_id,
                " ".join(spec.tasks),
                spec.method,
                priorities_text(spec),
                str(spec.seed),
                str(spec.epochs),
                values,
                state,
            ]
        )
    if not varies:
        rows = [[*row[:6], row[7]] for row in rows]
    lengths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(length) for cell, length in zip(row, lengths, strict=True)).rstrip()
        for row in rows
    ]
    if len(plan.specs) > MOST_ROWS:
        lines.append(f"... and {len(plan.specs) - MOST_ROWS:,} more; --json lists all.")
    num_to_do = len(plan.specs) - len(done) - len(failed)
    epochs_to_do = sum(
        spec.epochs
        for run_id, spec in zip(plan.run_ids, plan.specs, strict=True)
        if run_id not in done and run_id not in failed
    )
    counts = f"{counted(len(plan.specs), 'run')}: {len(done):,} done, {num_to_do:,} to do"
    counts += f" ({counted(epochs_to_do, 'epoch')})"
    if failed:
        counts += f", {len(failed):,} failed earlier (--retry-failed tries them again)"
    lines += ["", f"{counts}."]
    if num_to_do:
        lines.append(
            f"Expected: {duration_range(cost.seconds)} with {counted(concurrency, 'run')} at a "
            f"time, and {size(cost.num_bytes)} of disk; from {cost.source}."
        )
    return "\n".join(lines)


def _values(spec: RunSpec, varies: Collection[str]) -> str:
    held = spec_fields(spec)
    return " ".join(f"{name}={held[name]}" for name in varies if name in held)
