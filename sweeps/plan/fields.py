"""RunSpec's fields by dotted name, and values for them from text or YAML.

`optimizer.learning_rate=1e-4,1e-3` names a field and two values; a field that itself holds a
sequence takes the commas for its own (`network.decoder_widths=64,48,32,24,16,8`) and several
values in brackets (`priorities=[0.2,0.8],[0.5,0.5]`).
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.errors import UsageError
from mtl.spec import OwnSpec, RunSpec, Spec
from mtl.spec.methods import METHODS
from mtl.spec.strict import checked_name, convert, parse_yaml, plain

MAPPINGS: tuple[str, ...] = ("method_options", "loss_units")
"""Fields of RunSpec that map names to numbers; `loss_units.depth` addresses one entry."""
RESOLVED: tuple[str, ...] = ("code",)
"""Fields that follow from the others."""


@functools.cache
def field_types() -> dict[str, Any]:
    """Return dotted name -> type of every field of RunSpec; mappings under their own name."""
    return _field_types(RunSpec, "")


def _field_types(cls: type, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= _field_types(hint, f"{path}{name}.")
        else:
            found[path + name] = hint
    return found


def field_type(dotted: str) -> Any:
    """Return the type of the field `dotted`.

    Raises:
        UsageError: for a field that RunSpec does not have, with the closest names.
    """
    mapping, _, entry = dotted.partition(".")
    if mapping in MAPPINGS and entry:
        return float | None if mapping == "method_options" else float
    options = (f"method_options.{name}" for needs in METHODS.values() for name in needs.options)
    known = [*field_types().keys() - {*MAPPINGS, *RESOLVED}, *options, "loss_units.TASK"]
    checked_name(dotted, set(known), "field", listed_in="mtl/spec/run.py and mtl/spec/sections.py")
    return field_types()[dotted]


def parse_assignment(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return the field and its values from `FIELD=VALUE[,VALUE...]`.

    Raises:
        UsageError: without an equals sign or value, for an unknown field, or for a value that is
            not of the field's type.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise UsageError(f"Expected FIELD=VALUE[,VALUE...] after --set, got {text!r}.")
    field_type(dotted.strip())
    try:
        values = parse_yaml(f"[{value}]")
    except ValueError as error:
        raise UsageError(f"Expected values separated by commas, got {text!r}.") from error
    return dotted.strip(), field_values(dotted.strip(), values)


def field_values(dotted: str, value: Any) -> tuple[Any, ...]:
    """Return the values of an axis: one unless `value` lists several.

    Args:
        dotted: a field of RunSpec.
        value: a plain value or a list; for a field that holds a sequence, a list of scalars is
            one value and a list of lists several. `none` is None where the field may be that.

    Raises:
        UsageError: for an unknown field, no values, or one that is not of the field's type.
    """
    hint = field_type(dotted)
    kinds = typing.get_args(hint)
    holds_sequence = tuple in (typing.get_origin(hint), *map(typing.get_origin, kinds))
    is_list = isinstance(value, list | tuple)
    if is_list and holds_sequence:
        is_list = any(isinstance(v, list | tuple) for v in value)
    several = value if is_list else [value]
    if len(several) == 0:
        raise UsageError(f"Expected at least one value for {dotted}, got none.")
    may_be_none = type(None) in kinds
    several = [None if may_be_none and v in ("none", "None") else v for v in several]
    return tuple(convert(v, hint, dotted) for v in several)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted fields as the nested mapping that `RunSpec.from_dict` takes."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        is_entry = dotted.startswith(tuple(f"{name}." for name in MAPPINGS))
        # `loss_units.tools.tasks:Gaze`: the entry's name may have dots of its own.
        *folders, leaf = dotted.split(".", 1 if is_entry else -1)
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[leaf] = value
    return tree


def spec_fields(spec: Spec) -> dict[str, Any]:
    """Return every field of `spec` by dotted name, entries of mappings one by one."""
    if isinstance(spec, OwnSpec):
        return {n: tuple(v) if isinstance(v, list) else v for n, v in spec.fields().items()}
    found: dict[str, Any] = {}
    for dotted in field_types():
        value = functools.reduce(getattr, dotted.split("."), spec)
        if isinstance(value, Mapping):
            found |= {f"{dotted}.{name}": v for name, v in value.items()}
        else:
            found[dotted] = value
    return found


def varying_fields(specs: Sequence[Spec]) -> dict[str, list[Any]]:
    """Return the fields in which `specs` differ, with their values in order of appearance.

    Not the trunks of forked runs, which follow from the other fields.
    """
    seen: dict[str, dict[Any, None]] = {}
    for spec in specs:
        for dotted, value in spec_fields(spec).items():
            if dotted != "trunk":
                seen.setdefault(dotted, {})[value] = None
    return {
        dotted: [plain(v) for v in values] for dotted, values in seen.items() if len(values) > 1
    }
