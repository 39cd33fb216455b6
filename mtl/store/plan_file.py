"""What a sweep asked for, as its plan.json says; everything that reads the file does so here.

    {"schema": 1, "kind": "priority_grid",
     "primary": ["lsb", "fixed"],                   declared before there was any result; [] where
                                                    no two methods take priorities
     "tuned": ["optimizer.learning_rate"],          where the methods have own values
     "tuned_from": "lr",                            the sweep they were chosen by; not of a search
     "revisions": [{"started": ..., "run_ids": [...], "varies": {...}, "reported": false}, ...]}

A revision is what one start planned, the newest last. `"reported": false` marks trunks of forked
runs, and runs that a search has decided on to find its points; without the key a revision's runs
are what the report is on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtl.errors import StoreError
from mtl.store.local import with_schema
from mtl.store.store import Store

PLAN_SCHEMA = 1


@dataclass(frozen=True)
class PlanFile:
    """What all starts of a sweep planned."""

    kind: str
    """The sweep file that made it; empty where a file does not say."""
    revisions: tuple[Mapping[str, Any], ...]
    """The newest last; each has a list `run_ids`."""
    tuned: tuple[str, ...] = ()
    """Dotted spec fields in which the methods may differ, each having its own tuned value."""
    primary: tuple[str, ...] | None = None
    """The two methods of the primary comparison, declared before there was any result; empty where
    no two take priorities, None where none was declared, as by earlier releases."""
    tuned_from: str | None = None
    """The sweep by which the values of `tuned` were chosen; None of a search, which does it
    itself."""

    @property
    def is_search(self) -> bool:
        """Return whether the runs are those of a search, which reports what it chose last."""
        return bool(self.tuned) and self.tuned_from is None

    @property
    def run_ids(self) -> list[str]:
        """Return the run ids of all revisions, in order."""
        return _distinct(self.revisions)

    def about_absent(self, number: int) -> str:
        """Return what the command does about `number` of its runs that are not there."""
        if self.is_search:
            return (
                "its command, a search, trains only what it reports or has yet to compare; what "
                "it decided by others stands"
            )
        return f"its command trains {'it' if number == 1 else 'them'}"

    @property
    def reported(self) -> list[str]:
        """Return the runs that a report on the sweep is on, in order.

        Those of all revisions but trunks. Where methods have tuned values, those of the last one,
        since earlier ones may have had others: of a search the points that it chose last, none
        before its end.
        """
        if not self.tuned:
            return _distinct(held for held in self.revisions if held.get("reported", True))
        ends = [held for held in self.revisions if held["run_ids"] and held.get("reported", True)]
        return _distinct(ends[-1:])


def _distinct(revisions: Any) -> list[str]:
    return list(dict.fromkeys(run_id for held in revisions for run_id in held["run_ids"]))


def read_plan(store: Store, name: str) -> PlanFile:
    """Return the plan of a sweep.

    Raises:
        StoreError: if it is damaged or of another schema.
        FileNotFoundError: if there is none.
    """
    key = store.sweep_key(name, "plan.json")
    remedy = "Remove the file and start the sweep again"
    held = with_schema(store.read_json(key), PLAN_SCHEMA, "a plan", store.place(key), remedy)
    revisions: Any = held.get("revisions")
    kind, tuned, primary = held.get("kind"), held.get("tuned", []), held.get("primary", [])
    tuned_from = held.get("tuned_from")
    has_runs = isinstance(revisions, list) and all(
        isinstance(revision, dict) and _are_names(revision.get("run_ids")) for revision in revisions
    )
    if not (has_runs and _are_names(tuned) and _are_names(primary) and len(primary) in (0, 2)):
        raise StoreError(
            "Expected a plan with revisions, each with a list of run_ids, got another in "
            f"{store.place(key)}. {remedy}."
        )
    return PlanFile(
        kind if isinstance(kind, str) else "",
        tuple(revisions),
        tuple(tuned),
        tuple(primary) if "primary" in held else None,
        tuned_from=tuned_from if isinstance(tuned_from, str) else None,
    )


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(name, str) for name in values)
