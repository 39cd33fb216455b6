"""The report on results, as a command.

Usage:
    python analysis/pareto.py RESULTS... [--out DIR] [--metrics depth=delta1 segmentation=miou]
                              [--paper-scaling] [--static]

RESULTS is a store (a folder, or an address of object storage), several stores, one sweep
(STORE/sweeps/NAME), or a tidy CSV or Parquet from anywhere else (see `analysis.load_table`). Runs
of a store that differ in more than is compared get one report for each set of them that may be
compared.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from analysis.axes import AnalysisError, UnknownTaskError
from analysis.plans import Asked, asked_by, planned_or_present
from analysis.report import (
    ReportSummary,
    default_folder,
    in_words,
    write_reports,
    write_table_report,
)
from mtl.records import TASK_METRICS, task_metric
from mtl.store import Store, StoreError, StoreUnreachableError, check_sweep_name, is_address

TABLE_SUFFIXES = (".csv", ".parquet")


class UsageError(Exception):
    """A command line that asks for what cannot be, in one sentence."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the block on usage."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 written, 1 could not be done, 2 wrong usage."""
    try:
        arguments = _parser().parse_args(argv)
        metrics = _metrics(arguments.metrics)
        reports = _reports(arguments, metrics)
    except (UsageError, UnknownTaskError) as error:
        print(error, file=sys.stderr)
        return 2
    except (AnalysisError, StoreError, StoreUnreachableError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"Expected a folder that can be written, got {error}. Give another one with --out.",
            file=sys.stderr,
        )
        return 1
    try:
        for label, summary in reports.items():
            print(in_words(label, summary), flush=True)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pareto.py", description="Write the operating-point report on results.")
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULTS",
        help="a store, several stores, STORE/sweeps/NAME, or one tidy CSV or Parquet",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to (default: report/ in the store or sweep, else ./report; "
        "./reports/NAME for a sweep on object storage)",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="TASK=METRIC",
        help="metric on a task's axis, such as depth=rmse",
    )
    parser.add_argument(
        "--paper-scaling",
        action="store_true",
        help="show l1 errors as the supplement prints them: x10 for edge2d, x100 for edge3d and "
        "keypoint2d; CSV files keep the stored values",
    )
    parser.add_argument(
        "--static",
        action="store_true",
        help="write every figure as SVG, PDF and PNG too, in figures/",
    )
    return parser


def _metrics(texts: Sequence[str]) -> dict[str, str]:
    metrics: dict[str, str] = {}
    for text in texts:
        task, sign, metric = text.partition("=")
        if not sign or not task or not metric:
            raise UsageError(
                f"Expected --metrics TASK=METRIC, got {text!r}. "
                f"Tasks: {', '.join(sorted(TASK_METRICS))}."
            )
        if task in metrics:
            raise UsageError(f"Expected one metric a task, got two for {task}. Name one.")
        try:
            task_metric(task, metric)
        except ValueError as error:
            raise UsageError(str(error)) from error
        metrics[task] = metric
    return metrics


def _reports(arguments: argparse.Namespace, metrics: Mapping[str, str]) -> dict[str, ReportSummary]:
    texts, out = arguments.results, arguments.out
    paper_scaling, static = arguments.paper_scaling, arguments.static
    for text in texts:
        if not is_address(text) and not Path(text).exists():
            raise AnalysisError(
                f"Expected results, got {text}, which does not exist. "
                "Give a store, a sweep's folder, a CSV or a Parquet file."
            )
    tables = [Path(text) for text in texts if not is_address(text) and Path(text).is_file()]
    if tables:
        if len(texts) > 1:
            raise UsageError(
                f"Expected one table or any number of stores, got {len(texts)} results with "
                f"{len(tables)} files among them. Join the tables to one."
            )
        if tables[0].suffix not in TABLE_SUFFIXES:
            raise UsageError(
                f"Expected a file named .csv or .parquet, got {tables[0]}. Rename or convert it."
            )
        folder = out or Path("report")
        report = write_table_report(
            tables[0], folder, metrics=metrics, paper_scaling=paper_scaling, static=static
        )
        return {"": report}
    named = [store_and_sweep(text) for text in texts]
    stores = [store for store, _ in named]
    default = default_folder(*named[0]) if len(named) == 1 else Path("report")
    asked = _asked(named)
    return write_reports(
        stores,
        out or default,
        None if asked is None else asked.run_ids,
        metrics,
        paper_scaling=paper_scaling,
        tuned=() if asked is None else asked.tuned,
        static=static,
    )


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


if __name__ == "__main__":
    sys.exit(main())
