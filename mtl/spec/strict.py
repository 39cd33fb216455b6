"""Plain values read strictly: YAML, and dataclasses with neither unknown fields nor wrong types."""

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml

from mtl.errors import UsageError

MAX_LISTED = 30
"""More names than this are counted in a message, not listed."""


def checked_name(
    name: Any, known: Iterable[str], what: str, *, of: str = "", listed_in: str = ""
) -> str:
    """Return `name` if it is one of `known`.

    In messages `what` is the word for such a name, as "metric", `of` what it belongs to, and
    `listed_in` where to read all names if they are many.

    Raises:
        ValueError: naming what was expected, the closest known names, and all known names
            unless they are too many to read.
    """
    known = sorted(known)
    if name in known:
        return name
    close = difflib.get_close_matches(str(name), known, n=5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    listed = ", ".join(known)
    if len(known) > MAX_LISTED:
        listed = f"{len(known)} names{f', see {listed_in}' if listed_in else ''}"
    owner = f" of {of}" if of else ""
    raise UsageError(f"Unknown {what} {name!r}{owner}.{hint} Known: {listed or 'none'}.")


class _Loader(yaml.SafeLoader):
    """Reads 010 as ten, 1:30 as a string and 1e-3 as a number, unlike YAML 1.1."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        start: [pair for pair in pairs if pair[0].rpartition(":")[2] in ("bool", "null", "merge")]
        for start, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        doubled = sorted(key for key in set(keys) if keys.count(key) > 1)
        if doubled:  # YAML would keep the last one
            raise UsageError(f"the key {doubled[0]} twice")
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)
for _kind, _number in (
    ("int", r"[-+]?[0-9]+"),
    ("float", r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_number})$"), list("-+.0123456789")
    )


def parse_yaml(text: str) -> Any:
    """Return the plain values that YAML holds; numbers are decimal, dates are strings.

    Raises:
        ValueError: with what is wrong, for text that does not parse or gives a key twice.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: it makes plain values and nothing else
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(" ".join(str(error).split())[:200]) from error


T = TypeVar("T")
_LEAVES = frozenset({str, int, float, bool, types.NoneType})


def canonical_float(value: float) -> float:
    """Return `value` rounded to 12 significant digits."""
    return float(f"{value:.12g}")


def settle(instance: object, path: str = "") -> None:
    """Round the floats of a frozen dataclass in place; refuse what its `Literal`s do not name.

    Thus a dataclass made in Python is as strict as one from a file. `path` is for messages.
    """
    for name, hint in _hints(type(instance)).items():  # type: ignore[arg-type]
        value = getattr(instance, name)
        if typing.get_origin(hint) is typing.Literal:
            checked_name(value, typing.get_args(hint), _join(path, name))
        elif value is not None and hint in (float, float | None):
            object.__setattr__(instance, name, canonical_float(value))


def build_dataclass(cls: type[T], values: Any, path: str = "") -> T:
    """Build a dataclass from field name -> plain value, recursing into those within it.

    Fields left out keep their defaults; `path`, its dotted name, is for messages.

    Raises:
        ValueError: for a field that `cls` does not have or a value of a wrong type.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"Expected a mapping for {path or cls.__name__}, got {values!r}.")
    hints = _hints(cls)  # type: ignore[arg-type]  # types can be hashed
    for name in values:
        checked_name(name, list(hints), "field", of=path or cls.__name__)
    lacking = [name for name in _required(cls) if name not in values]  # type: ignore[arg-type]
    if lacking:
        raise UsageError(f"Expected {', '.join(lacking)} of {path or cls.__name__}, got none.")
    return cls(
        **{name: convert(value, hints[name], _join(path, name)) for name, value in values.items()}
    )


@functools.cache  # a report reads thousands of specs
def _hints(cls: type) -> dict[str, Any]:
    """Return field -> type, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def _required(cls: type) -> list[str]:
    """Return the fields without a default."""
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is missing and field.default_factory is missing
    ]


def plain(value: Any) -> Any:
    """Return `value` as JSON would give it back: dataclasses as mappings, tuples as lists.

    A plan holds thousands of specs; `dataclasses.asdict` and a trip through JSON take ten times as
    long.
    """
    if type(value) in _LEAVES:
        return value
    if dataclasses.is_dataclass(value):
        return {name: plain(held) for name, held in vars(value).items()}
    if isinstance(value, Mapping):
        return {name: plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return value


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return a nested mapping as one with dotted names below `path`; sequences stay values."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, _join(path, name))
        else:
            found[_join(path, name)] = value
    return found


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def convert(value: Any, hint: Any, path: str) -> Any:
    """Return `value` as `hint` asks; a list becomes a tuple, an int a float, nothing else.

    Raises:
        UsageError: naming `path` for a value of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build_dataclass(hint, value, path)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and int in arguments:
            return value
        return convert(value, next(a for a in arguments if a is not type(None)), path)
    if origin is typing.Literal:
        return checked_name(value, arguments, path)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(v, arguments[0], f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): convert(v, arguments[1], _join(path, str(k))) for k, v in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return canonical_float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is Any or (hint in (bool, str) and isinstance(value, hint)):
        return value
    wanted = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise UsageError(f"Expected {path} to be of type {wanted}, got {value!r}.")
