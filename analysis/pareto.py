"""The report on results, as a command.

Usage:
    python analysis/pareto.py RESULTS... [--out DIR] [--metrics depth=delta1 segmentation=miou]
                              [--paper-scaling]

RESULTS is a store, several stores, the folder of one sweep (STORE/sweeps/NAME), or a tidy CSV or
Parquet from anywhere else (see `analysis.load_table`). Runs of a store that differ in more than is
compared get one report for each set of them that may be compared.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from analysis.axes import AnalysisError, UnknownTaskError
from analysis.plans import planned_or_present, planned_runs
from analysis.report import ReportSummary, in_words, write_reports, write_table_report
from mtl.records import TASK_METRICS, task_metric
from mtl.store import Store, StoreError

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
        paths = [Path(text) for text in arguments.results]
        reports = _reports(paths, arguments.out, metrics, arguments.paper_scaling)
    except (UsageError, UnknownTaskError) as error:
        print(error, file=sys.stderr)
        return 2
    except (AnalysisError, StoreError, ValueError) as error:
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
        help="folder to write to (default: report/ in the store or sweep, else ./report)",
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


def _reports(
    paths: Sequence[Path], out: Path | None, metrics: Mapping[str, str], paper_scaling: bool
) -> dict[str, ReportSummary]:
    for path in paths:
        if not path.exists():
            raise AnalysisError(
                f"Expected results, got {path}, which does not exist. "
                "Give a store, a sweep's folder, a CSV or a Parquet file."
            )
    tables = [path for path in paths if path.is_file()]
    if tables:
        if len(paths) > 1:
            raise UsageError(
                f"Expected one table or any number of stores, got {len(paths)} results with "
                f"{len(tables)} files among them. Join the tables to one."
            )
        if tables[0].suffix not in TABLE_SUFFIXES:
            raise UsageError(
                f"Expected a file named .csv or .parquet, got {tables[0]}. Rename or convert it."
            )
        folder = out or Path("report")
        report = write_table_report(tables[0], folder, metrics=metrics, paper_scaling=paper_scaling)
        return {"": report}
    stores, run_ids = results_of(paths)
    default = paths[0] / "report" if len(paths) == 1 else Path("report")
    return write_reports(stores, out or default, run_ids, metrics, paper_scaling=paper_scaling)


def results_of(paths: Sequence[Path]) -> tuple[list[Store], list[str] | None]:
    """Return the stores of folders that are stores or sweeps, and the sweeps' run ids.

    The ids are None if only whole stores were named.
    """
    stores = [Store(_store_of(path), create=False) for path in paths]
    return stores, _sweep_run_ids(paths, stores)


def _is_sweep(path: Path) -> bool:
    return path.absolute().parent.name == "sweeps" and (path / "plan.json").exists()


def _store_of(path: Path) -> Path:
    return path.absolute().parent.parent if _is_sweep(path) else path


def _sweep_run_ids(paths: Sequence[Path], stores: Sequence[Store]) -> list[str] | None:
    """Return the runs of the sweeps that were named, or None if only whole stores were."""
    if not any(_is_sweep(path) for path in paths):
        return None
    run_ids: list[str] = []
    for path, store in zip(paths, stores, strict=True):
        name = path.absolute().name
        run_ids += planned_runs(store, name) if _is_sweep(path) else planned_or_present([store])
    return list(dict.fromkeys(run_ids))


if __name__ == "__main__":
    sys.exit(main())
