"""Files of single runs: damaged and foreign ones are refused, and none takes memory it claims."""

import io
import struct
import zipfile

import numpy as np
import pytest

from analysis.load.run_files import MAX_SAMPLE_BYTES, RunFiles, read_arrays
from mtl.errors import UsageError
from mtl.store import Store
from tests.analysis.conftest import make_spec


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def claiming(shape: tuple[int, ...], content: bytes = b"", dtype: str = "<f4") -> bytes:
    """Return an npz file whose one array says that it has this shape."""
    buffer, member = io.BytesIO(), io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member.getvalue() + content)
    return buffer.getvalue()


@pytest.fixture
def run_id(store: Store) -> str:
    return store.write_spec(make_spec("lsb", 0.5, 0))


def test_arrays_come_back_as_they_were_written():
    held = {
        "half": np.linspace(0, 1, 24).astype(np.float16).reshape(2, 3, 4),
        "bools": np.array([[True, False]]),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "empty": np.zeros((0, 3)),
    }
    read = read_arrays(npz(**held))
    assert set(read) == set(held)
    for name, values in held.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)
    assert set(read_arrays(npz(**held), ["half", "other"])) == {"half"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        npz(a=np.zeros(1000))[:-40],
        npz(a=np.random.default_rng(0).random(1000))[:400] + b"\0" * 8000,
        claiming((10**12,)),
        claiming((MAX_SAMPLE_BYTES // 4 + 1,)),
        claiming((-1, -4), b"\0" * 16),
        claiming((3,), b"\0" * 8),
        claiming((1,), b"\x80\x04N.", "|O"),
        claiming((4,), b"\0" * 16, "|V0"),
    ],
)
def test_damaged_files_and_bombs_are_refused(data, store, run_id):
    store.write(store.run_key(run_id, "samples", "epoch_00002.npz"), data)
    files = RunFiles((store,))
    assert files.sample_epochs(run_id) == [2]
    assert files.samples(run_id, 2) is None
    assert files.samples(run_id, 3) is None


def test_arrays_larger_than_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr("analysis.load.run_files.MAX_SAMPLE_BYTES", 1000)
    with pytest.raises(UsageError, match="at most 1000 bytes"):
        read_arrays(npz(a=np.zeros(1000)))


def test_zip_that_lies_about_its_size_gives_no_more_than_it_says():
    # A bomb: 64 MiB of zeros in some kB, under a header that claims four numbers.
    data = bytearray(claiming((4,), bytes(64 * 2**20)))
    assert len(data) < 200_000
    assert read_arrays(bytes(data))["a"].tolist() == [0, 0, 0, 0]
    # The central directory says that the member holds 8 bytes.
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 8)
    with pytest.raises(Exception):  # noqa: B017, PT011
        read_arrays(bytes(data))


def test_only_files_named_as_samples_count(store, run_id):
    names = ("epoch_00010.npz", "epoch_2.npz", "epoch_\N{SUPERSCRIPT TWO}.npz", "epoch_7", "x.npz")
    for name in names:
        store.write(store.run_key(run_id, "samples", name), b"")
    assert RunFiles((store,)).sample_epochs(run_id) == [2, 10]
    assert RunFiles((store,)).sample_epochs("0" * 16) == []


def test_first_store_with_readable_samples_wins(store, run_id, tmp_path):
    other = Store(tmp_path / "other")
    for held, data in ((store, b"torn"), (other, npz(a=np.ones(2)))):
        held.write(held.run_key(run_id, "samples", "epoch_00002.npz"), data)
    read = RunFiles((store, other)).samples(run_id, 2)
    assert read is not None
    assert read["a"].tolist() == [1, 1]
