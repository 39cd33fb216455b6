"""Prepared data are whole or not there, continue after any interruption, and list what is bad."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl.data import writing
from mtl.data.manifest import check_hashes, read_manifest
from mtl.data.sample import Sample
from mtl.data.writing import arrays_of, write_prepared
from mtl.errors import BadSampleError, PreparedDataError

READS: list[tuple[str, int]] = []


@dataclass(frozen=True)
class Numbers:
    """Samples whose pixels hold their index; some are bad."""

    bad: tuple[tuple[str, int], ...] = ()
    num_train: int = 25
    change: Callable[[str, int, Sample], Sample] = lambda split, index, sample: sample

    def counts(self) -> dict[str, int]:
        return {"train": self.num_train, "validation": 3, "test": 12}

    def sample(self, split: str, index: int) -> Sample:
        READS.append((split, index))
        if (split, index) in self.bad:
            raise BadSampleError(f"Expected a good sample, got {split} {index}.")
        valid = np.ones((4, 6), bool)
        valid[0] = False
        measured = valid.copy()
        measured[1] = False
        sample = Sample(
            image=np.full((4, 6, 3), index, np.uint8),
            targets={
                "depth": np.full((4, 6, 1), index, np.float32),
                "segmentation": np.full((4, 6), index % 2, np.uint8),
            },
            valid={"depth": valid, "segmentation": valid},
            measured={"depth": measured},
        )
        return self.change(split, index, sample)

    def about(self) -> dict[str, Any]:
        info = {"classes": ["even", "odd"], "depth_range_m": [0.5, 30.0]}
        return {"name": "numbers", "info": info, "num_train": self.num_train}


def write(recipe: Numbers, folder: Path, **changes: Any) -> None:
    READS.clear()
    options = {"num_workers": 1, **changes}
    write_prepared(recipe, folder, **options)


def hashes(folder: Path) -> str:
    return str(read_manifest(folder)["folder_hash"])


def interrupt(folder: Path, number: int, **recipe: Any) -> None:
    """Interrupt a preparation at the sample after `number` others."""
    reads = itertools.count()

    def stop(split: str, index: int, sample: Sample) -> Sample:
        if next(reads) == number:
            raise KeyboardInterrupt
        return sample

    with pytest.raises(KeyboardInterrupt):
        write(Numbers(change=stop, **recipe), folder, skip_bad=True)


@pytest.mark.parametrize("num_read", [0, 10, 39])
def test_interrupted_preparation_continues_with_missing_chunks(num_read, tmp_path) -> None:
    write(Numbers(), tmp_path / "whole")
    interrupt(tmp_path / "stopped", num_read)
    assert not (tmp_path / "stopped").exists()
    seen: list[tuple[int, int]] = []
    write(Numbers(), tmp_path / "stopped", on_progress=lambda *s: seen.append(s))
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")
    # Chunks: train 10, 10 and 5 samples, validation 3, test 10 and 2.
    assert seen[0] == (sum(n for n, end in ((10, 10), (10, 20), (5, 25), (3, 28), (10, 38))
                           if end <= num_read), 40)  # fmt: skip
    assert len(READS) == 40 - seen[0][0]
    assert not (tmp_path / "stopped.unfinished").exists()


@pytest.mark.parametrize("fails_at", [1, 7])
def test_interrupted_while_chunks_are_joined_reads_nothing_again(fails_at, tmp_path, monkeypatch):
    recipe = Numbers(bad=(("train", 3), ("test", 11)))
    write(recipe, tmp_path / "whole", skip_bad=True)
    original, joined = writing._join, []

    def full(*given: Any) -> None:
        joined.append(given)
        if len(joined) == fails_at:
            raise OSError(28, "No space left on device")
        original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_join", full)
        with pytest.raises(OSError, match="No space"):
            write(recipe, tmp_path / "data", skip_bad=True)
    write(recipe, tmp_path / "data", skip_bad=True)
    # Of chunks with bad samples only, and only before the first array is whole.
    assert len(READS) == (12 if fails_at == 1 else 0)
    assert hashes(tmp_path / "data") == hashes(tmp_path / "whole")
    skipped = [read_manifest(tmp_path / name)["skipped"] for name in ("data", "whole")]
    assert skipped[0] == skipped[1]


def test_another_recipe_starts_again_and_says_what_changed(tmp_path, capsys) -> None:
    interrupt(tmp_path / "data", 20)
    write(Numbers(num_train=26), tmp_path / "data")
    assert len(READS) == 26 + 3 + 12
    words = "Starting again: num_train changed since the preparation in"
    assert capsys.readouterr().err.startswith(words)


def test_files_of_earlier_version_or_damaged_notes_are_cleared(tmp_path: Path) -> None:
    beside = tmp_path / "data.unfinished"
    (beside / "chunks").mkdir(parents=True)
    (beside / "chunks" / "about.json").write_text("{")
    (beside / "recipe.json").write_text(json.dumps(Numbers().about()))
    write(Numbers(), tmp_path / "data")
    assert not (tmp_path / "data" / "recipe.json").exists()
    assert not beside.exists()


def test_bad_samples_are_tried_again(tmp_path: Path) -> None:
    interrupt(tmp_path / "data", 29, bad=(("train", 3),))
    write(Numbers(), tmp_path / "data")
    assert {index for split, index in READS if split == "train"} == set(range(10))
    assert read_manifest(tmp_path / "data")["counts"]["train"] == 25


def test_bad_samples_are_error_or_left_out_and_listed(tmp_path: Path) -> None:
    recipe = Numbers(bad=(("train", 0), ("train", 13), ("test", 11)))
    with pytest.raises(PreparedDataError, match=r"got train 0\. .--skip-bad goes on"):
        write(recipe, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    write(recipe, tmp_path / "data", skip_bad=True)
    manifest = read_manifest(tmp_path / "data")
    assert manifest["counts"] == {"train": 23, "validation": 3, "test": 11}
    assert set(manifest["skipped"]["train"]) == {"0", "13"}
    assert "got test 11" in manifest["skipped"]["test"]["11"]
    images = np.load(tmp_path / "data" / "train" / "image.npy")
    assert images[:, 0, 0, 0].tolist() == [*range(1, 13), *range(14, 25)]
    depths = np.load(tmp_path / "data" / "test" / "depth.npy")
    assert depths[:, 1, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1.0, 3e38])
def test_what_invalid_pixels_hold_is_never_written(junk: float) -> None:
    rng = np.random.default_rng(0)
    valid, measured = (rng.random((9, 7)) < 0.6 for _ in range(2))
    depth = rng.uniform(1, 9, (9, 7, 1)).astype(np.float32)
    labels = rng.integers(0, 13, (9, 7)).astype(np.uint8)
    sample = Sample(
        image=np.zeros((9, 7, 3), np.uint8),
        targets={
            "depth": np.where(valid[..., None], depth, np.float32(junk)),
            "segmentation": np.where(valid, labels, np.uint8(255)),
        },
        valid={"depth": valid, "segmentation": valid},
        measured={"depth": measured},
    )
    arrays = arrays_of(sample)
    np.testing.assert_array_equal(arrays["depth"], np.where(valid[..., None], depth, 0))
    np.testing.assert_array_equal(arrays["segmentation"], np.where(valid, labels, 0))
    np.testing.assert_array_equal(arrays["depth_valid"], valid)
    # Metrics count what was measured, and never more than losses do.
    np.testing.assert_array_equal(arrays["depth_measured"], measured & valid)
    assert "segmentation_measured" not in arrays


def test_split_without_good_samples_is_refused(tmp_path: Path) -> None:
    recipe = Numbers(bad=tuple(("validation", i) for i in range(3)))
    with pytest.raises(PreparedDataError, match="split validation, got none: .*validation 0"):
        write(recipe, tmp_path / "data", skip_bad=True)
    assert not (tmp_path / "data").exists()


def test_label_that_is_no_class_is_refused_with_its_place(tmp_path: Path) -> None:
    def with_label_2(split: str, index: int, sample: Sample) -> Sample:
        wrong = sample.targets["segmentation"].copy()
        wrong[0] = 255  # not valid: as it should be
        if (split, index) == ("validation", 2):
            wrong[3, 5] = 2
        return replace(sample, targets={**sample.targets, "segmentation": wrong})

    with pytest.raises(PreparedDataError) as caught:
        write(Numbers(change=with_label_2), tmp_path / "data")
    assert str(caught.value) == (
        "Expected segmentation labels from 0 to 1 (even, odd), got 2 in sample 2 of split "
        "validation. Mark such pixels as not valid, or name their classes in the data set."
    )


def test_statistics_by_hand(tmp_path: Path) -> None:
    write(Numbers(), tmp_path / "data")
    found = read_manifest(tmp_path / "data")["statistics"]
    # 3 of 4 rows valid, 2 of 4 measured; depths 0 to 24: mean 12, variance (25^2 - 1) / 12 = 52.
    assert found["depth"]["share_valid"] == 0.75
    assert found["depth"]["share_measured"] == 0.5
    assert found["depth"]["mean"] == [12.0]
    assert found["depth"]["std"] == pytest.approx([52**0.5])
    # 13 even and 12 odd indices.
    assert found["segmentation"]["class_shares"] == pytest.approx({"even": 0.52, "odd": 0.48})


@pytest.mark.parametrize(
    ("split", "mask", "word"),
    [
        ("train", "valid", "valid"),
        ("train", "measured", ""),  # training needs none
        ("validation", "valid", "measured"),  # what is not valid is not measured either
        ("test", "measured", "measured"),
    ],
)
def test_task_without_counted_pixels_in_split_is_refused(split, mask, word, tmp_path) -> None:
    def without_depth(of: str, _: int, sample: Sample) -> Sample:
        masks = {**getattr(sample, mask), "depth": np.zeros((4, 6), bool)}
        return replace(sample, **{mask: masks}) if of == split else sample

    recipe = Numbers(change=without_depth)
    if not word:
        write(recipe, tmp_path / "data")
        assert read_manifest(tmp_path / "data")["statistics"]["depth"]["share_measured"] == 0
        return
    count = recipe.counts()[split]
    words = f"some {word} pixels of depth in split {split}, got none in {count} samples. Leave"
    with pytest.raises(PreparedDataError, match=words):
        write(recipe, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    write(Numbers(), tmp_path / "data")
    check_hashes(tmp_path / "data")
    path = tmp_path / "data" / "train" / "depth.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreparedDataError, match="as it was written, got other bytes"):
        check_hashes(tmp_path / "data")
