"""What holds for every reader."""

import pickle
from pathlib import Path

import numpy as np

from mtl.data.readers.folder import open_folder
from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.data.readers.nyuv2_mtan import open_nyuv2_mtan
from mtl.data.readers.taskonomy import open_taskonomy
from tests.data.readers import folder_formats, taskonomy_formats


def test_readers_name_their_files_and_can_be_pickled(
    folder_source: Path, taskonomy_source: Path, mtan_source: Path, nyuv2_source: Path
) -> None:
    for data, sample_id, num_files in (
        (open_folder(folder_source), folder_formats.FIRST, 10),
        (open_taskonomy(taskonomy_source, taskonomy_formats.EVERY), taskonomy_formats.FIRST, 9),
        (open_nyuv2_mtan(mtan_source), "val/0", 4),
        (open_nyuv2(nyuv2_source, Nyuv2Options(tasks=("depth",))), "0003", 1),
    ):
        assert len(set(data.files[sample_id].values())) == num_files
        for ids in data.samples.values():
            assert all(path.is_file() for each in ids for path in data.files[each].values())
        sent = pickle.loads(pickle.dumps(data))
        np.testing.assert_array_equal(sent.read(sample_id).image, data.read(sample_id).image)
