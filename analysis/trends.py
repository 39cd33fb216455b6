"""How loss weights, loss scales, difficulties and losses move over a training, as a command.

As in Figures S-2 to S-4 of the supplement. Written are the curves as CSV and the figures as SVG,
PDF and PNG:

    python analysis/trends.py RESULTS... [--out DIR]

RESULTS are stores or folders of sweeps; runs that must not be compared have folders of their own.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.compute.findings import find
from analysis.load.groups import Group, groups_of_stores
from analysis.load.plans import stores_among, table_among
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from analysis.render.paper import figure_files
from analysis.sections.trends import trend_section
from mtl.command_line import Parser, answer, run
from mtl.errors import UserError
from mtl.store import Store, write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 written, 1 could not be done, 2 wrong usage."""
    return run("trends", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="trends.py", description="Write trends of loss weights and loss scales.")
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="stores or sweeps")
    parser.add_argument(
        "--out", type=Path, default=Path("trends"), metavar="DIR", help="(default: ./%(default)s)"
    )
    given = parser.parse_args(argv)
    table = table_among(given.results)
    if table is not None:
        raise UserError(
            f"Expected a store or a sweep's folder, got {table}. Trends need the epoch records of "
            "runs, which only a store has: give its folder."
        )
    stores, asked = stores_among(given.results)
    groups = groups_of_stores(stores, asked)
    texts, folders = [], []
    for group in groups:
        out = given.out / group.folder if group.label else given.out
        said = _write(stores, group, out)
        texts += said
        folders += [str(out.resolve())] if said else []
    if not texts:
        raise UserError("Expected finished runs, got none. Wait until a run has finished.")
    print("\n".join(texts))
    answer({"folders": folders})
    return 0


def _write(stores: Sequence[Store], group: Group, out: Path) -> list[str]:
    """Write a group's tables and figures to `out`; return what to say, nothing without runs."""
    loaded = load_stores(stores, group.run_ids, group.specs)
    axes, _ = loaded.axes()
    section = trend_section(
        find(loaded, axes, group.tuned, searched=group.searched), RunFiles(stores)
    )
    if section is None:
        return []
    files = {f"{table.name}.csv": table.raw.to_csv(index=False) for table in section.tables}
    contents = {name: text.encode() for name, text in files.items()}
    for figure in section.figures:
        contents |= figure_files(figure)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(out / name, content)
    notes = [part for part in section.parts if isinstance(part, str)]
    head = [f"\n{group.title}"] if group.label else []
    return [*head, section.lead, *notes, f"Written: {len(contents)} files in {out.resolve()}"]


if __name__ == "__main__":
    sys.exit(main())
