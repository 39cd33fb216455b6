"""What a search is asked for, from its command line; needs neither optuna nor torch."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtl.methods import METHODS
from mtl.names import checked_name
from mtl.spec import RunSpec
from sweeps.cli import Command
from sweeps.plan import Grid, grid_specs
from sweeps.search.budget import EpochBudget

LEARNING_RATE = "optimizer.learning_rate"
INCREASE_RATE = "method_options.increase_rate"
TUNED = (LEARNING_RATE, INCREASE_RATE)
"""Nuisance parameters: no task's emphasis, but every result depends on them."""
LEARNING_RATE_FACTOR = 4.0
"""Without --learning-rates: from the given one divided by this to it times this."""
DEFAULT_INCREASE_RATES = (0.002, 0.5)
SAMPLER_NAMES = ("tpe", "nsga2", "random")

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Everything that a search depends on beside its runs' common settings."""

    sampler: str
    candidates: int
    """Settings of the nuisance parameters to be tried for each method; 1 tunes nothing."""
    trials: int
    """Priorities to be tried for each method, with seed 0."""
    points: int
    """Of the trials, how many are trained with every seed and reported."""
    population: int
    """Trials that are asked for before the study hears of any of them."""
    seeds: int
    search_seed: int
    ranges: Mapping[str, Interval]
    """Dotted field of a nuisance parameter -> least and most."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the search's own options to a sweep's parser."""
    group = parser.add_argument_group("how it is searched")
    group.add_argument(
        "--sampler", default="tpe", metavar="NAME", help=f"{', '.join(SAMPLER_NAMES)} (%(default)s)"
    )
    group.add_argument(
        "--trials", type=int, metavar="N", help="priorities tried for each method (8; --quick 3)"
    )
    group.add_argument(
        "--epochs-budget",
        type=int,
        metavar="N",
        help="instead of --trials: epochs trained at most, of all methods together",
    )
    group.add_argument(
        "--points",
        type=int,
        metavar="N",
        help="of the trials, those trained with every seed and reported (5; --quick 2)",
    )
    group.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="learning rates and increase rates tried for each method, the given ones first; "
        "1 tunes nothing (4; --quick 2)",
    )
    group.add_argument(
        "--learning-rates", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range to tune in"
    )
    group.add_argument(
        "--increase-rates", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range to tune in"
    )
    group.add_argument(
        "--population", type=int, default=4, metavar="N", help="trials of a generation (4)"
    )
    group.add_argument(
        "--search-seed", type=int, default=0, metavar="N", help="of the sampler (%(default)s)"
    )


def search_bases(command: Command) -> dict[str, RunSpec]:
    """Return method -> its run with the given settings, equal priorities and seed 0.

    Raises:
        ValueError: for anything that only a grid knows, or what cannot be searched.
    """
    grid = command.grid
    if "priorities" in grid.axes:
        raise ValueError("Expected no priorities: the search chooses them. Leave them out.")
    several = [name for name, values in grid.axes.items() if len(values) > 1]
    if several or len(grid.task_sets) > 1:
        raise ValueError(
            f"Expected one value each, got several for {several[0] if several else 'tasks'}. "
            "Give each a search of its own, with another --name."
        )
    (tasks,) = grid.task_sets
    if len(tasks) < 2:
        raise ValueError(f"Expected at least 2 tasks, got {len(tasks)}: nothing to weigh.")
    for method in grid.methods:
        if not METHODS[method].takes_priorities:
            takers = sorted(name for name, needs in METHODS.items() if needs.takes_priorities)
            raise ValueError(
                f"Expected methods that take priorities ({', '.join(takers)}), got {method}."
            )
    centre = Grid(
        task_sets=grid.task_sets,
        methods=grid.methods,
        divisions=len(tasks),  # its only interior point
        seeds=1,
        fields=grid.fields,
        axes=grid.axes,
    )
    return {spec.method: spec for spec in grid_specs(centre)}


