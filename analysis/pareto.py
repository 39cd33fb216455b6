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
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.load.metrics import parse_metrics, refuse_declared
from analysis.load.plans import default_folder, stores_among, table_among
from analysis.reports import to_json, to_text, write_reports, write_table_report
from mtl.command_line import Parser, answer, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 written, 1 could not be done, 2 wrong usage."""
    return run("pareto", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    metrics, own = parse_metrics(given.metrics)
    options = {"paper_scaling": given.paper_scaling, "static": given.static}
    out = given.out or default_folder(given.results, "report")
    table = table_among(given.results)
    if table is not None:
        reports = {"": write_table_report(table, out, metrics, own, **options)}
    else:
        refuse_declared(own)
        stores, asked = stores_among(given.results)
        reports = write_reports(stores, out, asked, metrics, **options)
    print(to_text(reports))
    answer(to_json(reports))
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
        help="metric on a task's axis, such as depth=rmse; for a table's own tasks with direction "
        "and unit: steering=mae:min:degrees",
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


if __name__ == "__main__":
    sys.exit(main())
