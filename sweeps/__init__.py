"""Which trainings, and where: plans, the command line, and the launch on Ray Tune.

from sweeps import Metric, Sweep
Sweep(train, {"steering": Metric("mae", "degrees", "min"), "drowsiness": "auroc:max"}).run()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl.spec.tasks import Metric
    from sweeps.own import Sweep

__all__ = ["Metric", "Sweep"]


def __getattr__(name: str) -> Any:
    # On demand: parts of this package are imported where the rest is not needed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sweeps.own
    from mtl.spec.tasks import Metric

    return {"Metric": Metric, "Sweep": sweeps.own.Sweep}[name]
