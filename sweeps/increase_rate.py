"""How fast should difficulty gain weight? LSB's increase rates x priorities x seeds.

python sweeps/increase_rate.py            36 runs on embedded scenes
python sweeps/increase_rate.py --plan     what it would train, and how long that takes
"""

from collections.abc import Sequence

from mtl.command_line import leave
from sweeps.command import run_sweep
from sweeps.plan import Grid, defaults

GRID = Grid(
    task_sets=(defaults.DEFAULT_TASKS,),
    methods=("lsb",),
    divisions=4,
    seeds=defaults.DEFAULT_SEEDS,
    fields=defaults.DEFAULT_FIELDS,
    # The paper trains with 0.02, 0.05 and 0.5 (supplement, section 3); 0 leaves difficulty out.
    axes={"method_options.increase_rate": (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)},
    quick={"epochs": 3},  # before the third period no rate acts
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run_sweep("increase_rate", __doc__ or "", GRID, argv)


if __name__ == "__main__":
    leave(main())
