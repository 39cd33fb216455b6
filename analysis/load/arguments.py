"""What a command of `analysis` is given: stores, sweeps in them, tables."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from analysis.load.axes import AnalysisError
from analysis.load.plans import Asked, asked_by, planned_or_present
from mtl.errors import UsageError
from mtl.store import Store, check_sweep_name, is_address

TABLE_SUFFIXES = (".csv", ".parquet")


def store_and_sweep(text: str) -> tuple[Store, str | None]:
    """Return the store, and the sweep if `text` names one of its sweeps and not the whole."""
    if is_address(text):
        parts = urlsplit(text)
        above, _, name = parts.path.rstrip("/").rpartition("/")
        if above.endswith("/sweeps"):
            root = parts._replace(path=above.removesuffix("/sweeps")).geturl()
            return Store(root, create=False), check_sweep_name(name)
        return Store(text, create=False), None
    path = Path(text).absolute()
    if path.parent.name == "sweeps" and (path / "plan.json").exists():
        return Store(path.parent.parent, create=False), path.name
    return Store(path, create=False), None


def sweep_run_ids(named: Sequence[tuple[Store, str | None]]) -> list[str] | None:
    """Return the runs of the sweeps that were named, or None if only whole stores were."""
    asked = _asked(named)
    return None if asked is None else list(asked.run_ids)


def _asked(named: Sequence[tuple[Store, str | None]]) -> Asked | None:
    if all(sweep is None for _, sweep in named):
        return None
    parts = [
        Asked(tuple(planned_or_present([store]))) if sweep is None else _of_sweep(store, sweep)
        for store, sweep in named
    ]
    if len(parts) == 1:
        return parts[0]
    if any(part.tuned for part in parts):
        raise UsageError(
            f"Expected a search on its own, got it among {len(parts)} results: its methods have "
            "tuned values of their own. Name it alone, or whole stores."
        )
    return Asked(tuple(dict.fromkeys(run_id for part in parts for run_id in part.run_ids)))


def _of_sweep(store: Store, sweep: str) -> Asked:
    try:
        return asked_by(store, sweep)
    except FileNotFoundError as error:
        place = store.place(store.sweep_key(sweep))
        raise AnalysisError(
            f"Expected results, got {place}, which does not exist. Give a store or a sweep in it."
        ) from error
