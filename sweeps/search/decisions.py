"""What a search decided, in `STORE/sweeps/NAME/decisions.jsonl`: written once, never changed.

A line is a decision: what it is about (its key) and what was decided. It holds no times, so the
same search writes the same bytes however often it was stopped.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mtl.errors import StoreError, UsageError
from mtl.spec import RunSpec
from mtl.spec.strict import flat
from sweeps.search.options import (
    Interval,
    SearchOptions,
    parameters_of,
    tuning_points,
    with_parameters,
)

SCHEMA = 1
"""Version of the lines."""

Key = tuple[Any, ...]
KEY_FIELDS: dict[str, tuple[str, ...]] = {
    "begun": ("method",),
    "candidate": ("method", "candidate"),
    "candidate_told": ("method", "candidate"),
    "rung": ("method", "rung"),
    "tuned": ("method",),
    "asked": ("method", "trial"),
    "told": ("method", "trial"),
    "chosen": ("method", "trials", "points"),
}
"""Kind of decision -> fields that say what it is about; there is one decision for each key.

begun           the settings that every later decision rests on
candidate       nuisance parameters to be tried
candidate_told  values of a candidate at the first rung, as the study has them; null: it failed
rung            candidates of a rung, the best first, and which of them go on
tuned           the nuisance parameters of all that follows
asked           priorities to be tried
told            their values, as the study has them; null: the run failed
chosen          trials that are reported, after so many trials for so many points
"""


class DecisionLog:
    """Decisions by key; made while the sweep's lock is held.

    Args:
        path: of decisions.jsonl; a torn last line, left by a killed process, is dropped.

    Raises:
        StoreError: if the file is damaged or of another schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decisions: dict[Key, dict[str, Any]] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._length = len(whole)
        for line in whole.splitlines():
            decision = self._parsed(line)
            self._decisions[_key(decision)] = decision

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            decision = json.loads(line)
            if decision["schema"] == SCHEMA and _key(decision):
                return decision
        except (ValueError, KeyError, TypeError):
            pass
        raise StoreError(
            f"Expected decisions of schema {SCHEMA} in {self._path}, got {line[:80]!r}. "
            "Give another --name; finished runs are used again."
        )

    def get(self, kind: str, *about: Any) -> dict[str, Any] | None:
        """Return what was decided, or None if nothing was yet."""
        return self._decisions.get((kind, *about))

    def decide(self, kind: str, *about: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was decided; if nothing was, decide what `make` returns and write it."""
        held = self.get(kind, *about)
        if held is not None:
            return held
        fields = dict(zip(KEY_FIELDS[kind], about, strict=True))
        text = json.dumps({"schema": SCHEMA, "decision": kind, **fields, **make()}, allow_nan=False)
        line = text.encode() + b"\n"
        with open(self._path, "ab") as file:
            file.truncate(self._length)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._length += len(line)
        # As it will be read again: lists for tuples.
        decision: dict[str, Any] = json.loads(text)
        self._decisions[_key(decision)] = decision
        return decision


def _key(decision: dict[str, Any]) -> Key:
    kind = decision["decision"]
    return (kind, *(decision[name] for name in KEY_FIELDS[kind]))


def ranges_of(base: RunSpec, options: SearchOptions) -> dict[str, Interval]:
    """Return dotted field -> range of the nuisance parameters that a method's runs have."""
    return {name: options.ranges[name] for name in parameters_of(base)}


def check_begun(log: DecisionLog, bases: Mapping[str, RunSpec], options: SearchOptions) -> None:
    """Raise a `UsageError` if the search was begun with other settings; writes nothing."""
    for method, base in bases.items():
        held = log.get("begun", method)
        if held is None:
            continue
        then, now = flat(held), flat(_settings(base, options))
        for name, value in now.items():
            if then.get(name) != value:
                raise UsageError(
                    f"Expected {name.removeprefix('spec.')} {then.get(name)}, with which this "
                    f"search was begun for {method}, got {value}. Give another --name; finished "
                    "runs are used again."
                )


def begin(log: DecisionLog, bases: Mapping[str, RunSpec], options: SearchOptions) -> None:
    """Write the settings on which every later decision rests, unless an earlier start did.

    Raises:
        UsageError: if the search was begun with others.
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


def is_chosen(log: DecisionLog, method: str, options: SearchOptions) -> bool:
    """Return whether all runs of a method are decided."""
    return log.get("chosen", method, options.trials, options.points) is not None
