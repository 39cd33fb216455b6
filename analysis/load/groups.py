"""Which runs may be compared: each set of them gets a report of its own; needs no pandas."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.load.axes import AnalysisError
from analysis.load.plans import planned, planned_or_present, searches
from mtl.errors import StoreError
from mtl.spec import RunSpec
from mtl.spec.strict import flat
from mtl.store import Store

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


UNKNOWN = "spec=unknown"
"""Label of the runs that have no readable spec.json, where the others make several groups."""
LONGEST_FOLDER_NAME = 80
"""Longer labels are cut to this and told apart by a hash."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in what a report compares."""

    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    """Empty where no run has a readable spec."""
    specs: Mapping[str, RunSpec] = field(default_factory=dict)
    """Run id -> spec, for those of its runs, and maybe others, that have a readable one."""
    tuned: tuple[str, ...] = ()
    """See `analysis.load.groups.common_fields`."""


def comparable_groups(
    specs: Mapping[str, RunSpec],
    compared: Sequence[str] = COMPARED,
    tuned: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Return label -> ids of runs that differ only in what is compared, in order of appearance.

    The label names what the group does not share with the others, such as
    `tasks=depth+normal,optimizer.learning_rate=0.001`; it is empty for a single group.

    Args:
        specs: run id -> spec.
        compared: fields in which the runs of a group may differ, with everything below them.
        tuned: see `analysis.load.groups.common_fields`.
    """
    fields = {run_id: flat(spec.to_dict()) for run_id, spec in specs.items()}
    names = [name for name in _names(fields, compared) if name not in tuned]
    varying = [name for name in names if _varies(name, list(fields.values()))]
    groups: dict[str, list[str]] = {}
    for run_id, held in fields.items():
        parts = [f"{name}={_text(held[name])}" for name in varying if name in held]
        groups.setdefault(",".join(parts), []).append(run_id)
    return groups


def groups_of_stores(
    stores: Sequence[Store], run_ids: Sequence[str] | None = None, tuned: Sequence[str] = ()
) -> dict[str, Group]:
    """Return label -> group of the runs of the stores, done or not, by their spec.json.

    Runs without a readable spec join a single group, or make one of their own beside several. Of
    whole stores, what a search reports is a group of its own, `sweep=NAME`.

    Args:
        stores: opened stores.
        run_ids: the runs asked for, in order; None means all that the stores hold or plan.
        tuned: see `analysis.load.groups.common_fields`.
    """
    if run_ids is not None:
        return _groups(stores, run_ids, tuned)
    found = searches(stores)
    order = {run_id: at for at, run_id in enumerate(planned(stores, of_searches=False))}
    apart = {run_id for asked in found.values() for run_id in asked.run_ids} - order.keys()
    others = [run_id for run_id in planned_or_present(stores) if run_id not in apart]
    parts = {"": _groups(stores, others, (), order)}
    for name, asked in found.items():
        parts[f"sweep={name}"] = _groups(stores, asked.run_ids, asked.tuned)
    groups = {
        ",".join(filter(None, (part, label))): group
        for part, held in parts.items()
        for label, group in held.items()
    }
    return {"": next(iter(groups.values()))} if len(groups) == 1 else groups


def _groups(
    stores: Sequence[Store],
    run_ids: Sequence[str],
    tuned: Sequence[str],
    order: Mapping[str, int] | None = None,
) -> dict[str, Group]:
    """Return label -> group, in the order of `run_ids`, or in `order` and then by content."""
    asked = list(dict.fromkeys(run_ids))
    specs = {run_id: spec for run_id in asked if (spec := _spec(stores, run_id)) is not None}
    if order is not None:
        asked.sort(key=lambda i: (order.get(i, len(order)), *_by_content(specs.get(i)), i))
    found = comparable_groups({i: specs[i] for i in asked if i in specs}, tuned=tuned)
    groups = {
        label: Group(tuple(ids), specs[ids[0]].tasks, specs, tuple(tuned))
        for label, ids in found.items()
    }
    unknown = tuple(run_id for run_id in asked if run_id not in specs)
    if len(groups) == 1:
        (group,) = groups.values()
        return {"": Group(tuple(asked), group.tasks, specs, tuple(tuned))}
    if unknown:
        groups[UNKNOWN if groups else ""] = Group(unknown, ())
    return groups


def folder_name(label: str) -> str:
    """Return the name of a group's folder; no two labels share one."""
    name = re.sub(r"[^A-Za-z0-9._=+,-]", "_", label)
    if name == label and len(name) <= LONGEST_FOLDER_NAME:
        return name
    return f"{name[:LONGEST_FOLDER_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _spec(stores: Sequence[Store], run_id: str) -> RunSpec | None:
    for store in stores:
        try:
            spec = store.spec(run_id)
        except (OSError, ValueError, StoreError):
            continue
        if spec.run_id() == run_id:
            return spec
    return None


def _by_content(spec: RunSpec | None) -> tuple[Any, ...]:
    return ("", (), 0) if spec is None else (spec.method, spec.priorities or (), spec.seed)


def _names(fields: Mapping[str, Mapping[str, Any]], compared: Sequence[str]) -> list[str]:
    """Return all fields that must be alike, in order of appearance."""
    names = dict.fromkeys(name for held in fields.values() for name in held)
    return [name for name in names if not {name, name.split(".")[0]} & set(compared)]


def _varies(name: str, fields: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the runs that hold a field differ in it, as the guard sees it.

    Loss units are named by the tasks, which a label holds already, so absence says nothing.
    """
    values = [held[name] for held in fields if name in held]
    return any(value != values[0] for value in values)


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