def search_options(command: Command, bases: Mapping[str, RunSpec], quick: bool) -> SearchOptions:
    """Return the search's options, checked against each other.

    Raises:
        ValueError: for wrong usage, in one sentence.
    """
    given = command.given
    checked_name(given["sampler"], SAMPLER_NAMES, "sampler")
    points = _count(given, "points", 2 if quick else 5)
    candidates = _count(given, "candidates", 2 if quick else 4)
    population = _count(given, "population", 4)
    if given["search_seed"] < 0:
        raise ValueError(f"Expected --search-seed of at least 0, got {given['search_seed']}.")
    if given["trials"] is not None and given["epochs_budget"] is not None:
        raise ValueError("Expected either --trials or --epochs-budget, got both. Leave one out.")
    trials = _count(given, "trials", max(points, 3 if quick else 8))
    if given["epochs_budget"] is not None:
        trials = _affordable(given["epochs_budget"], bases, candidates, points, command.grid.seeds)
    if trials < points:
        raise ValueError(
            f"Expected at least as many --trials as --points, got {trials} and {points}."
        )
    return SearchOptions(
        sampler=given["sampler"],
        candidates=candidates,
        trials=trials,
        points=points,
        population=population,
        seeds=command.grid.seeds,
        search_seed=given["search_seed"],
        ranges=_ranges(given, bases, candidates),
    )


def _count(given: Mapping[str, Any], name: str, default: int) -> int:
    value: int = default if given[name] is None else given[name]
    if value < 1:
        raise ValueError(f"Expected --{name} of at least 1, got {value}.")
    return value


def _affordable(
    epochs: int, bases: Mapping[str, RunSpec], candidates: int, points: int, seeds: int
) -> int:
    """Return the most trials a method that keep all methods together within `epochs`."""
    base = next(iter(bases.values()))

    def cost(trials: int) -> int:
        budget = EpochBudget(base.epochs, len(base.tasks), candidates, trials, points, seeds)
        return len(bases) * budget.num_epochs

    if cost(points) > epochs:
        raise ValueError(
            f"Expected --epochs-budget of at least {cost(points):,}, which {points} points of "
            f"{len(bases)} methods with {seeds} seeds and {candidates} candidates take, got "
            f"{epochs:,}. Use fewer --points, --seeds or --candidates."
        )
    trials = points
    while cost(trials + 1) <= epochs:
        trials += 1
    return trials


def _ranges(
    given: Mapping[str, Any], bases: Mapping[str, RunSpec], candidates: int
) -> dict[str, Interval]:
    rate = next(iter(bases.values())).optimizer.learning_rate
    ranges: dict[str, Interval] = {
        LEARNING_RATE: (rate / LEARNING_RATE_FACTOR, rate * LEARNING_RATE_FACTOR)
    }
    if any(INCREASE_RATE in parameters_of(spec) for spec in bases.values()):
        ranges[INCREASE_RATE] = DEFAULT_INCREASE_RATES
    for flag, field in (("learning_rates", LEARNING_RATE), ("increase_rates", INCREASE_RATE)):
        if given[flag] is None:
            continue
        name = f"--{flag.replace('_', '-')}"
        if candidates == 1:
            raise ValueError(f"Expected no {name} with --candidates 1, which tunes nothing.")
        if field not in ranges:
            raise ValueError(
                f"Expected no {name} for {' and '.join(bases)}, which have no increase rate."
            )
        low, high = given[flag]
        if not (0 < low < high < math.inf):
            raise ValueError(f"Expected two rising numbers above 0 after {name}, got {low} {high}.")
        ranges[field] = (low, high)
    return ranges


def parameters_of(spec: RunSpec) -> dict[str, float]:
    """Return dotted field -> value of the nuisance parameters that a run has."""
    found = {LEARNING_RATE: spec.optimizer.learning_rate}
    rate = spec.method_options.get("increase_rate")
    return found if rate is None else {**found, INCREASE_RATE: float(rate)}


def with_parameters(spec: RunSpec, params: Mapping[str, float]) -> RunSpec:
    """Return `spec` with these values of its nuisance parameters."""
    changed = replace(spec, optimizer=replace(spec.optimizer, learning_rate=params[LEARNING_RATE]))
    if INCREASE_RATE not in params:
        return changed
    options = {**spec.method_options, "increase_rate": params[INCREASE_RATE]}
    return replace(changed, method_options=options)
