"""Data prepared once: whole or not there, the same from any number of processes."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtl.data import writing
from mtl.data.manifest import data_info, read_manifest
from mtl.data.prepared import expected_bytes, is_prepared, prepare, prepared_folder
from mtl.data.sample import Sample
from mtl.data.scenes.recipe import SceneRecipe
from mtl.data.scenes.render import VARIANTS, render_scene
from mtl.errors import PreparedDataError
from mtl.spec.sections import SPLITS, DataSpec

SMALL = DataSpec(height=16, width=24, num_train=12, num_validation=3, num_test=5)


def test_arrays_hold_what_is_rendered(tmp_path: Path) -> None:
    folder = prepare(SMALL, str(tmp_path))
    assert folder == prepared_folder(SMALL, str(tmp_path))
    for split in SPLITS:
        image = np.load(folder / split / "image.npy", mmap_mode="r")
        assert image.shape == (SMALL.count(split), 16, 24, 3)
        for index in (0, SMALL.count(split) - 1):
            scene = render_scene("simple", seed=0, split=split, index=index, height=16, width=24)
            np.testing.assert_array_equal(image[index], scene.image)
            for task, target in scene.targets.items():
                valid = np.load(folder / split / f"{task}_valid.npy", mmap_mode="r")[index]
                held = np.load(folder / split / f"{task}.npy", mmap_mode="r")[index]
                np.testing.assert_array_equal(valid, scene.valid[task])
                np.testing.assert_array_equal(held[valid], target[valid])
                assert not held[~valid].any()
                assert held.dtype == target.dtype
    info = data_info(folder)
    assert info.classes == VARIANTS["simple"].classes
    assert info.depth_range_m == VARIANTS["simple"].depth_range_m


def test_bytes_are_as_expected(tmp_path: Path) -> None:
    folder = prepare(SMALL, str(tmp_path))
    on_disk = sum(path.stat().st_size for path in folder.rglob("*.npy"))
    headers = 128 * len(list(folder.rglob("*.npy")))
    assert on_disk == expected_bytes(SMALL) + headers


def test_number_of_workers_changes_nothing_and_progress_ends_at_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one = prepare(SMALL, str(tmp_path / "one"))
    two = prepare(
        SMALL, str(tmp_path / "two"), num_workers=2, on_progress=lambda *s: seen.append(s)
    )
    assert read_manifest(one)["folder_hash"] == read_manifest(two)["folder_hash"]
    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_second_call_renders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(SMALL, str(tmp_path))
    monkeypatch.setattr(SceneRecipe, "sample", lambda *_: pytest.fail("rendered again"))
    prepare(SMALL, str(tmp_path))


def test_different_data_lie_in_different_folders(tmp_path: Path) -> None:
    others = [
        DataSpec(variant="rooms"),
        DataSpec(seed=1),
        DataSpec(height=32),
        DataSpec(num_test=7),
    ]
    folders = {prepared_folder(data, str(tmp_path)) for data in [DataSpec(), *others]}
    assert len(folders) == 5


def test_what_killed_process_left_is_cleared(tmp_path: Path) -> None:
    folder = prepared_folder(SMALL, str(tmp_path))
    left = folder.with_name(f"{folder.name}.unfinished")
    left.mkdir(parents=True)
    (left / "rubbish").write_text("half an array")
    assert not is_prepared(SMALL, str(tmp_path))
    prepare(SMALL, str(tmp_path))
    assert not left.exists()
    assert not (folder / "rubbish").exists()


def _prepare_and_tell(root: str, queue: "multiprocessing.Queue[tuple[int, str]]") -> None:
    rendered: list[int] = []
    folder = prepare(SMALL, root, on_progress=lambda done, total: rendered.append(done))
    queue.put((max(rendered, default=0), read_manifest(folder)["folder_hash"]))


def test_two_processes_that_want_it_at_once_render_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=_prepare_and_tell, args=(str(tmp_path), queue)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    outcomes = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({folder_hash for _, folder_hash in outcomes}) == 1
    assert sorted(rendered for rendered, _ in outcomes) == [0, 20]


def test_damage_is_told_in_words(tmp_path: Path) -> None:
    folder = prepare(SMALL, str(tmp_path))
    array = folder / "train" / "depth.npy"
    kept = array.read_bytes()
    array.write_bytes(kept[:-1])
    with pytest.raises(PreparedDataError, match=r"depth.npy of \d+ bytes, got \d+ bytes. Remove"):
        prepare(SMALL, str(tmp_path))
    array.unlink()
    with pytest.raises(PreparedDataError, match="got no file"):
        prepare(SMALL, str(tmp_path))
    array.write_bytes(kept)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(PreparedDataError, match="schema 1"):
        prepare(SMALL, str(tmp_path))
    (folder / "manifest.json").write_text("{")
    with pytest.raises(PreparedDataError, match="Expected prepared data"):
        prepare(SMALL, str(tmp_path))
    shutil.rmtree(folder)
    prepare(SMALL, str(tmp_path))


def test_more_than_disk_holds_is_told_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(PreparedDataError, match="GB of free disk.*smaller images"):
        prepare(DataSpec(num_train=10**12), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_label_that_is_no_class_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Void (255) where it is not valid is as it should be; class 2 of two is not.
    label = np.full((16, 24), 255, np.uint8)
    valid = np.zeros((16, 24), bool)
    label[:4], valid[:4] = 1, True

    def read(recipe: SceneRecipe, split: str, index: int) -> Sample:
        wrong = label.copy()
        if (split, index) == ("validation", 2):
            wrong[3, 5] = 2
        image = np.zeros((16, 24, 3), np.uint8)
        return Sample(image, {"segmentation": wrong}, {"segmentation": valid})

    info = {"classes": ["floor", "wall"], "depth_range_m": [1.0, 2.0]}
    monkeypatch.setattr(SceneRecipe, "sample", read)
    monkeypatch.setattr(SceneRecipe, "about", lambda recipe: {"name": "scenes", "info": info})
    with pytest.raises(PreparedDataError) as caught:
        prepare(SMALL, str(tmp_path))
    assert str(caught.value) == (
        "Expected segmentation labels from 0 to 1 (floor, wall), got 2 in sample 2 of split "
        "validation. Mark such pixels as not valid, or name their classes in the data set."
    )
    assert not is_prepared(SMALL, str(tmp_path))
    fewer = DataSpec(height=16, width=24, num_train=12, num_validation=2, num_test=5)
    folder = prepare(fewer, str(tmp_path))
    assert np.load(folder / "test" / "segmentation.npy").max() == 1


def _die(*_: object) -> int:
    os._exit(1)


def test_killed_worker_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_write_chunk", _die)
    with pytest.raises(PreparedDataError, match="got one that was killed"):
        prepare(SMALL, str(tmp_path), num_workers=2)
    assert not is_prepared(SMALL, str(tmp_path))


def test_root_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PreparedDataError, match="--data-root"):
        prepare(SMALL, str(tmp_path / "file"))
