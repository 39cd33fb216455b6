"""Which comparisons a plan asks for, and how many seeds they need at least.

The primary comparison is declared before training and stands without correction; all others of a
report share Holm's.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compute.significance import SIGNIFICANCE, min_seeds, minimum_p
from analysis.load.plans import COMPARED
from mtl.spec import Spec
from sweeps.plan.fields import spec_fields
from sweeps.plan.grid import Plan
from sweeps.text import counted


@dataclass(frozen=True)
class Comparisons:
    """What a report on a plan tests: hypervolumes of the methods that take priorities, by pairs."""

    primary: tuple[str, ...]
    """Empty where none is declared, or a declared one is none of the tested."""
    num_others: int
    """Further pairs on one page of the report; the most."""
    num_seeds: int
    """That the plan trains."""

    @property
    def is_attainable(self) -> bool:
        """Return whether any outcome could be significant."""
        least = minimum_p(self.num_seeds)
        tested = ([1] if self.primary else []) + ([self.num_others] if self.num_others else [])
        return min(tested) * least < SIGNIFICANCE

    def to_json(self) -> dict[str, Any]:
        """Return it for `--plan --json`; of seeds null where no number is enough."""
        return {
            "primary": list(self.primary) or None,
            "num_others": self.num_others,
            "num_seeds": self.num_seeds,
            "min_seeds_primary": min_seeds(1) if self.primary else None,
            "min_seeds_others": min_seeds(self.num_others) if self.num_others else None,
            "is_attainable": self.is_attainable,
        }

    def to_text(self) -> list[str]:
        """Return what is compared first and how many seeds that takes, and a warning."""
        lines = []
        others = counted(self.num_others, "pair")
        if self.primary:
            lines.append(
                f"Primary comparison: {' against '.join(self.primary)}, without correction; "
                f"significant from {min_seeds(1)} seeds on at the earliest"
                + (f", the other {others} after Holm {self._earliest}." if self.num_others else ".")
            )
        else:
            lines.append(
                f"No primary comparison is declared: {others} after Holm, significant "
                f"{self._earliest} at the earliest."
            )
        if not self.is_attainable:
            least = min_seeds(1 if self.primary else self.num_others)
            remedy = f"it takes at least {least}" if least else "compare fewer methods"
            lines.append(
                f"Warning: no comparison of methods can be significant with "
                f"{counted(self.num_seeds, 'seed')}, whatever the outcome: {remedy}."
            )
        return lines

    @property
    def _earliest(self) -> str:
        least = min_seeds(self.num_others)
        return f"from {least} seeds on" if least else "with no number of seeds"


def comparisons_of(plan: Plan) -> Comparisons | None:
    """Return what a report on a plan tests, on the page with the most pairs; None for nothing."""
    pages: dict[Any, dict[Any, str]] = {}
    apart = [
        name for name in plan.varies if not {name, name.split(".")[0]} & {*COMPARED, *plan.tuned}
    ]
    firsts: dict[tuple[str, ...], Any] = {}
    for spec in plan.specs:
        # The same pairs at every priority and seed of a grid: the first of each is looked at.
        is_first = spec.seed == plan.specs[0].seed and spec.priorities is not None
        if is_first and firsts.setdefault(spec.tasks, spec.priorities) == spec.priorities:
            arm = (spec.method, *spec.method_settings.items())
            pages.setdefault(_page(spec, apart), {})[arm] = spec.method
    found = []
    num_seeds = len({spec.seed for spec in plan.specs})
    for arms in pages.values():
        pairs = list(itertools.combinations(arms.values(), 2))
        declared = [pair for pair in pairs if {*pair} == {*(plan.primary or ())}]
        primary = (plan.primary or ()) if len(declared) == 1 else ()
        if pairs:
            found.append(Comparisons(primary, len(pairs) - bool(primary), num_seeds))
    return max(found, key=lambda held: held.num_others, default=None)


def _page(spec: Spec, apart: Sequence[str]) -> tuple[Any, ...]:
    held: Mapping[str, Any] = spec_fields(spec) if apart else {}
    return tuple((name, held.get(name)) for name in apart)
