"""What a search is asked for: its flags, its epochs, the parameters it tunes, the priorities.

Needs neither optuna nor torch.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtl.errors import UsageError
from mtl.spec import RunSpec
from mtl.spec.methods import METHODS, needs_of
from mtl.spec.strict import canonical_float, checked_name
from sweeps.options import Command
from sweeps.plan import Grid, grid_specs
from sweeps.plan.lattice import Point, simplex_lattice
from sweeps.text import counted

REDUCTION = 2
"""Of the candidates of a rung, one in so many goes on."""


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """Return after how many epochs candidates are compared: an eighth and a quarter of a run."""
    return tuple(sorted({max(1, epochs // 8), max(1, epochs // 4)}))


def num_promoted(num_candidates: int) -> int:
    """Return how many of a rung's candidates go on."""
    return math.ceil(num_candidates / REDUCTION)


LEARNING_RATE = "optimizer.learning_rate"
INCREASE_RATE = "method_options.increase_rate"
TUNED = (LEARNING_RATE, INCREASE_RATE)
"""Nuisance parameters: no task's emphasis, but every result depends on them."""
LEARNING_RATE_FACTOR = 4.0
"""Without --learning-rates: from the given one divided by this to it times this."""
DEFAULT_INCREASE_RATES = (0.002, 0.5)

Interval = tuple[float, float]
SAMPLER_NAMES = ("tpe", "nsga2", "random")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Everything that a search depends on beside its runs' common settings.

    Numbers of runs and epochs are of one method; every method of a search has the same.
    """

    sampler: str
    epochs: int
    """Of a full run."""
    num_tasks: int
    """Also the number of priorities at which candidates are compared."""
    candidates: int
    """Settings of the nuisance parameters that are tried for each method; 1 tunes nothing."""
    trials: int
    """Priorities that are tried for each method, with seed 0."""
    points: int
    """Of the trials, how many are trained with every seed and reported."""
    population: int
    """Trials that are asked for before the study hears of any of them."""
    seeds: int
    search_seed: int
    ranges: Mapping[str, Interval]
    """Dotted field of a nuisance parameter -> least and most."""

    @property
    def tuning_epochs(self) -> int:
        """Return the epochs trained to tune."""
        if self.candidates == 1:
            return 0
        total, before, left = 0, 0, self.candidates
        for epoch in rung_epochs(self.epochs):
            total += left * self.num_tasks * (epoch - before)
            before, left = epoch, num_promoted(left)
        return total

    @property
    def _num_continued(self) -> int:
        """Return the tuning runs that the first trials go on from: those of the best candidate."""
        return min(self.num_tasks, self.trials) if self.candidates > 1 else 0

    @property
    def num_full_runs(self) -> int:
        """Return the runs that are trained to their end."""
        return self.trials + self.points * (self.seeds - 1)

    @property
    def num_runs(self) -> int:
        """Return the runs that are begun."""
        tuning = self.candidates * self.num_tasks if self.candidates > 1 else 0
        return tuning + self.num_full_runs - self._num_continued

    @property
    def num_epochs(self) -> int:
        """Return the epochs trained in all."""
        continued = self._num_continued * rung_epochs(self.epochs)[-1]
        return self.tuning_epochs + self.num_full_runs * self.epochs - continued

    @property
    def num_batches(self) -> int:
        """Return how often workers start, all on one Ray."""
        tuning = 0
        if self.candidates > 1:
            generations = math.ceil(self.candidates / self.population)
            tuning = generations + len(rung_epochs(self.epochs)) - 1
        return tuning + math.ceil(self.trials / self.population) + (self.seeds > 1)

    def to_text(self, num_methods: int) -> str:
        """Return what `num_methods` methods take at most, for people."""
        tuning = "no tuning"
        if self.candidates > 1:
            rungs = " and ".join(map(str, rung_epochs(self.epochs)))
            tuning = (
                f"{self.candidates} candidates tuned at {self.num_tasks} priorities to epochs "
                f"{rungs} ({counted(self.tuning_epochs, 'epoch')})"
            )
        return (
            f"At most {counted(num_methods * self.num_runs, 'run')}, "
            f"{counted(num_methods * self.num_epochs, 'epoch')}. Each of "
            f"{counted(num_methods, 'method')}: {tuning}, {counted(self.trials, 'point')} tried, "
            f"{self.points} of them trained with {counted(self.seeds, 'seed')}."
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the search's own options to a sweep's parser."""
    add = parser.add_argument_group("how it is searched").add_argument
    names = ", ".join(SAMPLER_NAMES)
    add("--sampler", default="tpe", metavar="NAME", help=f"{names} (%(default)s)")
    add("--trials", type=int, metavar="N", help="priorities tried for each method (8; --quick 3)")
    add("--epochs-budget", type=int, metavar="N", help="instead of --trials: epochs in all at most")
    add(
        "--points",
        type=int,
        metavar="N",
        help="of the trials, those trained with every seed and reported (5; --quick 2)",
    )
    add(
        "--candidates",
        type=int,
        metavar="N",
        help="learning rates and increase rates tried for each method, the given ones first; "
        "1 tunes nothing (4; --quick 2)",
    )
    for flag in ("--learning-rates", "--increase-rates"):
        add(flag, type=float, nargs=2, metavar=("LOW", "HIGH"), help="range to tune in")
    add("--population", type=int, default=4, metavar="N", help="trials of a generation (4)")
    add("--search-seed", type=int, default=0, metavar="N", help="of the sampler (%(default)s)")


