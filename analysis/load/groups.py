"""Which runs may be compared: each set of them gets a report of its own; needs no pandas."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.load.metrics import Declared, agree
from analysis.load.plans import (
    COMPARED,
    Asked,
    common_primary,
    planned_or_present,
    plans_of,
    tuned_sweeps,
)
from analysis.load.text import first_listed, listed
from mtl.errors import UserError
from mtl.spec import Spec
from mtl.store import Store
from mtl.store.plan_file import PlanFile
from mtl.store.states import read_specs

MAX_NAMED = 4
"""Values of a differing field that the message lists."""
MAX_FOLDER_NAME = 80
"""Longer labels are cut to this and told apart by a hash."""

Difference = tuple[str, Any]
"""A dotted spec field and its value, in which a group differs from the others."""
UNKNOWN: Difference = ("spec", "unknown")
"""Of runs that have no readable spec.json, where the others make several groups."""
SWEEP = "sweep"
"""In place of a field, where a group is what a sweep with tuned values reports."""
OTHERS: Difference = (SWEEP, "others")
"""Of the one group that no such sweep reports."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in what a report compares."""

    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    """Empty where no run has a readable spec."""
    specs: Mapping[str, Spec] = field(default_factory=dict)
    """Run id -> spec, for those of its runs, and maybe others, that have a readable one."""
    tuned: tuple[str, ...] = ()
    """See `common_fields`."""
    differences: tuple[Difference, ...] = ()
    """What the group does not share with the others; empty for a single group."""
    primary: tuple[str, ...] = ()
    """The two methods whose comparison was declared before training; empty where none was."""
    searched: bool = False
    """Whether a search chose the runs by their outcome."""

    @property
    def label(self) -> str:
        """Return the differences as a key: `tasks=depth+normal,epochs=12`."""
        return label_of(self.differences)

    @property
    def folder(self) -> str:
        """Return the name of the group's folder; no two groups share one."""
        return folder_name(self.label)

    @property
    def title(self) -> str:
        """Return the tasks and the other differences as people say them."""
        parts = [listed(self.tasks)] if self.tasks else []
        parts += [_words(*held) for held in self.differences if held[0] != "tasks"]
        return ", ".join(parts)


_NOT_APART = ("data.num_train",)
"""The one field of the data that leaves the images alike on which runs are measured."""
FIELD_NAMES = {
    "data.num_train": "training images",
    "data.num_validation": "validation images",
    "data.num_test": "test images",
}
"""Spec field -> what people call it, where that is not its last part."""


def field_name(field_: str) -> str:
    """Return `learning rate` of `optimizer.learning_rate`."""
    return FIELD_NAMES.get(field_) or field_.rpartition(".")[2].replace("_", " ")


