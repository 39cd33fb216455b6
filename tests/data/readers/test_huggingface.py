"""Parquet files of Hugging Face's layout: scenes read back as from files, and what is wrong."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mtl.data.prepare.__main__ import main
from mtl.data.readers.folder import FolderOptions
from mtl.data.readers.huggingface import open_huggingface
from mtl.errors import BadSampleError, UserError
from mtl.spec.sections import TASKS
from tests.data.readers.folder_formats import BOUNDS, YAML, assert_read_back, scene

PREFIXES = {"train": "train", "val": "validation", "test": "test"}
"""Folder of a split -> how its files begin."""


def as_picture(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes(), "path": path.name}


def columns(split: Path) -> dict[str, list[Any]]:
    """Return the columns of a split's folder of pictures, one a folder."""
    return {
        folder.name: [as_picture(path) for path in sorted(folder.iterdir())]
        for folder in sorted(split.iterdir())
    }


@pytest.fixture
def source(folder_source: Path, tmp_path: Path) -> Path:
    """Return the five scenes of the folder reader's tests as Parquet, two row groups of train."""
    root = tmp_path / "parquet"
    (root / "data").mkdir(parents=True)
    for split, prefix in PREFIXES.items():
        table = pa.table(columns(folder_source / split))
        path = root / "data" / f"{prefix}-00000-of-00001.parquet"
        pq.write_table(table, path, row_group_size=2)
    tasks = dict(YAML["tasks"])
    tasks["segmentation"] = {
        ("column" if key == "folder" else key): value
        for key, value in tasks["segmentation"].items()
    }
    values = {key: held for key, held in YAML.items() if key != "splits"} | {"tasks": tasks}
    (root / "dataset.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    return root


def test_scenes_read_back_as_from_files(source):
    data = open_huggingface(source)
    assert (data.name, data.tasks) == ("huggingface", TASKS)
    assert data.samples["train"] == tuple(f"train/{n:07d}" for n in range(3))
    ids = [sample_id for of_split in data.samples.values() for sample_id in of_split]
    for index, sample_id in enumerate(ids):
        assert_read_back(data.read(sample_id), scene(index), BOUNDS)


def test_arrays_and_float_pictures_are_values_as_they_are(source):
    """Depth is a list of lists in one file and a TIFF of floats in the other."""
    depth = np.full((scene(0).image.shape[0], scene(0).image.shape[1]), 2.5, np.float32)
    buffer = io.BytesIO()
    Image.fromarray(depth).save(buffer, "tiff")
    for prefix, value in (("train", depth.tolist()), ("test", {"bytes": buffer.getvalue()})):
        path = source / "data" / f"{prefix}-00000-of-00001.parquet"
        table = pq.read_table(path)
        at = table.column_names.index("depth")
        table = table.set_column(at, "depth", pa.array([value] * len(table)))
        pq.write_table(table, path)
    text = (source / "dataset.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    values["tasks"]["depth"] = {"scale": 1.0}
    (source / "dataset.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    data = open_huggingface(source, FolderOptions(tasks=("depth",)))
    for sample_id in ("train/0000001", "test/0000000"):
        assert (data.read(sample_id).targets["depth"] == 2.5).all()


def test_validation_is_held_out_where_no_file_is_of_it(source):
    (source / "data" / "validation-00000-of-00001.parquet").unlink()
    data = open_huggingface(source, FolderOptions(validation_share=0.34))
    assert (len(data.samples["train"]), len(data.samples["validation"])) == (2, 1)
    assert "held out by seed 0" in data.notes[0]


def test_command_prepares_it(source, tmp_path, capsys):
    arguments = ["--source", str(source), "--size", "24x32", "--data-root", str(tmp_path / "data")]
    assert main(["huggingface", *arguments, "--tasks", "depth", "edge2d"]) == 0
    assert "--dataset huggingface" in capsys.readouterr().out


def test_files_of_no_split_are_named(source):
    for path in (source / "data").glob("*.parquet"):
        path.rename(path.with_name(f"part-{path.name}"))
    with pytest.raises(UserError, match=r"that begin with train, .*got part-.* under `splits`"):
        open_huggingface(source)


def test_missing_column_is_named(source):
    path = source / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    with pytest.raises(UserError, match=r"Expected the columns label in .*test-00000"):
        open_huggingface(source)


def test_damaged_picture_is_named_by_file_and_row(source):
    path = source / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    broken = [{"bytes": b"\x89PNG broken", "path": "a.png"}] * len(table)
    at = table.column_names.index("image")
    pq.write_table(table.set_column(at, "image", pa.array(broken)), path)
    with pytest.raises(BadSampleError, match=r"train-00000-of-00001\.parquet, train/0000000: "):
        open_huggingface(source).read("train/0000000")


def test_pictures_outside_the_file_are_refused(source):
    path = source / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    outside = pa.array([{"bytes": None, "path": "a.png"}] * len(table))
    pq.write_table(table.set_column(table.column_names.index("image"), "image", outside), path)
    with pytest.raises(BadSampleError, match=r"got 'a\.png' alone"):
        open_huggingface(source).read("train/0000000")


@pytest.mark.parametrize("name", ["nosuch", "a/b/c"])
def test_source_that_is_neither_a_folder_nor_a_name_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="owner/name"):
        open_huggingface(tmp_path / name)


def test_cached_data_set_is_read_without_a_network(source, tmp_path, monkeypatch):
    """The cache of Hugging Face's client, as it leaves it."""
    cache, commit = tmp_path / "hub", "0" * 40
    folder = cache / "datasets--somebody--rooms"
    shutil.copytree(source / "data", folder / "snapshots" / commit / "data")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    options = FolderOptions(description=str(source / "dataset.yaml"))
    data = open_huggingface(tmp_path / "somebody" / "rooms", options)
    assert_read_back(data.read("train/0000000"), scene(0), BOUNDS)
    assert any(commit in note for note in data.notes)
