"""Prepared data on a machine's own disk: copied once, whole, and never silently another's."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mtl.data import prepared
from mtl.data.prepared import copy_once, prepare, prepared_folder
from mtl.errors import PreparedDataError
from mtl.spec.sections import DataSpec

TINY = DataSpec(height=16, width=16, num_train=2, num_validation=1, num_test=1)


@pytest.fixture
def shared(tmp_path):
    prepare(TINY, str(tmp_path / "shared"))
    return str(tmp_path / "shared")


def test_copy_is_data_root_with_same_bytes(shared, tmp_path):
    local = str(tmp_path / "local")
    copy = copy_once(TINY, shared, local)
    assert copy == prepared_folder(TINY, local)
    source = prepared_folder(TINY, shared)
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(copy) for p in copy.rglob("*") if p.is_file())
    assert all((source / name).read_bytes() == (copy / name).read_bytes() for name in files)


def test_many_at_once_copy_once(shared, tmp_path, monkeypatch):
    local, copies = str(tmp_path / "local"), []
    real = prepared._copy
    monkeypatch.setattr(prepared, "_copy", lambda *a: (copies.append(a), real(*a)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: copy_once(TINY, shared, local), range(8)))
    assert len(copies) == 1
    assert len(set(found)) == 1


def test_interrupted_copy_is_begun_anew(shared, tmp_path):
    name = prepared_folder(TINY, shared).name
    beside = tmp_path / "local" / f"{name}.unfinished"
    beside.mkdir(parents=True)
    (beside / "manifest.json").write_text("torn")
    copy_once(TINY, shared, str(tmp_path / "local"))
    assert not beside.exists()


def test_bytes_that_changed_on_way_are_refused(shared, tmp_path):
    image = prepared_folder(TINY, shared) / "train" / "image.npy"
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    with pytest.raises(PreparedDataError, match="got other bytes"):
        copy_once(TINY, shared, str(tmp_path / "local"))
    assert not prepared_folder(TINY, str(tmp_path / "local")).exists()


def test_other_data_under_same_name_are_refused(shared, tmp_path):
    local = str(tmp_path / "local")
    manifest = copy_once(TINY, shared, local) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "folder_hash": "f" * 16}))
    with pytest.raises(PreparedDataError, match="got other data"):
        copy_once(TINY, shared, local)


def test_folder_that_cannot_be_made_is_said(shared, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PreparedDataError, match="--local-data"):
        copy_once(TINY, shared, str(tmp_path / "file" / "local"))
