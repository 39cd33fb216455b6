"""Taskonomy: what may be wrong with files, trees, lists and options."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.taskonomy import TaskonomyOptions, open_taskonomy
from mtl.data.sample import RawDataset
from mtl.errors import BadSampleError, UserError
from tests.data.readers.taskonomy_formats import (
    EVERY,
    HEIGHT,
    VIEWS,
    WIDTH,
    path_of,
    scene,
)


def refused_sample(data: RawDataset, name: str, *words: object) -> None:
    with pytest.raises(BadSampleError) as caught:
        data.read(name)
    text = str(caught.value)
    assert text.startswith("Expected ")
    assert "\n" not in text
    for word in words:
        assert str(word) in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"name,split\rhanson,train\r", "name,split"),
        (b"id,train,val,test\rhanson,yes,no,no\r", "line 2"),
        (b"id,train,val,test\rhanson,1,0,1\r", "line 2"),
        (b"id,train,val,test\rhanson,1,0,0\rhanson,0,0,1\r", "line 3"),
        (b"id,train,val,test\rhanson,1\r", "line 2"),
        (b"\xff\xfe\x00\x80", "utf-8"),
    ],
)
def test_csv_that_is_no_list_of_buildings(
    taskonomy_source: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^Expected .* got") as caught:
        open_taskonomy(taskonomy_source, TaskonomyOptions(splits=str(path)))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_csv_that_is_not_there(taskonomy_source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        open_taskonomy(taskonomy_source, TaskonomyOptions(splits=str(tmp_path / "tinny")))


def test_no_complete_view_is_error_with_counts(taskonomy_source: Path) -> None:
    shutil.rmtree(taskonomy_source / "edge_occlusion")
    with pytest.raises(UserError, match="5 rgb, .*0 edge_occlusion.*fewer tasks"):
        open_taskonomy(taskonomy_source, EVERY)


def test_empty_splits_are_errors(taskonomy_source: Path) -> None:
    for folder in taskonomy_source.glob("*/ihlen"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"views of test buildings \(tiny\).*darden, hanson"):
        open_taskonomy(taskonomy_source, EVERY)
    with pytest.raises(UserError, match="views of train buildings"):
        open_taskonomy(taskonomy_source, TaskonomyOptions(stride=50, offset=49))


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Expected a folder of Taskonomy's files"):
        open_taskonomy(tmp_path / "missing")
    (tmp_path / "rgb").mkdir()
    (tmp_path / "rgb" / "holiday.png").write_bytes(b"x")
    with pytest.raises(UserError, match="named point_<P>_view_<V>"):
        open_taskonomy(tmp_path)


def test_two_files_for_one_view_are_error(taskonomy_source: Path) -> None:
    twin = taskonomy_source / "depth" / "taskonomy" / "hanson"
    twin.mkdir(parents=True)
    name = "point_0_view_0_domain_depth.png"
    shutil.copy(path_of(taskonomy_source, VIEWS[0], "depth_zbuffer"), twin / name)
    with pytest.raises(UserError, match="Expected one depth_zbuffer of point 0, view 0"):
        open_taskonomy(taskonomy_source)


def test_links_in_circle_end_and_links_to_folders_are_followed(
    taskonomy_source: Path, tmp_path: Path
) -> None:
    (taskonomy_source / "rgb" / "hanson" / "up").symlink_to(taskonomy_source)
    (taskonomy_source / "normal" / "self").symlink_to(taskonomy_source / "normal" / "self")
    shutil.move(taskonomy_source / "reshading" / "merom", tmp_path / "elsewhere")
    (taskonomy_source / "reshading" / "merom").symlink_to(tmp_path / "elsewhere")
    data = open_taskonomy(taskonomy_source, EVERY)
    assert len(data.samples["train"]) == 3
    data.read("merom/point_2_view_0")


def test_file_that_links_to_itself_is_named(taskonomy_source: Path) -> None:
    path = path_of(taskonomy_source, VIEWS[0], "reshading")
    path.unlink()
    path.symlink_to(path)
    refused_sample(
        open_taskonomy(taskonomy_source, EVERY), "hanson/point_0_view_0", path, "symbolic links"
    )


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _larger(path: Path) -> None:
    Image.open(path).resize((WIDTH + 1, HEIGHT)).save(path)


@pytest.mark.parametrize(
    ("domain", "spoil", "words"),
    [
        ("edge_texture", _truncate, "damaged"),
        ("depth_zbuffer", lambda p: Image.new("L", (WIDTH, HEIGHT)).save(p), "8 bits"),
        ("principal_curvature", _larger, "24 x 24 pixels, as the image has, in"),
        ("depth_zbuffer", lambda p: _all_invalid(p), "some valid depth"),
        ("reshading", lambda p: Image.fromarray(scene(0).image).save(p), "channels that differ"),
        ("edge_occlusion", lambda p: p.unlink(), "No such file"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    taskonomy_source: Path, domain: str, spoil: Callable[[Path], None], words: str
) -> None:
    data = open_taskonomy(taskonomy_source, EVERY)
    path = path_of(taskonomy_source, VIEWS[0], domain)
    spoil(path)
    refused_sample(data, "hanson/point_0_view_0", path, words)
    data.read("hanson/point_10_view_1")  # the others can be read


def _all_invalid(path: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 65535, np.uint16)).save(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tasks": ()}, "at least one"),
        ({"tasks": ("depth", "depth")}, "distinct"),
        ({"tasks": ("dept",)}, "Did you mean depth"),
        ({"stride": 0}, "stride of at least 1"),
        ({"offset": 100}, "offset from 0 to 99"),
        ({"validation_share": 1.0}, "validation_share between"),
        ({"test_share": 0.0}, "test_share between"),
        ({"depth_invalid_from": 70000}, "depth_invalid_from from 2"),
        ({"depth_range_m": (5.0, 1.0)}, "two rising lengths"),
    ],
)
def test_options_that_cannot_be(values: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        TaskonomyOptions(**values)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
@pytest.mark.parametrize("domain", ["normal", "principal_curvature"])
def test_vectors_have_three_channels(taskonomy_source: Path, domain: str, mode: str) -> None:
    path = path_of(taskonomy_source, VIEWS[0], domain)
    Image.new(mode, (WIDTH, HEIGHT)).save(path)
    with pytest.raises(BadSampleError, match="three values a pixel") as caught:
        open_taskonomy(taskonomy_source, EVERY).read("hanson/point_0_view_0")
    assert str(path) in str(caught.value)
