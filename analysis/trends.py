"""How loss weights, loss scales, difficulties and losses move over a training.

As in Figures S-2 to S-4 of the supplement: epoch records in, curves out. As a command it writes the
curves as CSV and the figures as SVG, PDF and PNG:

    python analysis/trends.py RESULTS... [--out DIR]

RESULTS are stores or folders of sweeps.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mtl.command_line import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 written, 1 could not be done, 2 wrong usage."""
    # Only here: the computation needs no store, no table and no drawing.
    from analysis.load.axes import AnalysisError
    from mtl.errors import StoreError, StoreUnreachableError, UsageError

    parser = Parser(prog="trends.py", description="Write trends of loss weights and loss scales.")
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="stores or sweeps")
    parser.add_argument(
        "--out", type=Path, default=Path("trends"), metavar="DIR", help="(default: ./%(default)s)"
    )
    try:
        given = parser.parse_args(argv)
        print("\n".join(_write(given.results, given.out)))
    except UsageError as error:
        print(f"trends: {error}", file=sys.stderr)
        return 2
    except (AnalysisError, StoreError, StoreUnreachableError, ValueError) as error:
        print(f"trends: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"trends: Expected a folder that can be written, got {error}. Give another one with "
            "--out.",
            file=sys.stderr,
        )
        return 1
    return 0


def _write(texts: Sequence[str], out: Path) -> list[str]:
    """Write tables and figures to `out`; return what to say."""
    from analysis.compute.findings import find
    from analysis.load.arguments import store_and_sweep, sweep_run_ids
    from analysis.load.axes import AnalysisError, choose_axes
    from analysis.load.run_files import RunFiles
    from analysis.load.runs import load_stores
    from analysis.render.paper import figure_files
    from analysis.sections.trends import trend_section
    from mtl.store import is_address
    from mtl.store.local import write_atomically

    for text in texts:
        if not is_address(text) and not Path(text).is_dir():
            what = "a file" if Path(text).exists() else "nothing there"
            raise AnalysisError(
                f"Expected a store or a sweep's folder at {text}, got {what}. Trends need the "
                "epoch records of runs, which only a store has: give its folder."
            )
    named = [store_and_sweep(text) for text in texts]
    stores = [store for store, _ in named]
    loaded = load_stores(stores, sweep_run_ids(named))
    section = trend_section(find(loaded, choose_axes(loaded.tasks)), RunFiles(stores))
    if section is None:
        raise AnalysisError("Expected finished runs, got none. Wait until a run has finished.")
    files = {f"{table.name}.csv": table.raw.to_csv(index=False) for table in section.tables}
    contents = {name: text.encode() for name, text in files.items()}
    for figure in section.figures:
        contents |= figure_files(figure)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(out / name, content)
    notes = [part for part in section.parts if isinstance(part, str)]
    return [section.lead, *notes, f"Written: {len(contents)} files in {out}."]


if __name__ == "__main__":
    sys.exit(main())
