"""RunSpec's fields by dotted name, and values for them from text or YAML.

`optimizer.learning_rate=1e-4,1e-3` names a field and two values; a field that itself holds a
sequence takes the commas for its own (`network.decoder_widths=64,48,32,24,16,8`) and several
values in brackets (`priorities=[0.2,0.8],[0.5,0.5]`).
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.errors import UsageError
from mtl.spec import RunSpec
from mtl.spec.methods import METHODS
from mtl.spec.strict import checked_name, parse_yaml

MAPPINGS: tuple[str, ...] = ("method_options", "loss_units")
"""Fields of RunSpec that map names to numbers; `loss_units.depth` addresses one entry."""


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
            found[path + name] = _without_none(hint)
    return found


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def field_type(dotted: str) -> Any:
    """Return the type of the field `dotted`.

    Raises:
        ValueError: for a field that RunSpec does not have, with the closest names.
    """
    mapping, _, entry = dotted.partition(".")
    if mapping in MAPPINGS and entry:
        return float
    addressable = [n for n in field_types() if n not in MAPPINGS]
    options = {f"method_options.{name}" for needs in METHODS.values() for name in needs.options}
    checked_name(dotted, [*addressable, *options, "loss_units.TASK"], "field")
    return field_types()[dotted]


def parse_assignment(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return the field and its values from `FIELD=VALUE[,VALUE...]`.

    Raises:
        ValueError: without an equals sign or value, for an unknown field, or for a value that is
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
            one value and a list of lists several.

    Raises:
        ValueError: for an unknown field, no values, or one that is not of the field's type.
    """
    hint = field_type(dotted)
    if typing.get_origin(hint) is tuple:
        nested = isinstance(value, list | tuple) and any(isinstance(v, list | tuple) for v in value)
        several = value if nested else [value]
    else:
        several = value if isinstance(value, list | tuple) else [value]
    if len(several) == 0:
        raise UsageError(f"Expected at least one value for {dotted}, got none.")
    return tuple(_typed(v, hint, dotted) for v in several)


def _may_be_none(dotted: str) -> bool:
    """Return whether None is a value of the field; of an option, `mtl.spec` knows."""
    return dotted.startswith("method_options.") or dotted in _optional_fields(RunSpec, "")


@functools.cache
def _optional_fields(cls: type, path: str) -> frozenset[str]:
    found: set[str] = set()
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= _optional_fields(hint, f"{path}{name}.")
        elif type(None) in typing.get_args(hint):
            found.add(path + name)
    return frozenset(found)


def _typed(value: Any, hint: Any, dotted: str) -> Any:
    """Return `value` as `hint` asks; YAML reads 1e-4 as text, so text may be a number.

    `none`, `None` and YAML's null are None where the field may be that.
    """
    if value in (None, "none", "None") and _may_be_none(dotted):
        return None
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"Expected a list for {dotted}, got {value!r}.")
        inner = typing.get_args(hint)[0]
        return tuple(_typed(v, inner, dotted) for v in value)
    if hint is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise UsageError(f"Expected a number for {dotted}, got {value!r}.") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    literal = typing.get_origin(hint) is typing.Literal
    wanted = str if hint is str or literal else hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
        raise UsageError(f"Expected {kinds[wanted]} for {dotted}, got {value!r}.")
    return value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted fields as the nested mapping that `RunSpec.from_dict` takes."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        *folders, leaf = dotted.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[leaf] = value
    return tree


def spec_fields(spec: RunSpec) -> dict[str, Any]:
    """Return every field of `spec` by dotted name, entries of mappings one by one."""
    found: dict[str, Any] = {}
    for dotted in field_types():
        value: Any = spec
        for part in dotted.split("."):
            value = getattr(value, part)
        if isinstance(value, Mapping):
            found |= {f"{dotted}.{name}": v for name, v in value.items()}
        else:
            found[dotted] = value
    return found


def varying_fields(specs: Sequence[RunSpec]) -> dict[str, list[Any]]:
    """Return the fields in which `specs` differ, with their values in order of appearance."""
    seen: dict[str, dict[Any, None]] = {}
    for spec in specs:
        for dotted, value in spec_fields(spec).items():
            seen.setdefault(dotted, {})[value] = None
    return {
        dotted: [list(v) if isinstance(v, tuple) else v for v in values]
        for dotted, values in seen.items()
        if len(values) > 1
    }
