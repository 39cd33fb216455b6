"""Which runs were asked for, as the plans of sweeps say; needs no pandas."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.load.axes import AnalysisError
from mtl.errors import StoreError
from mtl.records import PAUSED_AFTER
from mtl.store import Store
from mtl.store.plan_file import PlanFile, PlanFileError, parse_plan


@dataclass(frozen=True)
class Asked:
    """Runs that a report is asked for."""

    run_ids: tuple[str, ...]
    tuned: tuple[str, ...] = ()
    """See `analysis.load.groups.common_fields`; only a search has any."""


def planned_or_present(stores: Sequence[Store]) -> list[str]:
    """Return every run id that a plan of the stores lists, in order, then the others present.

    Runs that a search paused are among them only where another store has their result; of the
    runs by which a search found its points none is, unless another sweep plans it too.
    """
    plans = _plans(stores).values()
    steps = {run_id for plan in plans if plan.tuned for run_id in plan.run_ids}
    steps -= {run_id for plan in plans for run_id in plan.reported}
    present = [run_id for store in stores for run_id in store.run_ids()]
    paused = {run_id for store in stores for run_id in store.run_ids() if is_paused(store, run_id)}
    return [
        run_id
        for run_id in dict.fromkeys(planned(stores) + present)
        if run_id not in steps
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


def planned(stores: Sequence[Store], *, of_searches: bool = True) -> list[str]:
    """Return every run id that a plan of the stores lists, sweeps by name, in plan order.

    Of a search only the points that it reports, and none unless `of_searches`.
    """
    plans = [plan for plan in _plans(stores).values() if of_searches or not plan.tuned]
    return [run_id for plan in plans for run_id in plan.reported]


def searches(stores: Sequence[Store]) -> dict[str, Asked]:
    """Return name -> what each search among the sweeps reports; a store's parts of it are joined.

    Their methods are tuned each by itself, so that their runs are compared with no others.
    """
    found: dict[str, Asked] = {}
    for (_, sweep), plan in _plans(stores).items():
        if plan.tuned and plan.reported:
            held = found.get(sweep, Asked(()))
            run_ids = dict.fromkeys((*held.run_ids, *plan.reported))
            fields = dict.fromkeys((*held.tuned, *plan.tuned))
            found[sweep] = Asked(tuple(run_ids), tuple(fields))
    return found


def asked_by(store: Store, sweep: str) -> Asked:
    """Return the runs of a sweep in plan order; of a search the points that it reports.

    Raises:
        AnalysisError: if the plan is damaged or of another schema, or a search is not over.
        FileNotFoundError: if there is no such sweep.
    """
    plan = _plan(store, sweep)
    if plan.tuned and not plan.reported:
        raise AnalysisError(
            f"Expected a search that has come to its end, got {store.place(store.sweep_key(sweep))}"
            ", which has chosen no points yet. Start the same command again; sweeps/watch.py shows "
            "where it stands."
        )
    return Asked(tuple(plan.reported), plan.tuned)


def _plans(stores: Sequence[Store]) -> dict[tuple[int, str], PlanFile]:
    return {
        (number, sweep): _plan(store, sweep)
        for number, store in enumerate(stores)
        for sweep in store.sweep_names()
    }


def _plan(store: Store, sweep: str) -> PlanFile:
    key = store.sweep_key(sweep, "plan.json")
    try:
        return parse_plan(store.read_json(key))
    except PlanFileError as error:
        raise AnalysisError(error.sentence(store.place(key))) from error
