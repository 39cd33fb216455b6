"""One fixture a format: made-up sources, written in the files and trees that readers meet."""

from pathlib import Path

import pytest

from tests.data.readers import folder_formats, nyuv2_formats, taskonomy_formats


@pytest.fixture
def folder_source(tmp_path: Path) -> Path:
    """Return five scenes as a folder of PNGs with a dataset.yaml and all nine tasks."""
    return folder_formats.write_source(tmp_path)


@pytest.fixture
def taskonomy_source(tmp_path: Path) -> Path:
    """Return five scenes in Taskonomy's tree and names, of four buildings."""
    return taskonomy_formats.write_source(tmp_path)


@pytest.fixture(scope="session")
def frames() -> nyuv2_formats.Frames:
    """Return six frames of NYUv2's size."""
    return nyuv2_formats.room()


@pytest.fixture
def nyuv2_source(frames: nyuv2_formats.Frames, tmp_path: Path) -> Path:
    """Return the official file: four training frames and a test frame."""
    return nyuv2_formats.write_official(tmp_path, frames, (1, 2, 3, 4), (5,))


@pytest.fixture
def mtan_source(tmp_path: Path) -> Path:
    """Return MTAN's layout: train samples 0, 2 and 10, val sample 0."""
    root = tmp_path / "NYUv2 (MTAN), gepr\u00fcft"
    for number in (0, 2, 10):
        nyuv2_formats.write_mtan(root, "train", number)
    nyuv2_formats.write_mtan(root, "val", 0)
    return root
