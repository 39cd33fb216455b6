"""Which runs are asked for: by a command's arguments and the plans of sweeps; needs no pandas."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mtl.errors import UsageError, UserError
from mtl.store import Store, check_sweep_name, local_folder
from mtl.store.plan_file import PlanFile, read_plan
from mtl.store.states import in_state, read_runs, run_names

TABLE_SUFFIXES = (".csv", ".parquet")
COMPARED = (
    "method",
    "priorities",
    "seed",
    "trunk",
    "mixed_between",
    "method_options",
    "period_epochs",
    "period_steps",
)
"""Spec fields in which compared runs may differ, with everything below them."""


@dataclass(frozen=True)
class Asked:
    """Runs that a report is asked for."""

    run_ids: tuple[str, ...]
    tuned: tuple[str, ...] = ()
    """See `analysis.load.groups.common_fields`."""
    primary: tuple[str, ...] | None = None
    """See `mtl.store.plan_file.PlanFile`."""
    searched: bool = False
    """Whether a search chose the runs by their outcome."""


def common_primary(declared: Iterable[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the primary comparison that several plans declare; None unless all agree.

    Each is that of a `PlanFile`; one without two methods to compare has no say.
    """
    kinds = {None if pair is None else frozenset(pair): pair for pair in declared}
    if len(kinds) > 1:
        kinds.pop(frozenset(), None)
    return next(iter(kinds.values())) if len(kinds) == 1 else None


def table_among(texts: Sequence[str]) -> Path | None:
    """Return the table that a command's arguments name; None where they name stores or sweeps.

    Refused are a place that is not there, a table among other results, and a file that is no table.
    """
    paths = [path for path in map(local_folder, texts) if path is not None]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"Expected results, got {path}, which does not exist. "
                "Give a store, a sweep's folder, a CSV or a Parquet file."
            )
    tables = [path for path in paths if path.is_file()]
    if not tables:
        return None
    if len(texts) > 1:
        raise UsageError(
            f"Expected one table or any number of stores, got {len(texts)} results with "
            f"{len(tables)} files among them. Join the tables to one."
        )
    if tables[0].suffix not in TABLE_SUFFIXES:
        raise UsageError(
            f"Expected a file named .csv or .parquet, got {tables[0]}. Rename or convert it."
        )
    return tables[0]


def stores_among(texts: Sequence[str]) -> tuple[list[Store], Asked | None]:
    """Return the stores that a command's arguments name, and the runs if sweeps are among them.

    Refused are what `asked_by` refuses, and a sweep with tuned values named among other results.
    """
    named = [_store_and_sweep(text) for text in texts]
    stores = [store for store, _ in named]
    if all(sweep is None for _, sweep in named):
        return stores, None
    parts = [_all_of(store) if sweep is None else asked_by(store, sweep) for store, sweep in named]
    if len(parts) == 1:
        return stores, parts[0]
    if any(part.tuned for part in parts):
        raise UsageError(
            "Expected a sweep whose methods have tuned values of their own, or a search, on its "
            f"own, got it among {len(parts)} results. Name it alone, or whole stores."
        )
    run_ids = dict.fromkeys(run_id for part in parts for run_id in part.run_ids)
    primary = common_primary(part.primary for part in parts)
    return stores, Asked(tuple(run_ids), primary=primary)


def _all_of(store: Store) -> Asked:
    plans = plans_of([store])
    primary = common_primary(plan.primary for _, plan in plans if not plan.tuned)
    return Asked(tuple(planned_or_present([store], plans)), primary=primary)


def default_folder(texts: Sequence[str], name: str) -> Path:
    """Return where a command writes without --out.

    That is folder `name` in the store or sweep that is named; for several, for a table and for
    object storage it lies in the current folder.
    """
    if len(texts) > 1:
        return Path(name)
    (text,) = texts
    folder = local_folder(text)
    if folder is None:
        _, sweep = _store_and_sweep(text)
        return Path(f"{name}s") / sweep if sweep else Path(name)
    return folder / name if folder.is_dir() else Path(name)


def _store_and_sweep(text: str) -> tuple[Store, str | None]:
    """Return the store, and the sweep if `text` names one of its sweeps and not the whole."""
    folder = local_folder(text)
    if folder is None:
        parts = urlsplit(text)
        above, _, name = parts.path.rstrip("/").rpartition("/")
        if above.endswith("/sweeps"):
            root = parts._replace(path=above.removesuffix("/sweeps")).geturl()
            return Store(root, create=False), check_sweep_name(name)
        return Store(text, create=False), None
    path = folder.absolute()
    if path.parent.name == "sweeps" and (path / "plan.json").exists():
        return Store(path.parent.parent, create=False), path.name
    return Store(path, create=False), None


def plans_of(stores: Sequence[Store]) -> list[tuple[str, PlanFile]]:
    """Return the name and plan of every sweep in the stores, sweeps of a store by name."""
    found: list[tuple[str, PlanFile]] = []
    for store in stores:
        names = store.sweep_names()
        found += zip(names, store.for_each(functools.partial(read_plan, store), names), strict=True)
    return found


def planned_or_present(
    stores: Sequence[Store], plans: Sequence[tuple[str, PlanFile]] | None = None
) -> list[str]:
    """Return every run id that a plan of the stores lists, in order, then the others present.

    Runs that a search paused only where another store has their result; none of the trunks of
    forked runs and of the runs by which a search found its points, unless another sweep plans it
    too. `plans` are those of the stores, if
    they were read already.
    """
    held = [plan for _, plan in (plans_of(stores) if plans is None else plans)]
    planned = [run_id for plan in held for run_id in plan.reported]
    steps = {run_id for plan in held for run_id in plan.run_ids} - {*planned}
    present: list[str] = []
    with_result: set[str] = set()
    for store in stores:
        runs = run_names(store, store.run_ids())
        present += runs
        with_result |= {run_id for run_id, names in runs.items() if "result.json" in names}
    open_runs = [run_id for run_id in present if run_id not in with_result]
    paused = {i for store in stores for i in in_state(read_runs(store, open_runs), "paused")}
    return [i for i in dict.fromkeys(planned + present) if i not in steps | paused]


def tuned_sweeps(plans: Sequence[tuple[str, PlanFile]]) -> dict[str, Asked]:
    """Return name -> what each sweep with tuned values reports; a store's parts of it are joined.

    Its methods are tuned each by itself, so that its runs are compared with no others.
    """
    found: dict[str, Asked] = {}
    for sweep, plan in plans:
        if plan.tuned and plan.reported:
            held = found.get(sweep, Asked(()))
            run_ids = dict.fromkeys((*held.run_ids, *plan.reported))
            fields = dict.fromkeys((*held.tuned, *plan.tuned))
            found[sweep] = Asked(tuple(run_ids), tuple(fields), plan.primary, plan.is_search)
    return found


def asked_by(store: Store, sweep: str) -> Asked:
    """Return the runs of a sweep in plan order; of a search the points that it reports.

    A `UserError` refuses a sweep that is not there, a damaged plan or one of another schema, and a
    search that is not over.
    """
    place = store.place(store.sweep_key(sweep))
    try:
        plan = read_plan(store, sweep)
    except FileNotFoundError as error:
        raise UserError(
            f"Expected results, got {place}, which does not exist. Give a store or a sweep in it."
        ) from error
    if plan.is_search and not plan.reported:
        raise UserError(
            f"Expected a search that has come to its end, got {place}, which has chosen no points "
            "yet. Start the same command again; sweeps/watch.py shows where it stands."
        )
    return Asked(tuple(plan.reported), plan.tuned, plan.primary, plan.is_search)
