"""From a grid to an ordered list of runs with their cost. Neither torch nor ray."""

from sweeps.plan.grid import (
    Grid,
    Plan,
    check_grid,
    grid_specs,
    left_out,
    make_plan,
    primary_of,
    trunks_of,
)
from sweeps.plan.lattice import simplex_lattice

__all__ = [
    "Grid",
    "Plan",
    "check_grid",
    "grid_specs",
    "left_out",
    "make_plan",
    "primary_of",
    "simplex_lattice",
    "trunks_of",
]
