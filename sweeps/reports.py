"""The reports at the end of a sweep: one for each set of runs that may be compared."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.guard import COMPARED
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.fields import spec_fields, varying_fields
from sweeps.plan import Plan

LONGEST_FOLDER_NAME = 80


def comparable_groups(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """Return label -> specs that differ only in what a report compares, in order of appearance.

    The label names what the group does not share with the others, such as
    `tasks=depth+normal,optimizer.learning_rate=0.001`; it is empty for a single group.
    """
    varying = [
        dotted
        for dotted in varying_fields(specs)
        # Loss units vary in their very names with the tasks, which the label holds already.
        if dotted.split(".")[0] not in COMPARED
        and (not dotted.startswith("loss_units.") or _varies_where_held(dotted, specs))
    ]
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        held = spec_fields(spec)
        parts = [f"{dotted}={_text(held[dotted])}" for dotted in varying if dotted in held]
        groups.setdefault(",".join(parts), []).append(spec)
    return groups


def _varies_where_held(dotted: str, specs: Sequence[RunSpec]) -> bool:
    held = [spec_fields(spec) for spec in specs]
    return len({fields[dotted] for fields in held if dotted in fields}) > 1


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def write_reports(store: Store, plan: Plan) -> bool:
    """Write each group's report unless it is up to date; print its table and where it lies.

    A single group's report lies in `STORE/sweeps/NAME/report/`, those of several in folders of
    their own below it.

    Returns:
        False if a report could not be made; then why is printed.
    """
    from analysis.axes import AnalysisError
    from analysis.report import write_report

    folder = store.sweep_folder(plan.name) / "report"
    all_written = True
    for label, specs in comparable_groups(plan.specs).items():
        try:
            summary = write_report(
                [store], folder / _folder_name(label), run_ids=[s.run_id() for s in specs]
            )
        except AnalysisError as error:
            print(f"No report{f' of {label}' if label else ''}: {error}", file=sys.stderr)
            all_written = False
            continue
        if label:
            print(f"\n{label}")
        print(summary.table)
        if summary.verdict:
            print(summary.verdict)
        print(f"Report: {summary.path}{'' if summary.rebuilt else ' (unchanged)'}")
    return all_written


def _folder_name(label: str) -> Path:
    return Path(re.sub(r"[^A-Za-z0-9._=+,-]", "_", label)[:LONGEST_FOLDER_NAME])