@dataclass(frozen=True)
class Family:
    """Groups whose results may stand in one table: same images, tasks and meaning of metrics.

    Sweeps with tuned values stay apart, too.
    """

    groups: tuple[Group, ...]
    apart: tuple[Difference, ...]
    """What it does not share with other families; empty for a single one."""

    @property
    def title(self) -> str:
        """Return what sets the family apart in words; empty for a single one."""
        return ", ".join(
            listed(value) if name == "tasks" else _words(name, value) for name, value in self.apart
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the spec fields in which its groups differ."""
        held: dict[str, set[Any]] = {}
        for group in self.groups:
            for name, value in group.differences:
                held.setdefault(name, set()).add(value)
        return tuple(
            name for name, values in held.items() if len(values) > 1 and not _sets_apart(name)
        )

    @property
    def settings(self) -> tuple[tuple[Any, ...], ...]:
        """Return the values of `fields` in each group."""
        return tuple(tuple(dict(g.differences).get(f) for f in self.fields) for g in self.groups)


def _sets_apart(name: str) -> bool:
    is_data = name.startswith("data.") and name not in _NOT_APART
    return is_data or name in ("tasks", SWEEP, UNKNOWN[0], "numerics_version")


def families_of(groups: Sequence[Group]) -> tuple[Family, ...]:
    """Return the families in order of appearance.

    Runs without a readable spec make none, nor do single-task runs where others train their task
    with more: those are baselines.
    """
    found: dict[tuple[Difference, ...], list[Group]] = {}
    joint = {task for group in groups if len(group.tasks) > 1 for task in group.tasks}
    for group in groups:
        if group.tasks and not (len(group.tasks) == 1 and group.tasks[0] in joint):
            apart = tuple(held for held in group.differences if _sets_apart(held[0]))
            found.setdefault(apart, []).append(group)
    made = [_in_order(Family(tuple(held), apart)) for apart, held in found.items()]
    return (replace(made[0], apart=()),) if len(made) == 1 else tuple(made)


def parts_of(family: Family, declared: Sequence[Declared]) -> list[Family]:
    """Return a family in parts whose groups mean the same by the names of metrics.

    `declared` is what the runs of each group say of them.
    """
    parts: list[list[int]] = []
    for k, said in enumerate(declared):
        fits = [part for part in parts if all(agree(said, declared[other]) for other in part)]
        if fits:
            fits[0].append(k)
        else:
            parts.append([k])
    if len(parts) == 1:
        return [family]
    everywhere = _shared(family.groups)
    made = []
    for part in parts:
        groups = tuple(family.groups[k] for k in part)
        own = tuple(held for held in _shared(groups) if held not in everywhere)
        made.append(Family(groups, (*family.apart, *own)))
    return made


def _shared(groups: Sequence[Group]) -> list[Difference]:
    return [d for d in groups[0].differences if all(d in group.differences for group in groups)]


def _in_order(family: Family) -> Family:
    """Return a family with its groups in the order of its fields, values as they appeared."""
    settings, fields = family.settings, range(len(family.fields))
    orders = [list(dict.fromkeys(values[k] for values in settings)) for k in fields]
    places = [
        tuple(orders[k].index(value) for k, value in enumerate(values)) for values in settings
    ]
    numbers = sorted(range(len(settings)), key=lambda n: places[n])
    return replace(family, groups=tuple(family.groups[n] for n in numbers))


def label_of(differences: Sequence[Difference]) -> str:
    """Return differences as a key: `tasks=depth+normal,epochs=12`; empty for none."""
    return ",".join(f"{name}={_text(value)}" for name, value in differences)


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _words(name: str, value: Any) -> str:
    """Return `learning rate 0.001` of `optimizer.learning_rate`."""
    if (name, value) == UNKNOWN:
        return "runs whose settings cannot be read"
    if (name, value) == OTHERS:
        return "other sweeps"
    if name == SWEEP:
        return f"sweep {value}"
    shown = listed(list(map(str, value))) if isinstance(value, list | tuple) else str(value)
    short = name.removeprefix("optimizer.").removeprefix("params.")
    plain = FIELD_NAMES.get(name) or re.sub("[._]", " ", short)
    return f"{plain} {shown}"


def folder_name(label: str) -> str:
    """Return the name of a folder for a label; no two labels share one."""
    name = re.sub(r"[^A-Za-z0-9._=+,-]", "_", label)
    if name == label and len(name) <= MAX_FOLDER_NAME:
        return name
    return f"{name[:MAX_FOLDER_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def common_fields(
    fields: Mapping[str, Mapping[str, Any]], tuned: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the spec fields that all runs share, those of `COMPARED` left out.

    Args:
        fields: run id -> dotted field -> value.
        tuned: further dotted fields in which runs may differ, because each method's own value was
            looked for.

    Raises:
        UserError: naming the fields, and their values, in which the runs differ.
    """
    kinds = _kinds(fields, (*COMPARED, *tuned))
    differing = {name: held for name, held in sorted(kinds.items()) if len(held) > 1}
    if differing:
        shown = "; ".join(
            f"{name} ({first_listed([*map(str, held.values())], MAX_NAMED)})"
            for name, held in differing.items()
        )
        raise UserError(
            "Expected runs that differ only in method, priorities, seed and method options, got "
            f"runs that differ in {shown}. Give the runs of each value on their own."
        )
    return {name: next(iter(held.values())) for name, held in sorted(kinds.items())}


def _kinds(
    fields: Mapping[str, Mapping[str, Any]], compared: Sequence[str]
) -> dict[str, dict[Any, Any]]:
    """Return dotted field -> its different values, of all fields that are not compared."""
    kinds: dict[str, dict[Any, Any]] = {}
    for held in fields.values():
        for name, value in held.items():
            if not {name, name.split(".")[0]} & {*compared}:
                kinds.setdefault(name, {})[_hashable(value)] = value
    return kinds


def baseline_ids(groups: Sequence[Group], group: Group) -> list[str]:
    """Return the single-task runs among `groups` that may be baselines of a group of joint ones.

    Of a sweep with tuned values those of the same sweep alone, since others have other values.
    """
    if len(group.tasks) < 2:
        return []
    sweep = dict(group.differences).get(SWEEP)
    return [
        run_id
        for other in groups
        if len(other.tasks) == 1
        and (not group.tuned or dict(other.differences).get(SWEEP) == sweep)
        for run_id in other.run_ids
    ]


def comparable_groups(specs: Mapping[str, Spec], tuned: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return label -> ids of runs that differ only in what is compared, in order of appearance.

    `tuned` is that of `common_fields`.

    The label names what the group does not share with the others, such as
    `tasks=depth+normal,optimizer.learning_rate=0.001`; it is empty for a single group.
    """
    return {label_of(held): ids for held, ids in _parted(specs, (*COMPARED, *tuned)).items()}


def _parted(
    specs: Mapping[str, Spec], compared: Sequence[str]
) -> dict[tuple[Difference, ...], list[str]]:
    fields = {run_id: spec.fields() for run_id, spec in specs.items()}
    # Loss units are named by the tasks, which a label holds already, so absence says nothing.
    kinds = _kinds(fields, compared)
    varying = [name for name, values in kinds.items() if len(values) > 1]
    groups: dict[tuple[Difference, ...], list[str]] = {}
    for run_id, held in fields.items():
        parts = tuple((name, _hashable(held[name])) for name in varying if name in held)
        groups.setdefault(parts, []).append(run_id)
    return groups


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def groups_of_stores(
    stores: Sequence[Store], asked: Asked | None = None, compared: Sequence[str] = COMPARED
) -> list[Group]:
    """Return the groups of the runs of the stores, done or not, by their spec.json.

    Runs without a readable spec join a single group, or make one of their own beside several. Of
    whole stores, what a sweep with tuned values reports is a group of its own.

    Args:
        stores: opened stores.
        asked: the runs asked for, in order; None means all that the stores hold or plan.
        compared: fields in which the runs of a group may differ, with everything below them.

    Raises:
        UserError: if there is no run.
    """
    found: dict[str, Asked] = {}
    if asked is not None:
        groups = _groups(stores, asked, compared)
    else:
        plans = plans_of(stores)
        found = tuned_sweeps(plans)
        of_grids = [i for _, plan in plans if not plan.tuned for i in plan.reported]
        order = {run_id: at for at, run_id in enumerate(of_grids)}
        apart = {run_id for held in found.values() for run_id in held.run_ids} - order.keys()
        others = [i for i in planned_or_present(stores, plans) if i not in apart]
        groups = [
            replace(group, primary=_declared_by(plans, group))
            for group in _groups(stores, Asked(tuple(others)), compared, order)
        ]
    if len(groups) == 1 and found:
        groups = [replace(groups[0], differences=(OTHERS,))]
    for name, held in found.items():
        groups += [
            replace(group, differences=((SWEEP, name), *group.differences))
            for group in _groups(stores, held, compared)
        ]
    if not groups:
        raise UserError(
            "Expected at least one run, got stores that hold and plan none (a search counts once "
            "it is over). Start a sweep first: python sweeps/priority_grid.py."
        )
    return groups if len(groups) > 1 else [replace(groups[0], differences=())]


def _declared_by(plans: Sequence[tuple[str, PlanFile]], group: Group) -> tuple[str, ...]:
    """Return the primary comparison of a group: what the sweeps that plan its runs declare."""
    held = {*group.run_ids}
    planning = (p for _, p in plans if not p.tuned and not held.isdisjoint(p.run_ids))
    return common_primary(plan.primary for plan in planning) or ()


def _groups(
    stores: Sequence[Store],
    asked: Asked,
    compared: Sequence[str],
    order: Mapping[str, int] | None = None,
) -> list[Group]:
    specs = read_specs(stores, dict.fromkeys(asked.run_ids))
    return groups_of(asked, specs, compared, order)


def groups_of(
    asked: Asked,
    specs: Mapping[str, Spec],
    compared: Sequence[str] = COMPARED,
    order: Mapping[str, int] | None = None,
) -> list[Group]:
    """Return the groups, in the order of what is asked, or in `order` and then by content.

    `specs` are those that can be read; the other arguments are those of `groups_of_stores`.
    """
    ids = list(dict.fromkeys(asked.run_ids))
    if order is not None:
        content = {i: (spec.method, spec.priorities or (), spec.seed) for i, spec in specs.items()}
        ids.sort(key=lambda i: (order.get(i, len(order)), *content.get(i, ("", (), 0)), i))
    found = _parted({i: specs[i] for i in ids if i in specs}, (*compared, *asked.tuned))

    def group(held: Sequence[str], tasks: tuple[str, ...], *differences: Difference) -> Group:
        of_sweep = (asked.tuned, differences, asked.primary or (), asked.searched)
        return Group(tuple(held), tasks, specs, *of_sweep)

    if len(found) == 1:
        return [group(ids, next(iter(specs.values())).tasks)]
    groups = [group(held, specs[held[0]].tasks, *parts) for parts, held in found.items()]
    unknown = tuple(run_id for run_id in ids if run_id not in specs)
    return [*groups, Group(unknown, (), differences=(UNKNOWN,))] if unknown else groups
