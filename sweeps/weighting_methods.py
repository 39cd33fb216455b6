"""Which weighting, if all tasks matter equally? Methods x architectures x seeds, and baselines.

python sweeps/weighting_methods.py                           215 runs on embedded scenes
python sweeps/weighting_methods.py --plan                    what it would train, and how long
python sweeps/weighting_methods.py --methods lsb equal 'torchjd:*' --architectures multi_column

Tables 2 and S-3 of the paper: every method starts from equal weights, five times. The baselines
are single-task runs: each task alone, with the same data, epochs, encoder and seeds.
"""

from collections.abc import Sequence

from mtl.command_line import leave
from mtl.spec.methods import OWN_METHODS
from sweeps.command import run_sweep
from sweeps.plan import Grid, defaults

GRID = Grid(
    task_sets=(("depth", "normal", "segmentation"),),
    # `fixed` at equal weights is `equal`; ranks would count it twice.
    methods=tuple(method for method in OWN_METHODS if method != "fixed"),
    divisions=None,
    seeds=5,
    fields=defaults.DEFAULT_FIELDS,
    axes={
        "network.architecture": ("full_sharing", "multi_decoder", "multi_column", "mtan"),
    },
    baselines=True,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; return the exit status."""
    return run_sweep("weighting_methods", __doc__ or "", GRID, argv)


if __name__ == "__main__":
    leave(main())
