"""Rank tables in the manner of Table S-3, as a command.

Usage:
    python analysis/ranking.py RESULTS|TABLE.csv [--by COLUMN] [--metrics delta1 rmse:min ...]
                               [--tie-tolerance mean_angle=0.05 ...] [--blocks COLUMN]
                               [--baseline VALUE] [--out DIR]

RESULTS is a store or the folder of one sweep, TABLE any CSV or Parquet with one row a trial. Every
numeric column is ranked but `trial`, `seed`, `priority_<task>`, which say which trial a row is, and
`rank_...`, the ranks that a table brings along. Where trials share seeds, whole seeds are permuted.
Metrics that `mtl.records` knows bring their direction; others need it: `--metrics score:max`.
Written are ranks.csv, rank_summary.csv and rank_tests.csv, each that has rows as LaTeX too.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.compute.ranks import rank
from analysis.load.groups import folder_name
from analysis.load.plans import default_folder, stores_among, table_among
from analysis.load.trials import Request, Trials, trials_of_stores, trials_of_table
from analysis.sections.method_ranks import ranking_files, ranking_text
from mtl.command_line import Parser, answer, run
from mtl.errors import UsageError
from mtl.store import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 written, 1 could not be done, 2 wrong usage."""
    return run("ranking", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    request = Request(
        by=given.by,
        metrics=_metrics(given.metrics),
        tie_tolerances=_tolerances(given.tie_tolerance),
        blocks=given.blocks,
    )
    out = given.out or default_folder([given.results], "ranking")
    written: list[str] = []
    for trials in _trials(given.results, request):
        ranking = rank(trials, given.blocks, given.baseline)
        folder = out / folder_name(trials.label) if trials.label else out
        folder.mkdir(parents=True, exist_ok=True)
        files = ranking_files(ranking)
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
        if trials.title:
            print(f"\n{trials.title}")
        print(ranking_text(ranking))
        written += [str(folder.resolve() / name) for name in files]
        print(f"Written: {len(files)} files in {folder.resolve()}", flush=True)
    answer({"files": written})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ranking.py", description="Rank trials in the manner of Table S-3.")
    parser.add_argument("results", metavar="RESULTS", help="a store, a sweep or a table")
    parser.add_argument(
        "--by", default="method", metavar="COLUMN", help="what is ranked (%(default)s)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="COLUMN[:min|max]",
        help="columns to rank; known metrics bring their direction",
    )
    parser.add_argument(
        "--tie-tolerance",
        nargs="+",
        default=[],
        metavar="COLUMN=VALUE",
        help="values so near to each other tie, in displayed units (0)",
    )
    parser.add_argument(
        "--blocks",
        metavar="COLUMN",
        help="Friedman's test over these blocks, such as data sets or seeds; at least five",
    )
    parser.add_argument(
        "--baseline",
        metavar="VALUE",
        help="of the --by column: what Delta_m is relative to (a store: its single-task runs)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to")
    return parser


def _trials(text: str, request: Request) -> list[Trials]:
    table = table_among([text])
    if table is not None:
        return [trials_of_table(table, request)]
    stores, asked = stores_among([text])
    return trials_of_stores(stores, asked, request)


def _metrics(texts: Sequence[str]) -> dict[str, str | None]:
    metrics: dict[str, str | None] = {}
    for text in texts:
        column, colon, direction = text.partition(":")
        if not column or (colon and direction not in ("min", "max")):
            raise UsageError(f"Expected --metrics COLUMN, COLUMN:min or COLUMN:max, got {text!r}.")
        metrics[column] = direction or None
    return metrics


def _tolerances(texts: Sequence[str]) -> dict[str, float]:
    tolerances = {}
    for text in texts:
        column, _, value = text.partition("=")
        try:
            tolerances[column] = float(value)
        except ValueError:
            tolerances[column] = math.nan
        if not column or not 0 <= tolerances[column] < math.inf:
            raise UsageError(
                f"Expected --tie-tolerance COLUMN=VALUE with a value of 0 or more, got {text!r}."
            )
    return tolerances


if __name__ == "__main__":
    sys.exit(main())
