"""Which priorities are worth training? A search over the simplex in place of a grid.

python sweeps/pareto_search.py            tune, explore, and report the points that cover the most
python sweeps/pareto_search.py --plan     how many runs and epochs that takes at most
"""

from collections.abc import Sequence

from mtl.command_line import leave
from sweeps.plan import Grid, defaults
from sweeps.search.command import run_search

TABLE = Grid(
    task_sets=(defaults.DEFAULT_TASKS,),
    methods=defaults.DEFAULT_METHODS,
    divisions=defaults.QUICK_DIVISIONS,  # unused: a search has no lattice
    seeds=defaults.DEFAULT_SEEDS,
    fields=defaults.DEFAULT_FIELDS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the search; return the exit status."""
    return run_search("pareto_search", __doc__ or "", TABLE, argv)


if __name__ == "__main__":
    leave(main())
