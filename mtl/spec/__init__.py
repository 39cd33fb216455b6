"""What a run is: `RunSpec`, its identity, and `Runtime`, which changes no result. No torch."""

from mtl.spec.own import MIXED, OwnSpec, Spec, method_text, read_spec
from mtl.spec.run import (
    NUMERICS_VERSION,
    PERIOD_FIELDS,
    RunSpec,
    Runtime,
    check_num_processes,
    check_priorities,
    equal_priorities,
    forked,
    forks_of,
    mixed,
    trunk_of,
)
from mtl.spec.sections import DATASETS, SPLITS, TASKS, DataSpec, NetworkSpec, OptimizerSpec

__all__ = [
    "DATASETS",
    "MIXED",
    "NUMERICS_VERSION",
    "PERIOD_FIELDS",
    "SPLITS",
    "TASKS",
    "DataSpec",
    "NetworkSpec",
    "OptimizerSpec",
    "OwnSpec",
    "RunSpec",
    "Runtime",
    "Spec",
    "check_num_processes",
    "check_priorities",
    "equal_priorities",
    "forked",
    "forks_of",
    "method_text",
    "mixed",
    "read_spec",
    "trunk_of",
]
