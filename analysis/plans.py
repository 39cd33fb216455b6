"""Which runs were asked for, as the plans of sweeps say; needs no pandas."""

from collections.abc import Sequence

from analysis.axes import AnalysisError
from mtl.records import PAUSED_AFTER
from mtl.store import Store, StoreError

PLAN_SCHEMA = 1


def planned_or_present(stores: Sequence[Store]) -> list[str]:
    """Return every run id that a plan of the stores lists, in order, then the others present.

    Runs that a search paused are among them only where another store has their result.
    """
    present = [run_id for store in stores for run_id in store.run_ids()]
    paused = {run_id for store in stores for run_id in store.run_ids() if is_paused(store, run_id)}
    return [
        run_id
        for run_id in dict.fromkeys(planned(stores) + present)
        if run_id not in paused or any(store.is_done(run_id) for store in stores)
    ]


def is_paused(store: Store, run_id: str) -> bool:
    """Return whether the run was left on purpose, as a search leaves settings that do not lead."""
    if store.storage.exists(store.run_key(run_id, "result.json")):
        return False
    try:
        manifest = store.manifest(run_id)
    except (StoreError, OSError):
        return False
    return isinstance(manifest, dict) and PAUSED_AFTER in manifest


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
