"""What earlier starts of a search have decided: the settings that must stand, and the runs."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mtl.spec import RunSpec
from mtl.strict import flat
from sweeps.search.decisions import DecisionLog
from sweeps.search.options import Interval, SearchOptions, parameters_of, with_parameters
from sweeps.search.simplex import tuning_points


def ranges_of(base: RunSpec, options: SearchOptions) -> dict[str, Interval]:
    """Return dotted field -> range of the nuisance parameters that a method's runs have."""
    return {name: options.ranges[name] for name in parameters_of(base)}


def check_begun(log: DecisionLog, bases: Mapping[str, RunSpec], options: SearchOptions) -> None:
    """Raise a `ValueError` if the search was begun with other settings; writes nothing."""
    for method, base in bases.items():
        held = log.get("begun", method)
        if held is None:
            continue
        then, now = flat(held), flat(_settings(base, options))
        for name, value in now.items():
            if then.get(name) != value:
                raise ValueError(
                    f"Expected {name.removeprefix('spec.')} {then.get(name)}, with which this "
                    f"search was begun for {method}, got {value}. Give another --name; finished "
                    "runs are used again."
                )


def begin(log: DecisionLog, bases: Mapping[str, RunSpec], options: SearchOptions) -> None:
    """Write the settings on which every later decision rests, unless an earlier start did.

    Raises:
        ValueError: if the search was begun with others.
    """
    check_begun(log, bases, options)
    for method, base in bases.items():
        log.decide("begun", method, make=partial(_settings, base, options))


def _settings(base: RunSpec, options: SearchOptions) -> dict[str, Any]:
    return {
        "spec": base.to_dict(),
        "sampler": options.sampler,
        "candidates": options.candidates,
        "population": options.population,
        "search_seed": options.search_seed,
        "ranges": {name: list(interval) for name, interval in ranges_of(base, options).items()},
    }


def decided_specs(
    bases: Mapping[str, RunSpec], options: SearchOptions, log: DecisionLog
) -> list[RunSpec]:
    """Return the runs that earlier starts have decided on, tuning included."""
    specs: dict[str, RunSpec] = {}
    for method, base in bases.items():
        points = tuning_points(len(base.tasks))
        found = []
        for i in range(options.candidates):
            candidate = log.get("candidate", method, i)
            if candidate is not None:
                tried = with_parameters(base, candidate["params"])
                found += [replace(tried, priorities=point) for point in points]
        tuned = log.get("tuned", method)
        best = base if tuned is None else with_parameters(base, tuned["params"])
        asked = [log.get("asked", method, i) for i in range(options.trials)]
        trials = [replace(best, priorities=tuple(a["priorities"])) for a in asked if a is not None]
        chosen = log.get("chosen", method, options.trials, options.points)
        confirmed = [trials[i] for i in chosen["chosen"]] if chosen is not None else []
        found += trials
        found += [replace(s, seed=seed) for s in confirmed for seed in range(options.seeds)]
        specs |= {spec.run_id(): spec for spec in found}
    return list(specs.values())


def is_tuned(log: DecisionLog, method: str, options: SearchOptions) -> bool:
    """Return whether no further run of a method will be begun to tune it."""
    return options.candidates == 1 or log.get("tuned", method) is not None


def is_chosen(log: DecisionLog, method: str, options: SearchOptions) -> bool:
    """Return whether all runs of a method are decided."""
    return log.get("chosen", method, options.trials, options.points) is not None
