"""The reports: results -> report.html, tables/ and summary.json, built only when inputs changed.

This module imports neither pandas nor plotly until something must be built, so that a finished
sweep asked for again answers at once.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mtl.store
from analysis.load.axes import check_tasks
from analysis.load.groups import (
    Family,
    Group,
    baseline_ids,
    families_of,
    groups_of_stores,
    parts_of,
)
from analysis.load.metrics import Declared, asked_metrics, refuse_declared
from analysis.load.plans import Asked, stores_among, table_among
from analysis.load.run_files import NO_FILES, RunFiles
from mtl.errors import UsageError, UserError
from mtl.spec.tasks import Metric
from mtl.store import Store, write_atomically, write_json
from mtl.store.local import StoredFile
from mtl.store.states import read_run, run_names

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from analysis.compute.settings import SettingsComparison
    from analysis.load.runs import Loaded
    from analysis.page import Built

SUMMARY_SCHEMA = 1
_LIBRARIES = ("moocore", "numpy", "pandas", "plotly", "scipy")
"""Whose versions may change a report."""


@dataclass(frozen=True)
class ReportSummary:
    """What a terminal shows of a report."""

    path: Path
    """report.html."""
    rebuilt: bool
    """False where inputs, code and options were those of the report that is there."""
    title: str
    table: str
    """Operating points as plain text."""
    verdict: str
    """The verdict's headline."""
    counts: Mapping[str, int]
    """State of runs asked for -> their number; see `analysis.load.runs.STATES`."""

    @property
    def num_done(self) -> int:
        """Return the number of runs that have a result which is shown."""
        return self.counts.get("done", 0)

    @property
    def num_runs(self) -> int:
        """Return the number of runs asked for."""
        return sum(self.counts.values())

    def to_text(self) -> str:
        """Return what a terminal shows: table, verdict, path."""
        lines = [self.table, ""] if self.table else []  # no head without results
        lines.append(self.verdict)
        rest = [f"{number} {state}" for state, number in self.counts.items() if state != "done"]
        if rest:
            lines.append(
                f"{self.num_done} of {self.num_runs} runs are done, {', '.join(rest)}; "
                "the report says why."
            )
        lines.append(f"Report: {self.path}{'' if self.rebuilt else ' (unchanged)'}")
        return "\n".join(lines)


def to_text(reports: Mapping[str, ReportSummary]) -> str:
    """Return what a terminal shows of reports: of several, the first page, which links them."""
    return reports[""].to_text()


def to_json(reports: Mapping[str, ReportSummary]) -> dict[str, Any]:
    """Return what a machine reads of reports: counts and verdict of the first page, and paths."""
    places = {
        label: {"report": str(path), "summary": str(path.with_name("summary.json"))}
        for label, held in reports.items()
        for path in [held.path.resolve()]
    }
    first = reports[""]
    return {
        "counts": dict(first.counts),
        "verdict": first.verdict,
        **places.pop(""),
        "reports": places,
    }


def write_reports(
    stores: Sequence[Store],
    out: Path,
    asked: Asked | None = None,
    metrics: Mapping[str, str] | None = None,
    *,
    paper_scaling: bool = False,
    static: bool = False,
) -> dict[str, ReportSummary]:
    """Write one report for each set of runs that differ only in method, priorities and seed.

    Returned by label; "" is the first page, which lies in `out`. Where there is a single set, that
    is its report. The reports of several lie in folders of their own below it, and the first page
    compares what varies between them.

    Args:
        stores: opened stores; a run that several hold counts once.
        out: folder for report.html, tables/ and summary.json; made if absent.
        asked: the runs asked for, in order; None means all that the stores hold or plan.
        metrics: task -> metric or alias that judges it, for the sets that have the task.
        paper_scaling: see `analysis.load.axes.choose_axes`.
        static: whether figures are written as SVG, PDF and PNG too, in figures/.
    """
    groups = groups_of_stores(stores, asked)
    metrics = metrics or {}
    tasks = list(dict.fromkeys(task for group in groups for task in group.tasks))
    if tasks:
        check_tasks(metrics, tasks)
    reports: dict[str, ReportSummary] = {}
    for group in groups:
        options = {
            "metrics": {task: name for task, name in metrics.items() if task in group.tasks},
            "title": f"Operating points: {group.title}" if group.title else "Operating points",
            "paper_scaling": paper_scaling,
            "tuned": group.tuned,
            "primary": group.primary,
            "searched": group.searched,
            "static": static,
        }
        folder = out / group.folder if len(groups) > 1 else out
        alone = baseline_ids(groups, group)
        inputs = _store_inputs(stores, [*group.run_ids, *alone])
        load = functools.partial(_load_group, stores, group, alone)
        reports[group.label] = _write(folder, inputs, load, options, RunFiles(stores))
    if len(groups) == 1:
        return reports
    options = {"metrics": metrics, "paper_scaling": paper_scaling, "static": static}
    return {"": _write_first_page(stores, out, groups, reports, options), **reports}


