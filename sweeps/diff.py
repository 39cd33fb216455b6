"""What differs between two plans, or between two runs.

python sweeps/diff.py old.json new.json                     as saved from --plan --json
python sweeps/diff.py results/sweeps/a results/sweeps/b     two sweeps, as they were last started;
                                                            of a search all that it decided on
python sweeps/diff.py RUN_ID RUN_ID --store results         two runs: fields, how made, results

A and B may be addresses of object storage, such as 's3://bucket/prefix/sweeps/a?region=eu-west-1'.
"""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mtl.command_line import SentenceParser, printable, status_of
from mtl.errors import StoreError, UsageError
from mtl.records import METRICS
from mtl.spec.strict import flat
from mtl.store import Store, is_address
from mtl.store.__main__ import open_anywhere
from mtl.store.plan_file import PlanFileError, parse_plan
from mtl.store.states import read_spec
from mtl.store.untrusted import (
    AbsentError,
    ObjectPlace,
    Place,
    UnreadableError,
    is_number,
    kind_of,
    place_of,
    read_lines,
    read_object,
)
from sweeps.text import counted

MOST_RUNS_LISTED = 20
MOST_VALUES_LISTED = 12
ABSENT = "(absent)"
_RUN_ID = re.compile(r"[0-9a-f]{16}")
_BELOW_STORE = re.compile(r"(.*)/(runs/[0-9a-f]{16}|sweeps/[\w.-]+(?:/plan\.json)?)/*")
"""The path of an address: of the store, and what is meant in it."""
_TIMES = ("wall_seconds", "device_seconds", "started_epochs")
"""Of a manifest: they differ between any two runs."""

T = TypeVar("T")
Fields = dict[str, Any]
"""Dotted name -> plain value."""


@dataclass(frozen=True)
class PlanSide:
    """One of two plans."""

    title: str
    runs: Mapping[str, Fields | None]
    """Run id -> its fields; None where the spec cannot be had."""


@dataclass(frozen=True)
class RunSide:
    """One of two runs."""

    title: str
    run_id: str
    fields: Fields
    manifest: Fields
    """Empty where there is none."""
    metrics: Fields
    """Dotted `split.task.metric` -> value of the result; empty while the run is not done."""
    num_epochs: int


