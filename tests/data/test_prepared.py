"""Data prepared once: whole or not there, the same from any number of processes, and copied."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mtl.data import prepared, writing
from mtl.data.manifest import data_info, read_manifest
from mtl.data.prepared import (
    SceneRecipe,
    copy_once,
    expected_bytes,
    info_of,
    is_prepared,
    prepare,
    prepared_folder,
)
from mtl.data.scenes.render import render_scene
from mtl.errors import PreparedDataError
from mtl.spec.sections import SPLITS, DataSpec

SMALL = DataSpec(height=16, width=24, num_train=12, num_validation=3, num_test=5)
TINY = DataSpec(height=16, width=16, num_train=2, num_validation=1, num_test=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prepared folder of `SMALL`, which tests leave as it is."""
    return prepare(SMALL, str(tmp_path_factory.mktemp("small")))


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """Return a root with the prepared folder of `TINY`, which tests may change."""
    prepare(TINY, str(tmp_path / "shared"))
    return str(tmp_path / "shared")


def test_arrays_hold_what_is_rendered(small: Path) -> None:
    assert small == prepared_folder(SMALL, str(small.parent))
    for split in SPLITS:
        image = np.load(small / split / "image.npy", mmap_mode="r")
        assert image.shape == (SMALL.count(split), 16, 24, 3)
        for index in (0, SMALL.count(split) - 1):
            scene = render_scene("simple", seed=0, split=split, index=index, height=16, width=24)
            np.testing.assert_array_equal(image[index], scene.image)
            for task, target in scene.targets.items():
                valid = np.load(small / split / f"{task}_valid.npy", mmap_mode="r")[index]
                held = np.load(small / split / f"{task}.npy", mmap_mode="r")[index]
                np.testing.assert_array_equal(valid, scene.valid[task])
                np.testing.assert_array_equal(held[valid], target[valid])
                assert not held[~valid].any()
                assert held.dtype == target.dtype
    assert data_info(small) == info_of(SMALL)
    on_disk = sum(path.stat().st_size for path in small.rglob("*.npy"))
    headers = 128 * len(list(small.rglob("*.npy")))
    assert on_disk == expected_bytes(SMALL) + headers


def test_number_of_workers_changes_nothing(small: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    two = prepare(SMALL, str(tmp_path), num_workers=2, on_progress=lambda *s: seen.append(s))
    assert read_manifest(small)["folder_hash"] == read_manifest(two)["folder_hash"]
    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_second_call_renders_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SceneRecipe, "sample", lambda *_: pytest.fail("rendered again"))
    prepare(SMALL, str(small.parent))


def test_many_at_once_render_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered, real = [], SceneRecipe.sample
    monkeypatch.setattr(SceneRecipe, "sample", lambda *a: (rendered.append(a), real(*a))[1])
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: prepare(TINY, str(tmp_path)), range(4)))
    assert len(folders) == 1
    assert len(rendered) == 4


def test_every_field_of_scenes_has_its_own_folder(tmp_path: Path) -> None:
    changes = ({}, {"variant": "rooms"}, {"seed": 1}, {"height": 32}, {"num_test": 7})
    folders = {prepared_folder(DataSpec(**fields), str(tmp_path)) for fields in changes}
    assert len(folders) == 5


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def edit(**changes: object) -> Callable[[Path], object]:
    """Change keys of the manifest; None removes one."""

    def spoil(folder: Path) -> None:
        manifest = {**json.loads((folder / "manifest.json").read_text()), **changes}
        kept = {key: value for key, value in manifest.items() if value is not None}
        (folder / "manifest.json").write_text(json.dumps(kept))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut("test/depth.npy"), r"depth.npy of \d+ bytes, got \d+ bytes"),
        (lambda folder: (folder / "train" / "image.npy").unlink(), "got no file"),
        (cut("manifest.json"), "Expected prepared data in"),
        (lambda folder: (folder / "manifest.json").unlink(), "one without a manifest"),
        (edit(schema=99), "of schema 1"),
        (edit(skipped=None), "'skipped'"),
        (edit(arrays={"train/image.npy": 3}), "of another kind"),
        (edit(info={}), "'depth_range_m'"),
        (edit(skipped={"train": [1]}), "of another kind"),
    ],
)
def test_damaged_prepared_folder_is_refused(spoil, words, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / small.name
    shutil.copytree(small, folder)
    spoil(folder)
    with pytest.raises(PreparedDataError, match=f"{words}.* Remove ") as caught:
        prepare(SMALL, str(tmp_path))
    assert str(folder) in str(caught.value)


def test_more_than_disk_holds_is_refused_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(PreparedDataError, match="GB of free disk.*smaller images"):
        prepare(DataSpec(num_train=10**12), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def _die(*_: object) -> int:
    os._exit(1)


def test_killed_worker_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_write_chunk", _die)
    with pytest.raises(PreparedDataError, match="got one that was killed"):
        prepare(SMALL, str(tmp_path), num_workers=2)
    assert not is_prepared(SMALL, str(tmp_path))


def test_root_that_cannot_be_written_names_the_option(shared: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PreparedDataError, match="--data-root"):
        prepare(SMALL, str(tmp_path / "file"))
    with pytest.raises(PreparedDataError, match="--local-data"):
        copy_once(TINY, shared, str(tmp_path / "file" / "local"))


# Copies on a machine's own disk.


def test_copy_is_data_root_with_same_bytes(shared: str, tmp_path: Path) -> None:
    local = tmp_path / "local"
    source = prepared_folder(TINY, shared)
    beside = local / f"{source.name}.unfinished"  # of an interrupted copy
    beside.mkdir(parents=True)
    (beside / "manifest.json").write_text("torn")
    copy = copy_once(TINY, shared, str(local))
    assert copy == prepared_folder(TINY, str(local))
    assert not beside.exists()
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(copy) for p in copy.rglob("*") if p.is_file())
    assert all((source / name).read_bytes() == (copy / name).read_bytes() for name in files)


def test_many_at_once_copy_once(shared: str, tmp_path: Path, monkeypatch) -> None:
    local, copies = str(tmp_path / "local"), []
    real = prepared._copy
    monkeypatch.setattr(prepared, "_copy", lambda *a: (copies.append(a), real(*a)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: copy_once(TINY, shared, local), range(8)))
    assert len(copies) == 1
    assert len(set(found)) == 1


def test_copy_with_other_bytes_or_other_data_is_refused(shared: str, tmp_path: Path) -> None:
    local = str(tmp_path / "local")
    image = prepared_folder(TINY, shared) / "train" / "image.npy"
    kept = image.read_bytes()
    image.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(PreparedDataError, match="got other bytes"):
        copy_once(TINY, shared, local)
    assert not prepared_folder(TINY, local).exists()
    image.write_bytes(kept)
    edit(folder_hash="f" * 16)(copy_once(TINY, shared, local))
    with pytest.raises(PreparedDataError, match="got other data"):
        copy_once(TINY, shared, local)