def _write_first_page(
    stores: Sequence[Store],
    out: Path,
    groups: Sequence[Group],
    reports: Mapping[str, ReportSummary],
    options: Mapping[str, Any],
) -> ReportSummary:
    """Write the page that compares what varies between groups."""
    counts: Counter[str] = Counter()
    for report in reports.values():
        counts.update(report.counts)
    links = [report.path.relative_to(out).as_posix() for report in reports.values()]

    def make() -> "Built":
        from analysis.page import Detail, build_settings

        compared = [
            _compared(stores, part, groups, options["metrics"], options["paper_scaling"])
            for family in families_of(groups)
            for part in parts_of(family, [_declared(stores, group) for group in family.groups])
        ]
        details = [
            Detail(
                report.title.removeprefix("Operating points: "),
                link,
                report.verdict,
                report.num_done,
                report.num_runs,
            )
            for link, report in zip(links, reports.values(), strict=True)
        ]
        return build_settings(compared, details, counts, static=options["static"])

    run_ids = [run_id for group in groups for run_id in group.run_ids]
    inputs = [*_store_inputs(stores, run_ids), json.dumps(links).encode()]
    return _written(out, inputs, options, make)


def _declared(stores: Sequence[Store], group: Group) -> Declared:
    """Return what the first done run of a group says of its metrics, nothing without any."""
    for store in stores:
        for run_id, names in run_names(store, group.run_ids).items():
            result = read_run(store, run_id, group.specs.get(run_id), names).result
            if result is not None:
                return result.declared
    return {}


def _compared(
    stores: Sequence[Store],
    family: Family,
    groups: Sequence[Group],
    metrics: Mapping[str, str],
    paper_scaling: bool,
) -> "SettingsComparison":
    from analysis.compute.settings import compare_settings
    from analysis.load.baselines import single_task_runs
    from analysis.load.runs import load_stores

    specs = {i: spec for group in family.groups for i, spec in group.specs.items()}
    loaded = load_stores(stores, [i for group in family.groups for i in group.run_ids], specs)
    singles = []
    for group in family.groups:
        runs = loaded.runs
        runs = runs if runs.empty else runs[runs["run_id"].isin(group.run_ids)]
        own = replace(loaded, runs=runs)
        singles.append(single_task_runs(own, stores, baseline_ids(groups, group), group.tuned))
    asked = {task: name for task, name in metrics.items() if task in loaded.tasks}
    axes, notes = loaded.axes(asked, paper_scaling=paper_scaling)
    loaded = replace(loaded, notes=(*loaded.notes, *notes))
    return compare_settings(loaded, family, axes, singles, RunFiles(stores))


def _load_group(stores: Sequence[Store], group: Group, alone: Sequence[str]) -> "Loaded":
    from analysis.load.baselines import baselines
    from analysis.load.runs import load_stores

    loaded = load_stores(stores, group.run_ids, group.specs)
    held, notes = baselines(loaded, stores, alone, group.tuned)
    return replace(loaded, baselines=held, notes=(*loaded.notes, *notes))


