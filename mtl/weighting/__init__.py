"""Weightings: how the task losses become the overall loss.

    from mtl.weighting import build_weighting
    weighting = build_weighting("lsb", tasks=("depth", "segmentation"), priorities=(0.3, 0.7))
    weighting.backward(losses)      # each step
    weighting.end_period()          # each epoch

A new method is a file with a `Weighting`, an entry in `WEIGHTINGS` and one in `mtl.spec.METHODS`.
"""

from collections.abc import Callable, Sequence

from mtl.names import checked_name
from mtl.spec import METHODS
from mtl.weighting.base import Weighting
from mtl.weighting.equal import Equal
from mtl.weighting.fixed import Fixed
from mtl.weighting.lsb import LSB

WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "equal": Equal,
    "fixed": Fixed,
    "lsb": LSB,
}

__all__ = ["WEIGHTINGS", "Weighting", "build_weighting"]


def build_weighting(
    method: str,
    tasks: Sequence[str],
    priorities: Sequence[float] | None = None,
    **options: float,
) -> Weighting:
    """Build the weighting `method`.

    Args:
        method: a name in `WEIGHTINGS`.
        tasks: distinct task names, in the order of the losses.
        priorities: one positive number a task, summing to 1 within 1e-6, for methods that take
            them; None means equal ones.
        **options: the method's own, such as `increase_rate` of `lsb`.

    Raises:
        ValueError: for an unknown method or option, or priorities that do not fit.
    """
    checked_name(method, WEIGHTINGS, "method")
    for name in options:
        checked_name(name, METHODS[method].options, f"option of method {method!r}")
    if METHODS[method].takes_priorities:
        return WEIGHTINGS[method](tasks, priorities=priorities, **options)
    if priorities is not None:
        raise ValueError(
            f"Expected no priorities for method {method!r}, which takes none, "
            f"got {list(priorities)}."
        )
    return WEIGHTINGS[method](tasks, **options)
