"""Pickles of strangers: arrays come back equal, and nothing else comes in."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mtl.data.readers.nyuv2_normals import SPOOLED_BYTES, load_arrays
from mtl.errors import BadSourceError
from tests.data.readers.nyuv2_formats import dump_pickle


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n}S'build'\nI0\nsb.",  # attributes set on a stand-in's class
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        b"Pstranger\n.",
        b"\x82\x01.",
    ],
)
def test_other_ways_out_of_a_pickle_are_closed(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(program)
    with pytest.raises(BadSourceError, match="Expected .* got"):
        load_arrays(tmp_path / "x.pkl", tmp_path / "spool")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays_come_back_equal(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    content = {
        "large": rng.normal(size=(60, 50, 3)),
        "by columns": np.asfortranarray(rng.normal(size=(100, 90)).astype(np.float32)),
        "big-endian": rng.normal(size=5).astype(">f8"),
        "small": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "scalar": np.float32(2.5),
        "names": np.array(["000001", "000002"]),
        "objects": np.array(["a", "b"], dtype=object),
        "list": [1, 2.5, "text", None, True, (1, [2])],
    }
    assert content["large"].nbytes > SPOOLED_BYTES
    path = dump_pickle(tmp_path / "x.pklz", content, protocol)
    got = load_arrays(path, tmp_path / "spool")
    assert list(got) == list(content)
    for name in ("large", "by columns", "big-endian", "small", "names"):
        np.testing.assert_array_equal(got[name], content[name])
        assert got[name].dtype == content[name].dtype
    assert got["scalar"] == 2.5
    assert list(got["objects"]) == ["a", "b"]
    assert got["list"] == content["list"]
    if protocol >= 3:
        assert isinstance(got["large"], np.memmap)


def test_pickle_as_python_2_writes_it(tmp_path: Path) -> None:
    values = np.arange(20000, dtype="<f4")
    head = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b"
        b"\x87Rq\x03(K\x01M" + (20000).to_bytes(2, "little") + b"\x85cnumpy\ndtype\nq\x04U\x02f4"
        b"K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(head + values.nbytes.to_bytes(4, "little") + values.tobytes() + b"tb.")
    got = load_arrays(path, tmp_path / "spool")
    np.testing.assert_array_equal(got, values)
    assert isinstance(got, np.memmap)


def test_pickle_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(30000.0), "b": ["x"]}, protocol=4)
    path = tmp_path / "x.pkl"
    for length in [*range(0, 300, 17), 70_000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadSourceError, match="whole pickle of arrays"):
            load_arrays(path, tmp_path / "spool")


def test_array_whose_shape_does_not_fit_its_bytes(tmp_path: Path) -> None:
    whole = pickle.dumps(np.arange(6, dtype=np.uint8), protocol=2)
    path = tmp_path / "x.pkl"
    path.write_bytes(whole.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(BadSourceError, match=r"shape \(7,\)"):
        load_arrays(path, tmp_path / "spool")
