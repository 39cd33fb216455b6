"""What a sweep says when it starts and when it ends."""

import sys

from mtl.store import Store
from sweeps.budget import runs_within
from sweeps.cli import Execution
from sweeps.cost import Estimate
from sweeps.plan import Plan
from sweeps.progress import Snapshot, SweepProgress
from sweeps.words import counted, duration_range, failure_sentence, run_text


def budget_text(cost: Estimate, hours: float, concurrency: int) -> str:
    """Return how many runs a budget should hold, data and start included."""
    training = sum(map(sum, cost.run_seconds.values())) / 2 / concurrency
    before = max(0.0, sum(cost.seconds) / 2 - training)
    centres = [sum(seconds) / 2 for seconds in cost.run_seconds.values()]
    within = runs_within(centres, concurrency, 3600 * hours - before)
    return f"A budget of {hours:g} h should hold {within:,} of {counted(len(centres), 'run')}."


def out_of_time_text(snapshot: Snapshot, execution: Execution) -> str:
    """Return what is left when a budget is spent, and how long that would take."""
    left = snapshot.waiting
    return (
        f"The budget of {execution.budget_hours:g} h leaves no time for "
        f"{counted(left, 'run')} more; {'it' if left == 1 else 'they'} would take "
        f"{duration_range(snapshot.seconds_left)}. The same command continues."
    )


def say_start(
    plan: Plan, progress: SweepProgress, num_failed: int, cost: Estimate, concurrency: int
) -> None:
    """Print how many runs are done and to do, and how long those take."""
    num_to_do = len(cost.run_seconds)
    counts = f"{counted(len(plan.specs), 'run')}: {len(progress.done):,} done, {num_to_do:,} to do"
    if num_failed:
        counts += f", {num_failed:,} failed earlier and left alone (--retry-failed tries them)"
    print(f"{counts}.")
    if num_to_do:
        print(
            f"Expected: {duration_range(cost.seconds)} with {counted(concurrency, 'run')} at a "
            f"time (from {cost.source}).",
            flush=True,
        )


def say_end(store: Store, plan: Plan, progress: SweepProgress) -> None:
    """Print how many runs are done, and why the first failed if any did."""
    print(f"{len(progress.done)} of {counted(len(plan.specs), 'run')} done.")
    failed = [r for r in plan.run_ids if r in progress.failed]
    if failed:
        print(
            f"{counted(len(failed), 'run')} failed; the first is {failed[0]} "
            f"({run_text(progress.runs[failed[0]])}): {failure_sentence(store.error(failed[0]))} "
            f"See {store.place(store.run_key(failed[0], 'error.txt'))}; --retry-failed tries "
            "again.",
            file=sys.stderr,
        )
