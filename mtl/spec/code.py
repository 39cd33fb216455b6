"""Code from outside: what `module:name` is, its hash, and the object that it names; no torch.

A method, task, architecture, encoder or data set of one's own is called by its module and its name
in it. The hash of the module enters the run (`RunSpec.code`): edited code makes new runs, and what
the old code computed counts again once the edit is undone. What counts is the file of the module,
or all `*.py` of its top-level package, those in hidden folders left out; what these import from
elsewhere does not.

Finding and hashing a module executes nothing of it; `load_object` alone does.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtl.errors import UsageError, printable

TORCHJD, SMP = "torchjd:", "smp:"
"""Begin the names of TorchJD's methods and of segmentation_models_pytorch's decoders, which are no
references."""
OWN = "<module>:<Name>"
"""How messages list what one may bring."""

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
_HASH = re.compile("[0-9a-f]{16}")
_LOADED: dict[str, str] = {}
"""Top-level module -> its hash when this process imported it."""
_STARTED = time.time()


def is_reference(name: object) -> bool:
    """Return whether `name` is `module:name`, of code from outside."""
    is_theirs = isinstance(name, str) and name.startswith((TORCHJD, SMP))
    return isinstance(name, str) and not is_theirs and _REFERENCE.fullmatch(name) is not None


def top_module(reference: str) -> str:
    """Return the module whose hash stands for a reference: `tools` of `tools.losses:Huber`."""
    return reference.partition(":")[0].partition(".")[0]


def code_of(names: Iterable[str]) -> dict[str, str]:
    """Return top-level module -> hash for those `names` that are references.

    Raises:
        UsageError: for a module that cannot be found.
    """
    modules = sorted({top_module(name) for name in names if is_reference(name)})
    return {module: code_hash(module) for module in modules}


def code_path(module: str) -> Path:
    """Return the file of a top-level module, or the folder of a package; nothing is executed.

    It is looked for where Python imports from, the working folder included.

    Raises:
        UsageError: unless there is one with Python source.
    """
    if os.getcwd() not in sys.path:  # as for `python -m`; last, so that it hides nothing
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    try:
        found = None if module == "__main__" else importlib.util.find_spec(module)
    except (ImportError, ValueError):  # ValueError: a module without a spec
        found = None
    path = None if found is None or not found.has_location else Path(str(found.origin))
    if path is None or path.suffix != ".py" or not path.is_file():
        raise UsageError(
            f"Expected a module {module!r} with Python source where Python imports from, got none. "
            "Start in its folder or put that on PYTHONPATH; what stands in __main__ or a notebook "
            "goes into a file of its own, and a folder needs an __init__.py."
        )
    return path.parent if path.name == "__init__.py" else path


def code_hash(module: str) -> str:
    """Return 16 digits of a hash of a top-level module's source; line ends and place do not matter.

    Raises:
        UsageError: for a module that cannot be found or read.
    """
    path = code_path(module)
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    # An editor's own copies, such as those in .ipynb_checkpoints, are no code of the package.
    files = [f for f in files if not any(p.startswith(".") for p in f.relative_to(path).parts)]
    digest = hashlib.sha256()
    for file in files:
        try:
            source = file.read_bytes()
        except OSError as error:
            raise UsageError(f"Expected to read {file}, got: {error.strerror or error}.") from error
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        text = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        digest.update(f"{name}\n{len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()[:16]


def check_code_field(code: Mapping[str, str]) -> None:
    """Raise a `UsageError` unless `code` maps names of top-level modules to hashes."""
    for module, held in code.items():
        if not (module.isidentifier() and module.isascii() and _HASH.fullmatch(held)):
            raise UsageError(
                "Expected code to map names of modules to 16 digits of a hash, got "
                f"{module!r:.100}: {held!r:.100}."
            )


def check_code(planned: Mapping[str, str]) -> None:
    """Raise a `UsageError` if a module is not here, or its source is not the planned one."""
    for module, held in planned.items():
        here = code_hash(module)
        if here != held:
            raise UsageError(
                f"Expected the source of {module!r} with hash {held}, which the run was planned "
                f"with, got {here} in {code_path(module)}. Undo the edit, or plan again: edited "
                "code makes new runs."
            )
        _check_as_imported(module, here)


def _check_as_imported(module: str, held: str) -> None:
    imported = _LOADED.get(module)
    if imported != held if imported else _is_edited_import(module):
        raise UsageError(
            f"Expected {module!r} as this Python imported it, got an edited {code_path(module)}. "
            "Restart Python (the notebook's kernel), so that the code that runs is the run's."
        )


def _is_edited_import(top: str) -> bool:
    """Return whether a file of a top-level module was edited after somebody else imported it.

    Its compiled file has size and time of the source that was imported. Only files that are newer
    than this process count: an older one cannot have been edited since.
    """
    if sys.dont_write_bytecode:
        return False
    for name, module in list(sys.modules.items()):
        compiled, source = getattr(module, "__cached__", None), getattr(module, "__file__", None)
        if name.partition(".")[0] != top or compiled is None or source is None:
            continue
        try:
            state, header = os.stat(source), Path(compiled).read_bytes()[:16]
        except OSError:
            continue
        of_source = struct.pack("<II", int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF)
        is_by_time = header[4:8] == bytes(4)
        if state.st_mtime > _STARTED and is_by_time and header[8:16] != of_source:
            return True
    return False


def load_object(reference: str, what: str) -> Any:
    """Import a reference's module and return what it names; `what` is the word for such a thing.

    Raises:
        UsageError: for an unknown module; a module that raises; an unknown name, with a list of
            what the module has; or source that has changed since this process imported it.
    """
    module, _, name = reference.partition(":")
    top = top_module(reference)
    held = code_hash(top)
    _check_as_imported(top, held)
    try:
        loaded = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = printable(f"{type(error).__name__}: {error}").rstrip(".")
        raise UsageError(
            f"Expected the module of {what} {reference!r} to import, got {reason}. "
            f'`python -c "import {module}"` shows where.'
        ) from error
    _LOADED[top] = held
    if not hasattr(loaded, name):
        has = sorted(n for n in vars(loaded) if not n.startswith("_"))
        listed = ", ".join(has) or "nothing"
        raise UsageError(f"Unknown {what} {name!r} in {module}. The module has: {listed}.")
    return getattr(loaded, name)