def search_bases(command: Command) -> dict[str, RunSpec]:
    """Return method -> its run with the given settings, equal priorities and seed 0.

    Raises:
        UsageError: for anything that only a grid knows, or what cannot be searched.
    """
    grid = command.grid
    if "priorities" in grid.axes:
        raise UsageError("Expected no priorities: the search chooses them. Leave them out.")
    if grid.tuned_from is not None:
        raise UsageError("Expected no --tuned-from: a search tunes its methods itself.")
    several = [name for name, values in grid.axes.items() if len(values) > 1]
    if several or len(grid.task_sets) > 1:
        raise UsageError(
            f"Expected one value each, got several for {several[0] if several else 'tasks'}. "
            "Give each a search of its own, with another --name."
        )
    (tasks,) = grid.task_sets
    if len(tasks) < 2:
        raise UsageError(f"Expected at least 2 tasks, got {len(tasks)}: nothing to weigh.")
    for method in grid.methods:
        if not needs_of(method).takes_priorities:
            takers = sorted(name for name, needs in METHODS.items() if needs.takes_priorities)
            raise UsageError(
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
        UsageError: for wrong usage, in one sentence.
    """
    given = command.given
    checked_name(given["sampler"], SAMPLER_NAMES, "sampler")
    if given["search_seed"] < 0:
        raise UsageError(f"Expected --search-seed of at least 0, got {given['search_seed']}.")
    if given["trials"] is not None and given["epochs_budget"] is not None:
        raise UsageError("Expected either --trials or --epochs-budget, got both. Leave one out.")
    base = next(iter(bases.values()))
    points = _count(given, "points", 2 if quick else 5)
    candidates = _count(given, "candidates", 2 if quick else 4)
    options = SearchOptions(
        sampler=given["sampler"],
        epochs=base.epochs,
        num_tasks=len(base.tasks),
        candidates=candidates,
        trials=_count(given, "trials", max(points, 3 if quick else 8)),
        points=points,
        population=_count(given, "population", 4),
        seeds=command.grid.seeds,
        search_seed=given["search_seed"],
        ranges=_ranges(given, bases, candidates),
    )
    if given["epochs_budget"] is not None:
        return _affordable(given["epochs_budget"], options, len(bases))
    if options.trials < points:
        raise UsageError(
            f"Expected at least as many --trials as --points, got {options.trials} and {points}."
        )
    return options


def _count(given: Mapping[str, Any], name: str, default: int) -> int:
    value: int = default if given[name] is None else given[name]
    if value < 1:
        raise UsageError(f"Expected --{name} of at least 1, got {value}.")
    return value


def _affordable(epochs: int, options: SearchOptions, num_methods: int) -> SearchOptions:
    """Return `options` with the most trials that keep all methods together within `epochs`."""
    chosen = replace(options, trials=options.points)
    least = num_methods * chosen.num_epochs
    if least > epochs:
        raise UsageError(
            f"Expected --epochs-budget of at least {least:,}, which {options.points} points of "
            f"{num_methods} methods with {options.seeds} seeds and {options.candidates} "
            f"candidates take, got {epochs:,}. Use fewer --points, --seeds or --candidates."
        )
    while True:
        longer = replace(chosen, trials=chosen.trials + 1)
        if num_methods * longer.num_epochs > epochs:
            return chosen
        chosen = longer


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
            raise UsageError(f"Expected no {name} with --candidates 1, which tunes nothing.")
        if field not in ranges:
            raise UsageError(
                f"Expected no {name} for {' and '.join(bases)}, which have no increase rate."
            )
        low, high = given[flag]
        if not (0 < low < high < math.inf):
            raise UsageError(f"Expected two rising numbers above 0 after {name}, got {low} {high}.")
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


MIN_PRIORITY = 0.02
"""No task is given less: at a priority of nearly 0 no method learns a task."""


def priorities_of(units: Sequence[float]) -> Point:
    """Return priorities that are uniform over the simplex for independent uniform `units`.

    Stick-breaking: of what is left of a stick of length 1, task i of K takes the share
    1 - (1 - u_i)^(1 / (K - i)), and the last task takes the rest; that is Dirichlet(1, ..., 1).
    Then the simplex is shrunk towards its centre so that every priority is at least
    `MIN_PRIORITY`, which keeps the density constant.

    Args:
        units: K - 1 numbers from 0 to 1.

    Returns:
        K positive numbers that sum to 1, to 12 digits.
    """
    num_tasks = len(units) + 1
    rest, pieces = 1.0, []
    for position, unit in enumerate(units):
        share = 1 - (1 - unit) ** (1 / (num_tasks - 1 - position))
        pieces.append(rest * share)
        rest *= 1 - share
    free = 1 - num_tasks * MIN_PRIORITY
    return tuple(canonical_float(MIN_PRIORITY + free * piece) for piece in (*pieces, rest))


def units_of(priorities: Sequence[float]) -> tuple[float, ...]:
    """Return the units of which `priorities_of` makes these priorities."""
    num_tasks = len(priorities)
    free = 1 - num_tasks * MIN_PRIORITY
    rest, units = 1.0, []
    for position, priority in enumerate(priorities[:-1]):
        piece = (priority - MIN_PRIORITY) / free
        units.append(1 - (1 - piece / rest) ** (num_tasks - 1 - position))
        rest -= piece
    return tuple(canonical_float(unit) for unit in units)


def tuning_points(num_tasks: int) -> tuple[Point, ...]:
    """Return the few priorities at which nuisance parameters are tuned.

    One for each task, which has twice the priority of every other: (2/3, 1/3) and (1/3, 2/3).
    """
    lattice = simplex_lattice(num_tasks, num_tasks + 1)[::-1]
    return tuple(tuple(map(canonical_float, point)) for point in lattice)