def write_table_report(
    results: Any,
    out: Path,
    metrics: Mapping[str, str] | None = None,
    own: Declared | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    paper_scaling: bool = False,
    static: bool = False,
) -> ReportSummary:
    """Write the report on a table to `out`; see `write_reports`.

    Arguments `results`, `own` and `columns` are those of `analysis.load.table.load_table`.
    """

    def load() -> "Loaded":
        from analysis.load.table import load_table

        return load_table(results, own, columns)

    options = {"metrics": dict(metrics or {}), "paper_scaling": paper_scaling, "static": static}
    if isinstance(results, Path) and results.is_file():
        renamed = json.dumps(dict(columns or {})).encode()
        inputs = [results.read_bytes(), renamed, _own_bytes(own)]
        return _write(out, inputs, load, options, NO_FILES)
    loaded = load()
    held = repr((loaded.fields, loaded.prior, loaded.notes, loaded.baselines))
    inputs = [loaded.runs.to_csv().encode(), held.encode(), _own_bytes(own)]
    return _write(out, inputs, lambda: loaded, options, NO_FILES)


def _own_bytes(own: Declared | None) -> bytes:
    return json.dumps({task: held.to_dict() for task, held in (own or {}).items()}).encode()


Results = Any
"""A store or several, a sweep's folder, a CSV or Parquet (their paths); a pandas DataFrame; a Ray
Tune `ResultGrid` or experiment folder; an Optuna study."""
AskedMetrics = Mapping[str, str | Metric | Sequence[Metric]]
"""Task -> the metric that judges it: a name, `mae:min:degrees`, a `Metric`, or several."""


def report(
    results: Results,
    out: str | Path = "report",
    metrics: AskedMetrics | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, ReportSummary]:
    """Write the report on results from anywhere; return it by label, "" where there is one.

    Args:
        results: what to report.
        out: folder for report.html, tables/ and summary.json.
        metrics: by which tasks are judged; tasks of one's own need a direction and a unit.
        columns: column of the results -> `method`, `seed`, `priority_<task>`, `<task>_<metric>` or
            another name of a tidy table (docs/report.md), where names differ.

    Raises:
        UserError: in one sentence, for what cannot be reported.
    """
    chosen, own = asked_metrics(metrics or {})
    table, places = _table_or_places(results)
    if not places:
        return {"": write_table_report(table, Path(out), chosen, own, columns)}
    _refuse_for_stores(own, columns)
    stores, asked = stores_among(places)
    return write_reports(stores, Path(out), asked, chosen)


def operating_points(
    results: Results,
    metrics: AskedMetrics | None = None,
    columns: Mapping[str, str] | None = None,
) -> "Figure":
    """Return the operating points of results from anywhere as a plotly figure.

    Of several tasks the first two axes are drawn. Arguments are those of `report`.

    Raises:
        UserError: also where the results hold sets of runs that may not be compared.
    """
    from plotly.graph_objects import Figure

    from analysis.compute.findings import find
    from analysis.load.table import load_table
    from analysis.render.plotly_json import plotly_values
    from analysis.sections.operating_points import operating_point_figures

    chosen, own = asked_metrics(metrics or {})
    table, places = _table_or_places(results)
    if not places:
        loaded = load_table(table, own, columns)
    else:
        _refuse_for_stores(own, columns)
        stores, asked = stores_among(places)
        groups = groups_of_stores(stores, asked)
        if len(groups) != 1:
            raise UserError(
                f"Expected runs that may be compared, got {len(groups)} sets of runs. Name one "
                "sweep (STORE/sweeps/NAME), or write a report: it has a page for each."
            )
        loaded = _load_group(stores, groups[0], [])
    axes, _ = loaded.axes(chosen)
    figures = operating_point_figures(find(loaded, axes))
    if not figures:
        raise UserError("Expected finished runs of two tasks or more, got none to draw.")
    values = plotly_values(figures[0].panels[0])
    widest = max(values["variants"], key=lambda variant: variant["min_width"])
    layout = {**values["layout"], **widest["layout"], "showlegend": True, "height": 600}
    return Figure(data=values["data"], layout=layout)


