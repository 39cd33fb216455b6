"""The names of timm's encoders, read without importing timm, so that a plan needs no torch."""

import functools
import hashlib
import importlib.util
import re
from pathlib import Path

from mtl.errors import UsageError
from mtl.spec.code import is_reference
from mtl.spec.strict import checked_name

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
TESTED_ENCODERS: tuple[str, ...] = ("mobilenetv2_100", "test_efficientnet")
"""Encoders that this project trains in its own tests: they build, at every stride."""


@functools.cache
def known_encoders() -> tuple[str, ...]:
    """Return the sorted names of all models that the installed timm registers.

    timm marks each model function with a decorator; reading its source finds them in a tenth of
    a second, where importing timm and torch takes seconds. A contract test compares the outcome
    with `timm.list_models()`.
    """
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        raise UsageError("timm is not installed. Run `pip install timm`.")
    sources = (Path(found.origin).parent / "models").glob("*.py")
    names = {name for path in sources for name in _REGISTERED.findall(path.read_text("utf-8"))}
    return tuple(sorted(names))


_WEIGHTS_ID = re.compile(r"random|imagenet|sha256:[0-9a-f]{16}")


def weights_file_id(path: str | Path) -> str:
    """Return what a file of encoder weights is called in a run's identity: a hash of its bytes.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise UsageError(
            f"Expected a file with encoder weights at {path}, got: {error.strerror or error}. "
            "Give another one with --encoder-weights."
        ) from error


def check_encoder_weights(name: str) -> None:
    """Raise a `ValueError` unless `name` says where an encoder's first weights come from."""
    if not _WEIGHTS_ID.fullmatch(name):
        raise UsageError(
            "Expected network.encoder_weights to be random, imagenet or sha256:<16 digits> "
            f"(set by --encoder-weights FILE), got {name!r}."
        )


def check_encoder_name(name: str) -> None:
    """Raise a `ValueError` that lists the closest names unless timm has the encoder `name`.

    Of `module:name` the form alone is looked at.
    """
    if name not in TESTED_ENCODERS and not is_reference(name):
        checked_name(name, known_encoders(), "encoder")
