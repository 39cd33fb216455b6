"""A plan for people and for machines."""

from collections.abc import Collection
from typing import Any

from mtl.methods import METHODS
from mtl.spec import RunSpec
from sweeps.cost import Estimate
from sweeps.fields import spec_fields
from sweeps.plan import Plan
from sweeps.words import counted, duration_range, priorities_text, size

MOST_ROWS = 40
"""Runs listed for people; --json lists all."""


def plan_json(plan: Plan, done: Collection[str], cost: Estimate) -> dict[str, Any]:
    """Return the plan with the keys that DESIGN.md promises; cost is that of the runs to do."""
    return {
        "num_runs": len(plan.specs),
        "num_done": len(done),
        "runs": [
            {"run_id": run_id, "spec": spec.to_dict(), "done": run_id in done}
            for run_id, spec in zip(plan.run_ids, plan.specs, strict=True)
        ],
        "expected_seconds": [round(seconds, 1) for seconds in cost.seconds],
        "expected_bytes": cost.num_bytes,
    }


def plan_notes(plan: Plan) -> list[str]:
    """Return what a user should know of the methods of a plan."""
    in_parts = {
        spec.method
        for spec in plan.specs
        if spec.micro_batches > 1 and METHODS[spec.method].needs_gradients
    }
    return [
        f"{method} compares the gradients of each micro-batch, not those of the whole batch."
        for method in sorted(in_parts)
    ]


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
