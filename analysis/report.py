"""The reports: results -> report.html, tables/ and summary.json, built only when inputs changed.

This module imports neither pandas nor plotly until something must be built, so that a finished
sweep asked for again answers at once.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.load.axes import check_tasks
from analysis.load.groups import folder_name, groups_of_stores
from analysis.load.run_files import NO_FILES, RunFiles
from mtl.errors import StoreError
from mtl.store import Store, read_json, write_json
from mtl.store.local import write_atomically

if TYPE_CHECKING:
    from analysis.load.runs import Loaded
    from mtl.spec import RunSpec


def write_index(out: Path, reports: Mapping[str, "ReportSummary"], code: bytes) -> None:
    """Write `out/report.html`, which links the report of each group, unless it is up to date.

    Args:
        out: folder that holds the groups' folders.
        reports: label -> report.
        code: hash of the code that makes pages.
    """
    rows = [
        {
            "label": label,
            "link": report.path.relative_to(out).as_posix(),
            "verdict": report.verdict,
            "num_done": report.num_done,
            "num_runs": report.num_runs,
        }
        for label, report in reports.items()
    ]
    fingerprint = hashlib.sha256(json.dumps(rows).encode() + code).hexdigest()
    path = out / "report.html"
    if path.is_file() and fingerprint in path.read_text("utf-8", errors="replace"):
        return

    from analysis.page import environment

    page = environment().get_template("index.html.j2").render(rows=rows, fingerprint=fingerprint)
    write_atomically(path, page.encode())


SUMMARY_SCHEMA = 1
_INPUT_FILES = ("spec.json", "result.json", "manifest.json", "error.txt")


@dataclass(frozen=True)
class ReportSummary:
    """What a terminal shows of a report."""

    path: Path
    """report.html."""
    rebuilt: bool
    """False where inputs, code and options were those of the report that is there."""
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


def default_folder(store: Store, sweep: str | None = None) -> Path:
    """Return where the report on a sweep, or on a whole store, lies unless told otherwise.

    That is in the store; a report on object storage is written to this machine's disk.
    """
    if not store.is_local:
        return Path("reports") / sweep if sweep else Path("report")
    return (store.sweep_folder(sweep) if sweep else store.root) / "report"


def write_reports(
    stores: Sequence[Store],
    out: Path,
    run_ids: Sequence[str] | None = None,
    metrics: Mapping[str, str] | None = None,
    *,
    paper_scaling: bool = False,
    tuned: Sequence[str] = (),
    static: bool = False,
) -> dict[str, ReportSummary]:
    """Write one report for each set of runs that may be compared; return them by label.

    A single set's report lies in `out`, labelled "". Those of several lie in folders of their
    own below it, and `out/report.html` links them.

    Args:
        stores: opened stores; a run that several hold counts once.
        out: folder for the reports; made if absent.
        run_ids: the runs asked for, in order; None means all that the stores hold or plan.
        metrics: task -> metric or alias, for the sets that have the task.
        paper_scaling: see `analysis.load.axes.choose_axes`.
        tuned: see `analysis.load.groups.common_fields`; of whole stores, their searches say.
        static: whether figures are written as SVG, PDF and PNG too, in figures/.

    Raises:
        AnalysisError: if there is no run.
        UnknownTaskError: for a metric on a task that no set has.
        ValueError: for an unknown metric.
    """
    groups = groups_of_stores(stores, run_ids, tuned)
    metrics = metrics or {}
    tasks = list(dict.fromkeys(task for group in groups.values() for task in group.tasks))
    if tasks:
        check_tasks(metrics, tasks)
    if len(groups) < 2:
        known = metrics if tasks else {}
        fields = next((group.tuned for group in groups.values()), tuned)
        single = write_report(
            stores,
            out,
            run_ids=run_ids,
            metrics=known,
            paper_scaling=paper_scaling,
            tuned=fields,
            static=static,
            specs=next((group.specs for group in groups.values()), None),
        )
        return {"": single}
    alone = [
        run_id for group in groups.values() if len(group.tasks) == 1 for run_id in group.run_ids
    ]
    reports = {
        label: write_report(
            stores,
            out / folder_name(label),
            run_ids=group.run_ids,
            metrics={task: name for task, name in metrics.items() if task in group.tasks},
            title=f"Operating points: {label.replace(',', ', ')}",
            paper_scaling=paper_scaling,
            tuned=group.tuned,
            static=static,
            specs=group.specs,
            baseline_ids=alone if len(group.tasks) > 1 else (),
        )
        for label, group in groups.items()
    }
    _remove_single(out)
    write_index(out, reports, _code_digest())
    return reports


def _remove_single(out: Path) -> None:
    """Remove what an earlier report on a single set left, so that it counts as never built."""
    earlier = _earlier(out)
    (out / "summary.json").unlink(missing_ok=True)
    for name in earlier.get("files", ()):
        (out / name).unlink(missing_ok=True)


def in_words(label: str, summary: ReportSummary) -> str:
    """Return what a terminal shows of a report: label, table, verdict, path."""
    lines = [f"\n{label}"] if label else []
    lines += [summary.table, ""] if summary.table else []  # no head without results
    lines.append(summary.verdict)
    rest = [f"{number} {state}" for state, number in summary.counts.items() if state != "done"]
    if rest:
        lines.append(
            f"{summary.num_done} of {summary.num_runs} runs are done, {', '.join(rest)}; "
            "the report says why."
        )
    lines.append(f"Report: {summary.path}{'' if summary.rebuilt else ' (unchanged)'}")
    return "\n".join(lines)


def write_report(
    stores: Sequence[Store],
    out: Path,
    *,
    run_ids: Sequence[str] | None = None,
    metrics: Mapping[str, str] | None = None,
    title: str | None = None,
    paper_scaling: bool = False,
    tuned: Sequence[str] = (),
    static: bool = False,
    specs: "Mapping[str, RunSpec] | None" = None,
    baseline_ids: Sequence[str] = (),
) -> ReportSummary:
    """Write the report on the runs of one or several stores to `out`.

    Args:
        stores: opened stores; a run that several hold counts once.
        out: folder for report.html, tables/ and summary.json; made if absent.
        run_ids: the runs asked for, in order; None means all that the stores hold or plan.
        metrics: task -> metric or alias that judges it; see `analysis.load.axes.choose_axes`.
        title: of the page.
        paper_scaling: see `analysis.load.axes.choose_axes`.
        tuned: see `analysis.load.groups.common_fields`.
        static: see `write_reports`.
        specs: see `analysis.load.runs.load_stores`.
        baseline_ids: single-task runs; those under the settings of the runs are their baselines.

    Raises:
        AnalysisError: if there is no run, or the runs must not be compared.
        ValueError: for an unknown task or metric.
    """

    def load() -> "Loaded":
        from analysis.load.baselines import with_baselines
        from analysis.load.runs import load_stores

        return with_baselines(load_stores(stores, run_ids, specs), stores, baseline_ids)

    inputs = _store_inputs(stores, None if run_ids is None else [*run_ids, *baseline_ids])
    options = PageOptions(metrics or {}, title, paper_scaling, tuple(tuned), static)
    return _write(out, inputs, load, options, RunFiles(stores))


def write_table_report(
    path: Path,
    out: Path,
    *,
    metrics: Mapping[str, str] | None = None,
    title: str | None = None,
    paper_scaling: bool = False,
    static: bool = False,
) -> ReportSummary:
    """Write the report on a tidy CSV or Parquet to `out`; see `write_report`."""

    def load() -> "Loaded":
        from analysis.load.table import load_table

        return load_table(path)

    inputs = hashlib.sha256(path.read_bytes())
    options = PageOptions(metrics or {}, title, paper_scaling, (), static)
    return _write(out, inputs, load, options, NO_FILES)


@dataclass(frozen=True)
class PageOptions:
    """How a page was asked for; another one is built again."""

    metrics: Mapping[str, str]
    title: str | None
    paper_scaling: bool
    tuned: tuple[str, ...]
    static: bool


def _write(
    out: Path,
    inputs: Any,
    load: Callable[[], "Loaded"],
    options: PageOptions,
    run_files: RunFiles,
) -> ReportSummary:
    inputs.update(json.dumps(asdict(options), sort_keys=True).encode())
    inputs.update(_code_digest())
    fingerprint = inputs.hexdigest()
    earlier = _earlier(out)
    if earlier.get("fingerprint") == fingerprint and all(
        (out / name).is_file() for name in earlier["files"]
    ):
        return _summary(out, earlier, rebuilt=False)

    from analysis.page import build

    built = build(
        load(),
        options.metrics,
        options.title,
        paper_scaling=options.paper_scaling,
        tuned=options.tuned,
        run_files=run_files,
        static=options.static,
    )
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
        table=summary["terminal_table"],
        verdict=summary["verdict"]["headline"],
        counts=summary["counts"],
    )


def _earlier(out: Path) -> dict[str, Any]:
    """Return the summary that is there, or nothing if it is absent, damaged or another schema."""
    try:
        summary = read_json(out / "summary.json")
    except (OSError, StoreError):
        return {}
    known = isinstance(summary, dict) and summary.get("schema") == SUMMARY_SCHEMA
    return summary if known else {}


def _store_inputs(stores: Sequence[Store], run_ids: Sequence[str] | None) -> Any:
    """Return a hash over everything that a report reads from the stores."""
    digest = hashlib.sha256()
    digest.update(json.dumps(None if run_ids is None else list(run_ids)).encode())
    for number, store in enumerate(stores):
        if run_ids is None:
            for sweep in store.sweep_names():
                _add(digest, store.read, store.sweep_key(sweep, "plan.json"), f"{number}/{sweep}")
        for run_id in store.run_ids() if run_ids is None else run_ids:
            held = {
                name: _add(
                    digest, store.read, store.run_key(run_id, name), f"{number}/{run_id}/{name}"
                )
                for name in _INPUT_FILES
            }
            if not held["result.json"]:
                log = store.run_key(run_id, "epochs.jsonl")
                _add(digest, store.read_log, log, f"{number}/{run_id}/epochs")
                digest.update(b"checkpoint" if store.has_checkpoint(run_id) else b"none")
    return digest


def _add(digest: Any, read: Callable[[str], bytes], key: str, name: str) -> bool:
    """Add a file to the digest if it is there; return whether it is."""
    try:
        data = read(key)
    except FileNotFoundError:
        return False
    digest.update(f"{name} {len(data)}\n".encode())
    digest.update(data)
    return True


def _code_digest() -> bytes:
    """Return a hash of the code that makes reports: new code builds them again."""
    import mtl.records
    import mtl.spec

    here = Path(__file__).parent
    sources = [
        *here.rglob("*.py"),
        *here.glob("templates/*"),
        Path(str(mtl.records.__file__)),
        Path(str(mtl.spec.__file__)),
    ]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.digest()