def _table_or_places(results: Results) -> tuple[Any, list[str]]:
    """Return what `load_table` reads, or the paths and addresses of stores and sweeps."""
    from analysis.load.frames import is_experiment

    held = [results] if isinstance(results, str | Path) else results
    is_list = isinstance(held, Sequence) and all(isinstance(r, str | Path) for r in held)
    if not is_list or (len(held) == 1 and is_experiment(Path(held[0]))):
        return results, []
    places = [str(place) for place in held]
    table = table_among(places)
    return (None, places) if table is None else (table, [])


def _refuse_for_stores(own: Declared, columns: Mapping[str, str] | None) -> None:
    refuse_declared(own)
    if columns:
        raise UsageError("Expected columns= for a table or a frame, got it for a store.")


def _write(
    out: Path,
    inputs: Sequence[bytes],
    load: Callable[[], "Loaded"],
    options: Mapping[str, Any],
    run_files: RunFiles,
) -> ReportSummary:
    """Write a report on one set of runs.

    `load` reads the runs; `options` and `run_files` are those of `analysis.page.build`.
    """

    def make() -> "Built":
        from analysis.page import build

        return build(load(), run_files=run_files, **options)

    return _written(out, inputs, options, make)


def _written(
    out: Path, inputs: Sequence[bytes], options: Mapping[str, Any], make: Callable[[], "Built"]
) -> ReportSummary:
    """Write what `make` builds unless that of the same inputs, code and options is there."""
    fingerprint = _digest([*inputs, json.dumps(options, sort_keys=True).encode(), _code()])
    earlier = _earlier(out)
    is_same = earlier.get("fingerprint") == fingerprint
    if is_same and all((out / name).is_file() for name in earlier["files"]):
        return _summary(out, earlier, rebuilt=False)

    built = make()
    files = {**built.files, "report.html": built.html}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, content.encode() if isinstance(content, str) else content)
    for name in set(earlier.get("files", ())) - set(files):
        (out / name).unlink(missing_ok=True)
    summary = {
        "schema": SUMMARY_SCHEMA,
        "fingerprint": fingerprint,
        "files": sorted(files),
        **built.summary,
    }
    # Last, so that a report which was interrupted is built again.
    write_json(out / "summary.json", summary)
    return _summary(out, summary, rebuilt=True)


def _summary(out: Path, summary: Mapping[str, Any], *, rebuilt: bool) -> ReportSummary:
    return ReportSummary(
        path=out / "report.html",
        rebuilt=rebuilt,
        title=summary["title"],
        table=summary["terminal_table"],
        verdict=summary["verdict"]["headline"],
        counts=summary["counts"],
    )


def _earlier(out: Path) -> dict[str, Any]:
    """Return the summary that is there, or nothing if it is absent, damaged or another schema."""
    try:
        summary = json.loads((out / "summary.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(summary, dict) and summary.get("schema") == SUMMARY_SCHEMA
    return summary if known else {}


def _store_inputs(stores: Sequence[Store], run_ids: Sequence[str]) -> list[bytes]:
    """Return what tells of every file of the runs whether it changed: name, size and time."""
    files = [store.run_files(run_ids) for store in stores]
    keys = {run_id: stores[0].run_key(run_id) for run_id in run_ids}
    return [
        json.dumps(
            [
                key,
                [(_told(held[i]), s.is_locked(key)) for s, held in zip(stores, files, strict=True)],
            ]
        ).encode()
        for i, key in keys.items()
    ]


def _told(files: Sequence[StoredFile]) -> list[tuple[str, int, float]]:
    # No locks, and nothing that is half written.
    found = [held for held in files if not Path(held.name).name.startswith(".")]
    return sorted((held.name, held.num_bytes, held.written) for held in found)


def code_files() -> list[Path]:
    """Return all code that takes part in a report: new code builds it again."""
    here, below = Path(__file__).parent, Path(mtl.store.__file__).parents[1]
    files = [*below.glob("*.py"), *here.glob("templates/*")]
    for folder in (here, below / "spec", below / "store"):
        files += folder.rglob("*.py")
    return sorted(files)


def _code() -> bytes:
    parts = [version(name).encode() for name in _LIBRARIES]
    for path in code_files():
        parts += [path.name.encode(), path.read_bytes()]
    return _digest(parts).encode()


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d " % len(part))
        digest.update(part)
    return digest.hexdigest()
