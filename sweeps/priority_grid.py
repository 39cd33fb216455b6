"""What does each priority give? Methods x priorities x seeds, and the report of the front.

python sweeps/priority_grid.py            the default job: 20 runs on embedded scenes
python sweeps/priority_grid.py --plan     what it would train, and how long that takes
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
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run_sweep("priority_grid", __doc__ or "", GRID, argv)


if __name__ == "__main__":
    leave(main())
