"""What a run is: `RunSpec`, its identity, and `Runtime`, which changes no result. No torch."""

from mtl.spec.run import (
    NUMERICS_VERSION,
    PERIOD_FIELDS,
    RunSpec,
    Runtime,
    check_priorities,
    equal_priorities,
)

__all__ = [
    "NUMERICS_VERSION",
    "PERIOD_FIELDS",
    "RunSpec",
    "Runtime",
    "check_priorities",
    "equal_priorities",
]
