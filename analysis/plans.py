"""Which runs were asked for, as the plans of sweeps say; needs no pandas."""

from collections.abc import Sequence

from analysis.axes import AnalysisError
from mtl.store import Store

PLAN_SCHEMA = 1


def planned_or_present(stores: Sequence[Store]) -> list[str]:
    """Return every run id that a plan of the stores lists, in order, then the others present."""
    present = [run_id for store in stores for run_id in store.run_ids()]
    return list(dict.fromkeys(planned(stores) + present))


def planned(stores: Sequence[Store]) -> list[str]:
    """Return every run id that a plan of the stores lists, sweeps by name, in plan order."""
    return [
        run_id
        for store in stores
        for sweep in store.sweep_names()
        for run_id in planned_runs(store, sweep)
    ]


def planned_runs(store: Store, sweep: str) -> list[str]:
    """Return the run ids of all revisions of a sweep's plan, in order.

    Raises:
        AnalysisError: if the plan is damaged or of another schema.
    """
    key = store.sweep_key(sweep, "plan.json")
    plan = store.read_json(key)
    schema = plan.get("schema") if isinstance(plan, dict) else None
    if schema != PLAN_SCHEMA:
        raise AnalysisError(
            f"Expected a plan of schema {PLAN_SCHEMA}, got schema {schema!r} in "
            f"{store.place(key)}. Use the release that wrote it."
        )
    try:
        return list(dict.fromkeys(i for revision in plan["revisions"] for i in revision["run_ids"]))
    except (KeyError, TypeError) as error:
        raise AnalysisError(
            f"Expected revisions with run_ids in {store.place(key)}, got a damaged plan. "
            "Start the sweep again."
        ) from error
