"""The comparison guard: runs may differ in what is compared and in nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.axes import AnalysisError

COMPARED = (
    "method",
    "priorities",
    "seed",
    "method_options",
    "period_epochs",
    "period_steps",
)
"""Spec fields in which compared runs may differ, with everything below them."""
MOST_SHOWN = 4
"""Values of a differing field that the message lists."""


def common_fields(
    fields: Mapping[str, Mapping[str, Any]], tuned: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the spec fields that all runs share, those of `COMPARED` left out.

    Args:
        fields: run id -> dotted field -> value.
        tuned: further dotted fields in which runs may differ, because each method's own value was
            looked for.

    Raises:
        AnalysisError: naming the fields, and their values, in which the runs differ.
    """
    kinds: dict[str, list[Any]] = {}
    for values in fields.values():
        for name, value in values.items():
            if name.split(".")[0] not in COMPARED and name not in tuned:
                held = kinds.setdefault(name, [])
                if value not in held:
                    held.append(value)
    differing = {name: held for name, held in kinds.items() if len(held) > 1}
    if differing:
        listed = "; ".join(f"{name} ({_shown(held)})" for name, held in sorted(differing.items()))
        raise AnalysisError(
            "Expected runs that differ only in method, priorities, seed and method options, got "
            f"runs that differ in {listed}. Give the runs of each value on their own."
        )
    return {name: held[0] for name, held in sorted(kinds.items())}


def _shown(values: list[Any]) -> str:
    texts = [str(value) for value in values[:MOST_SHOWN]]
    more = len(values) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
