"""Results that other tools hold in memory or in files -> one frame with a row a run.

Known by what they offer, so that neither Ray nor Optuna is imported: a CSV or Parquet, a pandas
DataFrame, a Ray Tune `ResultGrid` or experiment folder, an Optuna study. Columns get the names of a
tidy table (see `analysis.load.table`) where the tool's own prefixes can be told; `columns` renames
others.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.load.priorities import PRIORITY_PREFIX
from analysis.load.sheet import TEXTS, read_frame
from mtl.errors import UsageError, UserError

PREFIXES = ("params_", "user_attrs_", "values_", "config/", "train_loop_config/", "test/")
"""Of other tools, before the name that a user gave."""

TUNE_OWN = {
    *("checkpoint_dir_name", "date", "done", "experiment_tag", "hostname", "node_ip", "pid"),
    *("iterations_since_restore", "time_since_restore", "time_this_iter_s", "time_total_s"),
    *("timestamp", "training_iteration", "trial_id"),
}
"""What Tune adds to each report of its own accord."""


def frame_of(results: Any, columns: Mapping[str, str] | None = None) -> tuple[pd.DataFrame, str]:
    """Return results as a tidy frame, and what messages call them.

    Args:
        results: a DataFrame, a `ResultGrid`, an Optuna study, or the path of a CSV, a Parquet or a
            Tune experiment.
        columns: their column -> ours, where names differ.

    Raises:
        UserError: for what cannot be read, or a column that `columns` names and is not there.
    """
    if isinstance(results, pd.DataFrame):
        frame, where = results, "the DataFrame"
    elif isinstance(results, str | Path):
        path, where = Path(results), str(results)
        texts = [theirs for theirs, ours in (columns or {}).items() if ours in TEXTS]
        texts += [f"{prefix}{name}" for prefix in ("", *PREFIXES) for name in TEXTS]
        is_folder = is_experiment(path)
        frame = pd.DataFrame(_rows_of_folder(path)) if is_folder else read_frame(path, text=texts)
    elif hasattr(results, "trials_dataframe"):
        frame, where = results.trials_dataframe(), "the Optuna study"
    elif hasattr(results, "get_dataframe"):
        frame, where = pd.DataFrame(_rows_of_grid(results)), "the ResultGrid"
    else:
        raise UsageError(
            "Expected a store, a table, a DataFrame, a ResultGrid or an Optuna study, got "
            f"{type(results).__name__}."
        )
    lacking = [name for name in columns or {} if name not in frame]
    if lacking:
        raise UserError(
            f"Expected the column {lacking[0]!r} in {where}, got none of that name. Its columns: "
            f"{', '.join(map(str, frame))}."
        )
    frame = frame.rename(columns=dict(columns or {}))
    return frame.rename(columns=_own_names(frame.columns)), where


def is_experiment(path: Path) -> bool:
    """Return whether a folder is an experiment of Ray Tune."""
    return path.is_dir() and any(path.glob("*/params.json"))


def _own_names(names: Iterable[Any]) -> dict[Any, str]:
    """Return column -> its name without another tool's prefix, where nothing else has it."""
    taken, found = {str(name) for name in names}, {}
    for name in names:
        own = str(name)
        for prefix in PREFIXES:
            own = own.removeprefix(prefix)
        own = own.replace("priorities/", PRIORITY_PREFIX).replace("/", "_")
        if own not in taken:
            found[name] = own
            taken.add(own)
    return found


def _rows_of_grid(grid: Any) -> list[dict[str, Any]]:
    return [
        _row(result.config or {}, result.metrics or {}, result.error is not None) for result in grid
    ]


def _rows_of_folder(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(folder.glob("*/params.json")):
        config = _json(path, json.loads)
        reported = path.with_name("result.json")
        last = _json(reported, _last_line) if reported.exists() else {}
        rows.append(_row(config, last, path.with_name("error.txt").exists()))
    return rows


def _last_line(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def _json(path: Path, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"Expected a file of a Tune trial in {path}, got {error}.") from error


def _row(config: Mapping[str, Any], reported: Mapping[str, Any], failed: bool) -> dict[str, Any]:
    settings = {f"config/{name}": value for name, value in _flat(config).items()}
    told = {name: value for name, value in reported.items() if name not in TUNE_OWN}
    metrics = {k: v for k, v in _flat(told).items() if not k.startswith("config/")}
    return {**settings, **metrics, "state": "ERROR" if failed else "TERMINATED"}


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{name}/")
        else:
            found[f"{path}{name}"] = value
    return found