def read_side(text: str, store: Store | None) -> PlanSide | RunSide:
    """Return the plan or the run that an argument names.

    Args:
        text: a run id, or the path or address of a run's or a sweep's folder or of a plan.
        store: where run ids are looked for.

    Raises:
        ValueError: if it names neither.
        StoreError: if what it names cannot be read.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    if _RUN_ID.fullmatch(text) and not Path(text).exists():
        if store is None:
            raise UsageError(f"Expected --store STORE with the run id {text}, got none.")
        return _read_run(place_of(store, store.run_key(text)))
    place: Place = Path(text).expanduser()
    if is_address(text):
        place, text, own_store = _at_address(text)
        store = store or own_store
    try:
        if kind_of(place / "spec.json") == "file":
            return _read_run(place.absolute() if isinstance(place, Path) else place)
        is_folder = place.is_dir() if isinstance(place, Path) else kind_of(place) == "folder"
        return _read_plan(place / "plan.json" if is_folder else place, store)
    except UnreadableError as error:
        raise StoreError(
            f"Expected a run id, the folder of a run or a sweep, or a plan, got {text}, which "
            f"{printable(error)}."
        ) from error


def _at_address(address: str) -> tuple[Place, str, Store | None]:
    """Return a place on object storage, how it is shown, and the store if it lies in one."""
    # Only here: pyarrow takes a while to import, and a folder does not need it.
    from mtl.store.objects import ObjectStorage, shown_address

    parts, shown = urlsplit(address), shown_address(address)
    found = _BELOW_STORE.fullmatch(parts.path)
    if found is not None:
        store = open_anywhere(parts._replace(path=found[1]).geturl())
        return place_of(store, found[2]), shown, store
    above, _, name = parts.path.rstrip("/").rpartition("/")
    if not name:
        raise UsageError(f"Expected the address of a run, a sweep or a plan, got {shown}.")
    storage = ObjectStorage(parts._replace(path=above).geturl())  # of a plan that was saved there
    return ObjectPlace(storage, unquote(name)), shown, None


def _read_run(folder: Place) -> RunSide:
    spec = _read_file(folder, "spec.json", lambda: read_spec(folder))
    result = _read_file(folder, "result.json", lambda: _object_or_empty(folder / "result.json"))
    manifest = _read_file(
        folder, "manifest.json", lambda: _object_or_empty(folder / "manifest.json")
    )
    lines = _read_file(folder, "epochs.jsonl", lambda: read_lines(folder / "epochs.jsonl"))
    metrics = result.get("selected_metrics")
    return RunSide(
        title=f"run {folder.name}",
        run_id=folder.name,
        fields=flat(spec.to_dict()),
        manifest=flat(manifest),
        metrics=flat(metrics) if isinstance(metrics, Mapping) else {},
        num_epochs=len(lines),
    )


def _read_file(folder: Place, name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except UnreadableError as error:
        raise StoreError(
            f"Expected a run in {folder}, got one whose {name} {printable(error)}."
        ) from error


def _object_or_empty(path: Place) -> dict[str, Any]:
    try:
        return read_object(path)
    except AbsentError:
        return {}


def _read_plan(path: Place, store: Store | None) -> PlanSide:
    held = read_object(path)
    runs = held.get("runs")
    if isinstance(runs, list):
        return PlanSide(str(path), dict(map(_planned_run, runs)))
    try:
        plan = parse_plan(held)
    except PlanFileError as error:
        raise UnreadableError(f"holds no runs but {error}") from error
    if not plan.revisions:
        raise UnreadableError("holds no runs and no revisions of a plan")
    # A search's last revision may be its chosen points alone; its saved plan lists all of its runs.
    run_ids = plan.run_ids if plan.tuned else plan.revisions[-1]["run_ids"]
    if store is None and isinstance(path, Path):
        above = path.absolute().parents
        if len(above) > 2 and above[1].name == "sweeps":
            store = open_anywhere(str(above[2]))
    if store is None:
        return PlanSide(str(path), dict.fromkeys(run_ids))
    known = store.for_each(functools.partial(_fields_of, store), run_ids)
    return PlanSide(str(path), dict(zip(run_ids, known, strict=True)))


def _planned_run(run: Any) -> tuple[str, Fields]:
    if not isinstance(run, dict) or not isinstance(run.get("run_id"), str):
        raise UnreadableError("holds a run without a run id")
    if not isinstance(run.get("spec"), dict):
        raise UnreadableError("holds a run without a spec")
    return run["run_id"], flat(run["spec"])


def _fields_of(store: Store, run_id: str) -> Fields | None:
    if not _RUN_ID.fullmatch(run_id):
        return None
    try:
        return flat(read_spec(place_of(store, store.run_key(run_id))).to_dict())
    except UnreadableError:
        return None


def plan_differences(a: PlanSide, b: PlanSide) -> list[str]:
    """Return in lines how two plans differ."""
    both = [run_id for run_id in a.runs if run_id in b.runs]
    only_a = [run_id for run_id in a.runs if run_id not in b.runs]
    only_b = [run_id for run_id in b.runs if run_id not in a.runs]
    lines = [
        f"A: {printable(a.title)}: {counted(len(a.runs), 'run')}",
        f"B: {printable(b.title)}: {counted(len(b.runs), 'run')}",
        f"{len(both):,} in both, {len(only_a):,} only in A, {len(only_b):,} only in B.",
    ]
    for side, name in ((a, "A"), (b, "B")):
        unknown = sum(fields is None for fields in side.runs.values())
        if unknown:
            what = counted(unknown, "run")
            lines.append(f"The specs of {what} of {name} are not at hand; --store may name them.")
    if not only_a and not only_b:
        is_same_order = list(a.runs) == list(b.runs)
        return [*lines, "The same runs" + ("." if is_same_order else ", in another order.")]
    values_a, values_b = _values(a), _values(b)
    for word, mine, others in (
        ("only in A", values_a, values_b),
        ("only in B", values_b, values_a),
    ):
        names = [name for name in mine if name not in others]
        if names and others:
            lines.append(f"Fields {word}:")
            lines += [f"  {printable(name)}: {_listed(mine[name])}" for name in names]
    differing = [n for n in values_a if n in values_b and set(values_a[n]) != set(values_b[n])]
    if differing:
        lines.append("Values:")
    for name in differing:
        extra_a = [value for value in values_a[name] if value not in values_b[name]]
        extra_b = [value for value in values_b[name] if value not in values_a[name]]
        parts = [f"only in A {_listed(extra_a)}"] if extra_a else []
        parts += [f"only in B {_listed(extra_b)}"] if extra_b else []
        lines.append(f"  {printable(name)}: {'; '.join(parts)}")
    for name, values in (("A", values_a), ("B", values_b)):
        varying = [printable(n) for n, found in values.items() if len(found) > 1]
        lines.append(f"In {name} varies: {', '.join(varying) or 'nothing'}.")
    for name, run_ids, side in (("A", only_a, a), ("B", only_b, b)):
        if run_ids:
            lines.append(f"Only in {name}:")
            varying_names = [n for n, found in _values(side).items() if len(found) > 1]
            lines += [
                f"  {printable(run_id, 40)}  {_run_line(side.runs[run_id], varying_names)}".rstrip()
                for run_id in run_ids[:MOST_RUNS_LISTED]
            ]
            if len(run_ids) > MOST_RUNS_LISTED:
                lines.append(f"  and {len(run_ids) - MOST_RUNS_LISTED:,} more")
    return lines


def _values(side: PlanSide) -> dict[str, list[str]]:
    """Return field -> its distinct values, as text, in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for fields in side.runs.values():
        for name, value in (fields or {}).items():
            found.setdefault(name, {})[_text(value)] = None
    return {name: list(values) for name, values in found.items()}


