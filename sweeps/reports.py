"""The reports at the end of a sweep: one for each set of runs that may be compared."""

import sys
from collections.abc import Sequence

from mtl.store import Store
from sweeps.plan import Plan


def write_reports(store: Store, plan: Plan, tuned: Sequence[str] = ()) -> bool:
    """Write each group's report unless it is up to date; print its table and where it lies.

    They lie in `STORE/sweeps/NAME/report/`, those of object storage in `./reports/NAME/`; see
    `analysis.report.write_reports`.

    Args:
        store: where the runs are.
        plan: which runs.
        tuned: dotted fields in which methods may differ, each having its own tuned value.

    Returns:
        False if a report could not be made; then why is printed.
    """
    from analysis import report
    from analysis.axes import AnalysisError

    folder = report.default_folder(store, plan.name)
    try:
        reports = report.write_reports([store], folder, plan.run_ids, tuned=tuned)
    except (AnalysisError, ValueError) as error:
        # A ValueError is wrong usage elsewhere; here nobody asked for anything but the sweep.
        print(f"No report: {error}", file=sys.stderr)
        return False
    for label, summary in reports.items():
        print(report.in_words(label, summary))
    return True
