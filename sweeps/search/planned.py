"""A search before it is made: its most runs, epochs, seconds and bytes, and what is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.cli import Command
from sweeps.cost import (
    TRAINING_COPIES,
    Range,
    StepKey,
    cost_model,
    estimate,
    makespan,
    stored_bytes,
)
from sweeps.machine import num_cpus, num_gpus
from sweeps.search.budget import EpochBudget, Most
from sweeps.search.decided import decided_specs, is_chosen, is_tuned
from sweeps.search.decisions import DecisionLog
from sweeps.search.options import SearchOptions
from sweeps.words import counted, duration_range, size


@dataclass(frozen=True)
class Whole:
    """What a whole search takes at most."""

    seconds: Range
    num_bytes: int
    source: str
    """Where the seconds come from, in words."""


def epoch_budget_of(bases: Mapping[str, RunSpec], options: SearchOptions) -> EpochBudget:
    """Return the budget of each method."""
    base = next(iter(bases.values()))
    return EpochBudget(
        epochs=base.epochs,
        num_tasks=len(base.tasks),
        candidates=options.candidates,
        trials=options.trials,
        points=options.points,
        seeds=options.seeds,
    )


def most_of(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, store: Store
) -> Most:
    """Return what the whole search takes at most; of the bytes what is still to come."""
    budget = epoch_budget_of(bases, options)
    log = DecisionLog(store.sweep_folder(command.name) / "decisions.jsonl")
    copies = {
        method: _copies_to_come(method, base, options, store, log) for method, base in bases.items()
    }
    return Most(
        len(bases) * budget.num_runs,
        len(bases) * budget.num_epochs,
        sum(copies[method] * stored_bytes(bases[method], command.runtime) for method in bases),
    )


def _copies_to_come(
    method: str, base: RunSpec, options: SearchOptions, store: Store, log: DecisionLog
) -> int:
    """Return how many whole runs a method's runs to come weigh in the store, at most."""
    budget = epoch_budget_of({method: base}, options)
    decided = decided_specs({method: base}, options, log)
    done = store.done(spec.run_id() for spec in decided)
    left = [spec.run_id() for spec in decided if spec.run_id() not in done]
    # What the tuning leaves keeps its optimizer's state; a run that goes on is there already.
    paused = [run_id for run_id in left if store.has_checkpoint(run_id)]
    num_tuning = budget.num_runs - budget.num_full_runs
    if is_tuned(log, method, options):
        num_tuning = 0
    if is_chosen(log, method, options):
        return len(set(left) - set(paused))
    return max(0, budget.num_full_runs - len(done)) + TRAINING_COPIES * max(
        0, num_tuning - len(paused)
    )


def plan_json(
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    decided: Sequence[RunSpec],
    whole: Whole,
) -> dict[str, Any]:
    """Return the keys that every sweep's plan has, for the runs decided so far, and the most.

    `num_runs`, `num_epochs` and what is expected are those of the whole search, at most.
    """
    budget = epoch_budget_of(bases, options)
    runs = [(spec.run_id(), spec) for spec in decided]
    done = set() if store is None else store.done(run_id for run_id, _ in runs)
    return {
        "num_runs": len(bases) * budget.num_runs,
        "num_epochs": len(bases) * budget.num_epochs,
        "num_done": len(done),
        "runs": [
            {"run_id": run_id, "spec": spec.to_dict(), "done": run_id in done}
            for run_id, spec in runs
        ],
        "expected_seconds": [round(s, 1) for s in whole.seconds],
        "expected_bytes": whole.num_bytes,
    }


def plan_text(
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    decided: Sequence[RunSpec],
    whole: Whole,
    concurrency: int,
) -> str:
    """Return the plan for people."""
    lines = [epoch_budget_of(bases, options).in_words(len(bases))]
    lines += [
        f"{name} from {low:.3g} to {high:.3g}"
        for name, (low, high) in options.ranges.items()
        if options.candidates > 1
    ]
    if decided and store is not None:
        done = store.done(spec.run_id() for spec in decided)
        lines.append(f"Decided so far: {counted(len(decided), 'run')}, of which {len(done)} done.")
    lines.append(
        f"Expected for all of it: at most {duration_range(whole.seconds)} with "
        f"{counted(concurrency, 'run')} at a time, and {size(whole.num_bytes)} of disk; from "
        f"{whole.source}."
    )
    return "\n".join(lines)


def expected(
    command: Command,
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    concurrency: int,
    measured_steps: Mapping[StepKey, float],
) -> Whole:
    """Return what the whole search takes, as if nothing were done yet.

    Args:
        command: of the search.
        bases: method -> its run with the given settings.
        options: of the search.
        store: where earlier runs may lie; None if there is none yet.
        concurrency: runs side by side.
        measured_steps: see `sweeps.cost.estimate`.
    """
    gpus = command.execution.gpus_per_run
    one_each = estimate(
        bases,
        store=store,
        runtime=command.runtime,
        concurrency=concurrency,
        num_cpus=num_cpus(),
        gpus_per_run=float(num_gpus() > 0) if gpus is None else gpus,
        measured_steps=measured_steps,
    )
    budget = epoch_budget_of(bases, options)
    starts = budget.num_batches(options.population) - 1
    seconds = []
    for side in (0, 1):
        runs = [one_each.run_seconds[method][side] for method in bases]
        first = one_each.seconds[side] - makespan(runs, concurrency)  # the start and the data
        work = sum(run / budget.epochs * budget.num_epochs for run in runs) / concurrency
        seconds.append(first + starts * cost_model()["start_seconds"][side] + work)
    per_run = [stored_bytes(spec, command.runtime) for spec in bases.values()]
    num_paused = budget.num_runs - budget.num_full_runs
    copies = budget.num_full_runs - 1 + TRAINING_COPIES * num_paused
    num_bytes = one_each.num_bytes + copies * sum(per_run)
    return Whole((seconds[0], seconds[1]), num_bytes, one_each.source)