def _run_line(fields: Fields | None, names: Iterable[str]) -> str:
    if fields is None:
        return ""
    return printable(" ".join(f"{n}={_text(fields[n])}" for n in names if n in fields))


def _listed(values: Sequence[str]) -> str:
    shown = printable(", ".join(values[:MOST_VALUES_LISTED]))
    more = len(values) - MOST_VALUES_LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else printable(value, 120)


def run_differences(a: RunSide, b: RunSide) -> list[str]:
    """Return in lines how two runs differ: fields, how they were made, results."""
    lines = [f"A: {a.title}", f"B: {b.title}"]
    fields = _differing(a.fields, b.fields)
    lines += ["Fields:", *fields] if fields else ["The same spec."]
    if not (a.manifest and b.manifest):
        missing = " and ".join(n for n, side in (("A", a), ("B", b)) if not side.manifest)
        lines.append(f"No manifest of {missing}: how it was made is not known.")
    else:
        made = _differing(a.manifest, b.manifest)
        lines += (
            ["How they were made:", *made] if made else ["Made alike: versions, hardware, data."]
        )
    return lines + _result_lines(a, b)


def _differing(a: Fields, b: Fields) -> list[str]:
    names = [name for name in dict.fromkeys((*a, *b)) if name not in _TIMES]
    return [
        f"  {printable(name)}: {_text(a.get(name, ABSENT))} -> {_text(b.get(name, ABSENT))}"
        for name in names
        if not name.startswith("per_pixel_prior") and a.get(name, ABSENT) != b.get(name, ABSENT)
    ]


def _result_lines(a: RunSide, b: RunSide) -> list[str]:
    undone = [(n, side) for n, side in (("A", a), ("B", b)) if not side.metrics]
    if undone:
        epochs = ", ".join(f"{n} has {counted(side.num_epochs, 'epoch')}" for n, side in undone)
        return [f"No results to compare: {epochs} and no result."]
    if a.metrics == b.metrics:
        return ["The same results to the last digit."]
    rows = [("Results", "A", "B", "B - A")]
    for name in dict.fromkeys((*a.metrics, *b.metrics)):
        before, after = a.metrics.get(name), b.metrics.get(name)
        if before != after:
            rows.append((printable(name), *_shown(name.rsplit(".", 1)[-1], before, after)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _shown(metric: str, before: Any, after: Any) -> tuple[str, str, str]:
    """Return two values of a metric and their difference in its display unit."""
    known = METRICS.get(metric)
    factor, unit = (1.0, "") if known is None else (known.display_factor, known.display_unit or "")
    texts = [f"{v * factor:.6g}{unit}" if is_number(v) else ABSENT for v in (before, after)]
    both = is_number(before) and is_number(after)
    return texts[0], texts[1], f"{(after - before) * factor:+.3g}{unit}" if both else ""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = SentenceParser(
        prog="diff.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "a", metavar="A", help="run id, or folder or address of a run or sweep, or plan"
    )
    parser.add_argument("b", metavar="B", help="the same kind of thing")
    parser.add_argument("--store", help="where run ids are looked for")
    return parser


def _diff(argv: Sequence[str] | None) -> int:
    given = make_parser().parse_args(argv)
    store = None if given.store is None else open_anywhere(given.store)
    a, b = read_side(given.a, store), read_side(given.b, store)
    if isinstance(a, PlanSide) and isinstance(b, PlanSide):
        lines = plan_differences(a, b)
    elif isinstance(a, RunSide) and isinstance(b, RunSide):
        lines = run_differences(a, b)
    else:
        raise UsageError("Expected two plans or two runs, got one of each.")
    print("\n".join(lines))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print what differs; return the exit status: 0 whether or not anything does."""
    return status_of("diff", lambda: _diff(argv))


if __name__ == "__main__":
    sys.exit(main())
