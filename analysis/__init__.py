"""What the results say: compute (values in, values out) and show; neither torch nor ray.

from analysis import operating_points, report
operating_points("results").show()
report(frame, out="report", metrics={"steering": "mae:min:degrees", "drowsiness": "auroc:max"})
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.reports import operating_points, report

__all__ = ["operating_points", "report"]


def __getattr__(name: str) -> Any:
    # On demand: a plan imports parts of this package and needs no report.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis import reports

    return getattr(reports, name)
