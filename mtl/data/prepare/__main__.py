"""Prepare a data set from files for training, once.

    python -m mtl.data.prepare nyuv2 --source nyu_depth_v2_labeled.mat --size 288x384
    python -m mtl.data.prepare taskonomy --source /data/taskonomy --size 256x256
    python -m mtl.data.prepare folder --source /data/mine --size 180x240 --tasks segmentation edge2d
    python -m mtl.data.prepare huggingface --source /data/parquet --size 180x240
    python -m mtl.data.prepare my_module:open_mine --source /data/mine --size 180x240

Everything is decoded, filled, resized and derived into arrays that trainings map into memory. An
interrupted preparation goes on with the same command; a finished one is verified and left alone,
and source files that changed since, by size or time, are an error.
Then: `python sweeps/priority_grid.py --dataset nyuv2`.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl.command_line import Parser, answer, run
from mtl.data.manifest import check_hashes, read_manifest
from mtl.data.prepare.recipe import RawRecipe, changed, make_recipe
from mtl.data.prepared import data_folder, prepared_name, write_once
from mtl.data.readers.registry import READERS
from mtl.errors import PreparedDataError, UsageError
from mtl.spec.code import OWN
from mtl.spec.sections import SPLITS
from mtl.spec.strict import parse_yaml


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare what the command line asks for; return the exit status."""
    return run("prepare", lambda: _main(argv), continues=True)


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    height, width = _size(given.size)
    recipe = make_recipe(
        given.name,
        given.source,
        height=height,
        width=width,
        options=dict(_option(text) for text in given.option),
        tasks=None if given.tasks is None else tuple(given.tasks),
        splits=SPLITS if given.split is None else tuple(given.split),
        filled=not given.no_fill,
        exact_fill=given.exact_fill,
        skip_bad=given.skip_bad,
    )
    folder = data_folder(given.data_root) / f"{prepared_name(given.name)}-{recipe.key()}"
    was_there = (folder / "manifest.json").exists()
    if not was_there:
        _prepare(recipe, folder, given.workers, given.skip_bad)
    # Of a new one too: another process may have prepared it while this one waited.
    manifest = read_manifest(folder)
    _check_as_asked(manifest, folder, recipe, given.skip_bad)
    if was_there:
        check_hashes(folder)
        number = recipe.files["count"]
        print(
            f"Already prepared, and every byte of the arrays verified: {folder} ({number:,} source "
            "files are as they were)"
        )
    _print_end(manifest, folder, recipe)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mtl.data.prepare", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join([*READERS, OWN])}")
    parser.add_argument("--source", type=Path, required=True, metavar="PATH", help="the files")
    parser.add_argument("--size", required=True, metavar="HxW", help="pixels, such as 288x384")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: all there can be")
    parser.add_argument(
        "--split", nargs="+", metavar="SPLIT",
        help=f"of {', '.join(SPLITS)}, which is the default; sweeps need all of them",
    )  # fmt: skip
    parser.add_argument(
        "--option", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="of the reader, such as depth=raw; see its module in mtl/data/readers",
    )  # fmt: skip
    filling = parser.add_mutually_exclusive_group()
    filling.add_argument("--no-fill", action="store_true", help="leave missing values missing")
    filling.add_argument(
        "--exact-fill", action="store_true",
        help="fill by solving the full system of colorization: slower, some millimetres apart",
    )  # fmt: skip
    parser.add_argument("--data-root", metavar="DIR", help="where to (default: user's cache)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out samples that cannot be read"
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UsageError(f"Expected --size HEIGHTxWIDTH in pixels, such as 288x384, got {text!r}.")
    return int(height), int(width)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"Expected KEY=VALUE after --option, got {text!r}.")
    try:
        return name, parse_yaml(value)
    except ValueError as error:
        raise UsageError(f"Expected KEY=VALUE after --option, got {text!r}.") from error


def _prepare(recipe: RawRecipe, folder: Path, num_workers: int, skip_bad: bool) -> None:
    about, counts = recipe.about(), recipe.counts()
    expected = recipe.expected_bytes()
    sizes = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    print(f"{recipe.name}: {sizes}; tasks {', '.join(recipe.tasks)}.")
    if about["derived"]:
        print(f"Derived, not measured: {', '.join(about['derived'])}.")
    for note in about["notes"]:
        print(note)
    print(f"Licence: {about['licence']}")
    print(f"Writing about {expected / 1e9:,.2f} GB to {folder}", flush=True)
    start = time.monotonic()
    columns = (
        TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("preparing")
        write_once(
            recipe,
            folder,
            expected=expected,
            num_workers=max(1, num_workers),
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            skip_bad=skip_bad,
            optional=recipe.optional,
        )
    print(f"Prepared in {time.monotonic() - start:,.0f} s.")


def _check_as_asked(
    manifest: dict[str, Any], folder: Path, recipe: RawRecipe, skip_bad: bool
) -> None:
    """Raise a `PreparedDataError` if what is there is not what is asked for now."""
    skipped = _num_skipped(manifest)
    if skipped and not skip_bad:
        raise PreparedDataError(
            f"Expected prepared data without gaps, got {folder}, which an earlier --skip-bad left "
            f"without {skipped} samples. Remove the folder to start again, or add --skip-bad."
        )
    held = manifest["tasks"]
    lacking = [task for task in recipe.tasks if task not in held and task not in recipe.optional]
    if lacking:
        raise PreparedDataError(
            f"Expected {', '.join(lacking)} in {folder}, got none: no pixel of some split counts. "
            "Leave it out of --tasks, or correct the files it follows from and remove the folder."
        )
    places = changed(manifest.get("files", recipe.files), recipe.files)
    if places:
        raise PreparedDataError(
            f"Expected the files of {recipe.source} as they were prepared in {folder}, got others "
            f"in {places}: size or time changed since. Remove {folder} to start again, or restore "
            "the files."
        )


def _num_skipped(manifest: dict[str, Any]) -> int:
    return sum(len(reasons) for reasons in manifest["skipped"].values())


def _print_end(manifest: dict[str, Any], folder: Path, recipe: RawRecipe) -> None:
    if skipped := _num_skipped(manifest):
        print(f"{skipped} samples were left out; manifest.json lists them with the reasons.")
    found = {"folder": str(folder), "hash": manifest["folder_hash"]}
    print(json.dumps(found))
    answer(found)
    print(f"Look at it: python -m mtl.data.show {folder}")
    for task in sorted({*recipe.optional} - {*manifest["tasks"]}):
        print(f"{task} is left out: it counts at no pixel of some split.")
    absent = [split for split in SPLITS if split not in manifest["counts"]]
    if absent:
        print(f"Without {', '.join(absent)} no sweep trains on it.")
    else:
        is_default = folder.parent == data_folder(None)
        root = "" if is_default else f" --data-root {folder.parent}"
        print(
            f"Train on it: python sweeps/priority_grid.py --dataset {manifest['name']}{root} "
            f"--tasks {' '.join(manifest['tasks'])}"
        )


if __name__ == "__main__":
    sys.exit(main())
