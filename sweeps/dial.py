"""Which network for a priority in between? Forks of one trunk, and networks mixed between them.

python sweeps/dial.py            36 runs on embedded scenes, 16 of them mixed and not trained
python sweeps/dial.py --plan     what it would train, and how long that takes
"""

from collections.abc import Sequence

from mtl.command_line import leave
from sweeps.command import run_sweep
from sweeps.plan import Grid, defaults

GRID = Grid(
    task_sets=(defaults.DEFAULT_TASKS,),
    methods=defaults.DEFAULT_METHODS,
    divisions=defaults.DEFAULT_DIVISIONS,
    seeds=defaults.DEFAULT_SEEDS,
    fields=defaults.DEFAULT_FIELDS,
    fork_at=0.5,
    mixes=1,
    quick={"epochs": 2},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run_sweep("dial", __doc__ or "", GRID, argv)


if __name__ == "__main__":
    leave(main())
