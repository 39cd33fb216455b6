"""A YAML file with the names of flags and of RunSpec's fields, read as the command line is."""

from pathlib import Path
from typing import Any

import yaml

from mtl.strict import flat
from sweeps.fields import field_values

OWN_FLAGS = {
    "tasks": "--tasks",
    "method": "--methods",
    "seed": "--seeds N (0 to N-1)",
    "numerics_version": "the release of the code that computes it",
}
"""Fields of RunSpec that --set does not take -> what sets them."""
SHORTHANDS = {"architectures": "network.architecture", "epochs": "epochs", "dataset": "data.name"}
"""Flag -> the field that it is an axis of."""
FILE_OPTIONS = (
    "preset",
    "tasks",
    "methods",
    "divisions",
    "baselines",
    "refine",
    "seeds",
    *SHORTHANDS,
)
"""Flags that a YAML file may hold beside RunSpec's fields."""


def read_config(path: str) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Return the flags and the axes that a YAML file holds.

    Names are those of the flags (`methods: [lsb, fixed]`) and of RunSpec's fields, dotted or
    nested; a list is an axis.

    Raises:
        ValueError: for a file that cannot be read, an unknown name, or a value of a wrong type.
    """
    try:
        held = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not parse"
        raise ValueError(f"Expected a YAML file after --config, got {path} ({reason}).") from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise ValueError(f"Expected names with values in {path}, got {type(held).__name__}.")
    options = {name: _file_option(name, held[name], path) for name in FILE_OPTIONS if name in held}
    axes = {}
    for dotted, value in flat({k: v for k, v in held.items() if k not in FILE_OPTIONS}).items():
        refuse_own_flags(dotted, path)
        axes[dotted] = field_values(dotted, value)
    return options, axes


def _file_option(name: str, value: Any, path: str) -> Any:
    """Return a flag's value as argparse would have given it."""
    if name == "baselines":
        if not isinstance(value, bool):
            raise ValueError(f"Expected true or false for {name} in {path}, got {value!r}.")
        return value
    if name in ("divisions", "refine", "seeds"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"Expected a whole number for {name} in {path}, got {value!r}.")
        return value
    if name in ("epochs", "dataset", "preset"):
        return value
    words = value if isinstance(value, list) else [value]
    if name == "tasks" and all(isinstance(word, str) for word in words):
        words = [words]
    inner = words if name == "tasks" else [words]
    if not all(isinstance(w, list) and all(isinstance(x, str) for x in w) for w in inner):
        raise ValueError(f"Expected a list of names for {name} in {path}, got {value!r}.")
    return words


def refuse_own_flags(dotted: str, place: str) -> None:
    """Raise a `ValueError` for a field that a flag sets."""
    if dotted in OWN_FLAGS:
        raise ValueError(f"Expected no {dotted} in {place}: it is set by {OWN_FLAGS[dotted]}.")
