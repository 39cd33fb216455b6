"""What should the tasks share, and of which encoder? Architectures x encoders x methods x seeds.

python sweeps/architectures.py            40 runs on embedded scenes
python sweeps/architectures.py --plan     what it would train, and how long that takes
"""

from collections.abc import Sequence

from mtl.command_line import leave
from mtl.spec.sections import ARCHITECTURES
from sweeps.command import run_sweep
from sweeps.plan import Grid, defaults

GRID = Grid(
    task_sets=(defaults.DEFAULT_TASKS,),
    methods=("lsb", "equal"),
    divisions=None,
    seeds=defaults.DEFAULT_SEEDS,
    fields=defaults.DEFAULT_FIELDS,
    axes={
        "network.architecture": tuple(ARCHITECTURES),
        "network.encoder": ("test_efficientnet", "mobilenetv3_small_100"),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run_sweep("architectures", __doc__ or "", GRID, argv)


if __name__ == "__main__":
    leave(main())
