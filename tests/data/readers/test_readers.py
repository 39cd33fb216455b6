"""What holds for every reader."""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtl.data.readers.common import hold_out
from mtl.data.readers.folder import FolderOptions
from mtl.data.readers.nyuv2 import Nyuv2Options
from mtl.data.readers.nyuv2_mtan import MtanOptions
from mtl.data.readers.registry import READERS
from mtl.data.readers.taskonomy import TaskonomyOptions
from mtl.data.sample import RawDataset
from tests.data.readers import folder_formats, taskonomy_formats
from tests.data.readers.refusals import refused

Opened = Callable[..., RawDataset]
KINDS = {
    "folder": (FolderOptions(), folder_formats.FIRST, 10),
    "taskonomy": (TaskonomyOptions(stride=1), taskonomy_formats.FIRST, 9),
    "nyuv2_mtan": (MtanOptions(), "val/0", 4),
    "nyuv2": (Nyuv2Options(tasks=("depth",)), "0003", 1),
}
"""Reader -> options, an id, and the number of its files."""


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest) -> Opened:
    """Return a function that opens a source with changed options."""
    name = request.param
    source: Path = request.getfixturevalue(f"{name.removeprefix('nyuv2_')}_source")
    # Where there is no split for validation, part of train is held out.
    for place in source.glob({"folder": "val", "taskonomy": "*/darden"}.get(name, "nothing")):
        shutil.rmtree(place)
    return lambda **options: READERS[name].open(source, replace(KINDS[name][0], **options))


def test_files_are_named_and_data_set_can_be_pickled(opened: Opened) -> None:
    data = opened()
    _, sample_id, num_files = KINDS[data.name]
    assert len(set(data.files[sample_id].values())) == num_files
    names = {name for ids in data.samples.values() for name in ids}
    assert names == set(data.files)
    assert all(path.is_file() for each in data.files.values() for path in each.values())
    sent = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(sent.read(sample_id).image, data.read(sample_id).image)


def test_part_of_train_is_held_out_by_seed(opened: Opened) -> None:
    held = {opened(validation_seed=seed).samples["validation"] for seed in range(12)}
    assert {len(ids) for ids in held} == {1}
    assert len(held) > 1
    samples = opened().samples
    assert not set(samples["train"]) & set(samples["validation"])
    assert len(samples["train"]) in (2, 3)


def test_held_out_samples_are_these_for_ever() -> None:
    ids = [f"{index:04d}" for index in range(1, 796)]
    kept, held = hold_out(ids, 0.1, seed=0)
    assert (len(kept), len(held)) == (715, 80)
    assert held[:5] == ("0002", "0019", "0021", "0023", "0025")
    fewer, _ = hold_out(ids[:-1], 0.1, seed=0)
    assert len(set(kept) ^ set(fewer)) <= 2
    for share in (-0.1, 1.0, float("nan"), 0.9):
        refused(lambda share=share: hold_out(["a", "b"], share, 0))
