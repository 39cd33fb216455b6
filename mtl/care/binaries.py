"""Checkpoints and samples, tested by their checksums and shapes; values are never made objects."""

import math
import re
import zipfile
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from rich.filesize import decimal

from mtl.care.files import UnreadableError, opened

MOST_PICKLE_BYTES = 16_000_000
"""Of a checkpoint's table of contents; the tensors lie beside it."""
MOST_SAMPLE_BYTES = 1_000_000_000
"""Of a samples file, unpacked."""
_CHECKPOINT_NAME = re.compile(r"latest\.pt|weights\.pt|epoch_\d{5,}\.pt")
_SAMPLES_NAME = re.compile(r"epoch_\d{5,}\.npz")


def check_checkpoint(
    path: Path, run_id: str, num_epochs: int, *, with_torch: bool = True
) -> int | None:
    """Test a checkpoint's checksums and, where torch is installed, what it holds.

    Args:
        path: the file.
        run_id: whose checkpoint it should be.
        num_epochs: of the whole training.
        with_torch: False tests the checksums alone, as does a machine without torch.

    Returns:
        Epochs trained; None for weights or where torch was not used.

    Raises:
        UnreadableError: if it is damaged, no checkpoint, or that of another run.
    """
    if not _CHECKPOINT_NAME.fullmatch(path.name):
        raise UnreadableError("is no checkpoint by its name; it is not read")
    with opened(path) as file:
        archive = _tested(file, path)
        for member in archive.infolist():
            # torch stores; whatever is packed may unpack to more than the disk holds.
            if member.compress_type != zipfile.ZIP_STORED:
                raise UnreadableError("is packed, which no checkpoint is")
            if member.filename.endswith("data.pkl") and member.file_size > MOST_PICKLE_BYTES:
                raise UnreadableError(f"has a table of contents of {decimal(member.file_size)}")
        _test_checksums(archive)
    if not with_torch:
        return None
    try:
        import torch  # noqa: F401
    except ImportError:
        return None
    return _loaded_epoch(path, run_id, num_epochs)


def _loaded_epoch(path: Path, run_id: str, num_epochs: int) -> int | None:
    import torch

    from mtl.checkpoint import CHECKPOINT_SCHEMA, WEIGHTS, WEIGHTS_SCHEMA

    try:
        # Mapped, so that no more is read than the table of contents.
        held: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise UnreadableError(f"does not load ({type(error).__name__})") from error
    schema = WEIGHTS_SCHEMA if path.name == WEIGHTS else CHECKPOINT_SCHEMA
    if not isinstance(held, dict) or held.get("schema") != schema:
        raise UnreadableError(f"is no checkpoint of schema {schema}")
    if held.get("run_id") != run_id:
        raise UnreadableError(f"is that of run {held.get('run_id')!r}")
    network = held.get("network")
    if not isinstance(network, dict) or not all(map(torch.is_tensor, network.values())):
        raise UnreadableError("holds no network")
    if path.name == WEIGHTS:
        return None
    epoch = held.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 1 <= epoch <= num_epochs:
        raise UnreadableError(f"is of epoch {epoch!r} of {num_epochs}")
    if not all(isinstance(held.get(name), dict) for name in ("weighting", "optimizer", "seconds")):
        raise UnreadableError("holds no state of the weighting and the optimizer")
    return epoch


def check_samples(path: Path) -> None:
    """Test the checksums of a file of samples and that each array is as long as it says.

    Raises:
        UnreadableError: if it is damaged or no such file.
    """
    if not _SAMPLES_NAME.fullmatch(path.name):
        raise UnreadableError("is no file of samples by its name; it is not read")
    with opened(path) as file:
        archive = _tested(file, path)
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_SAMPLE_BYTES:
            raise UnreadableError(f"unpacks to {decimal(unpacked)}, more than samples can have")
        _test_checksums(archive)
        names = {member.filename for member in archive.infolist()}
        if not {"image.npy", "indices.npy"} <= names:
            raise UnreadableError("holds no images")
        for member in archive.infolist():
            _check_array(archive, member)


def _tested(file: Any, path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UnreadableError(f"is no {path.suffix} file, or a damaged one") from error


def _test_checksums(archive: zipfile.ZipFile) -> None:
    try:
        bad = archive.testzip()
    except Exception as error:  # zipfile raises half a dozen types for damaged files
        raise UnreadableError(f"is damaged ({type(error).__name__})") from error
    if bad is not None:
        raise UnreadableError(f"is damaged in {bad!r}")


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise unless a member's header promises just the bytes that follow; nothing is allocated."""
    try:
        with archive.open(member) as array:
            version = npy.read_magic(array)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(array)
            promised = math.prod(shape) * dtype.itemsize
            is_whole = promised == member.file_size - array.tell()
    except Exception as error:  # whatever a stranger's header makes of it
        raise UnreadableError(f"has no array in {member.filename!r}") from error
    if dtype.hasobject or not is_whole:
        raise UnreadableError(f"has a damaged array in {member.filename!r}")
