"""The report on results, as a command.

Usage:
    python analysis/pareto.py RESULTS... [--out DIR] [--metrics depth=delta1 segmentation=miou]
                              [--paper-scaling] [--static]

RESULTS is a store (a folder, or an address of object storage), several stores, one sweep
(STORE/sweeps/NAME), or a tidy CSV or Parquet from anywhere else (see `analysis.load.table`). Runs
of a store that differ in more than is compared get one report for each set of them that may be
compared.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.load.arguments import TABLE_SUFFIXES, _asked, store_and_sweep
from analysis.load.axes import AnalysisError, UnknownTaskError
from analysis.report import (
    ReportSummary,
    default_folder,
    in_words,
    write_reports,
    write_table_report,
)
from mtl.command_line import Parser
from mtl.errors import StoreError, StoreUnreachableError, UsageError
from mtl.records import TASK_METRICS, task_metric
from mtl.store import is_address


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


if __name__ == "__main__":
    sys.exit(main())
