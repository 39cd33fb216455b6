"""Prepared data are whole or not there, continue after any interruption, and list what is bad."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.data import writing
from mtl.data.manifest import check_hashes, new_array, read_manifest
from mtl.data.sample import Sample
from mtl.data.writing import arrays_of, write_prepared
from mtl.errors import BadSampleError, PreparedDataError

READS: list[tuple[str, int]] = []
STATES: dict[tuple[str, int], str] = {}
"""Split and first index of a chunk -> state of its files; all others have none."""


@dataclass(frozen=True)
class Numbers:
    """Samples whose every pixel tells split and index; some are bad."""

    bad: tuple[tuple[str, int], ...] = ()
    num_train: int = 25

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
        return Sample(
            image=np.full((4, 6, 3), index, np.uint8),
            targets={
                "depth": np.full((4, 6, 1), index, np.float32),
                "segmentation": np.full((4, 6), index % 2, np.uint8),
            },
            valid={"depth": valid, "segmentation": valid},
            measured={"depth": measured},
        )

    def state(self, split: str, start: int, stop: int, /) -> str:
        return STATES.get((split, start), "") if stop > start else ""

    def about(self) -> dict[str, Any]:
        info = {"classes": ["even", "odd"], "depth_range_m": [0.5, 30.0]}
        return {"name": "numbers", "info": info, "num_train": self.num_train}


def write(recipe: Numbers, folder: Path, **changes: Any) -> None:
    READS.clear()
    options = {"num_workers": 1, "on_progress": None, "on_message": pytest.fail, **changes}
    write_prepared(recipe, folder, **options)


def hashes(folder: Path) -> str:
    return str(read_manifest(folder)["folder_hash"])


@pytest.mark.parametrize("stop_after", [1, 7, 10, 11, 26, 39])
def test_interrupted_anywhere_it_goes_on_and_ends_the_same(
    stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Numbers(), tmp_path / "whole")
    original = Numbers.sample
    reads = 0

    def stopping(self: Numbers, split: str, index: int) -> Sample:
        nonlocal reads
        reads += 1
        if reads > stop_after:
            raise KeyboardInterrupt
        return original(self, split, index)

    with monkeypatch.context() as patch:
        patch.setattr(Numbers, "sample", stopping)
        with pytest.raises(KeyboardInterrupt):
            write(Numbers(), tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    seen: list[tuple[int, int]] = []
    write(Numbers(), tmp_path / "stopped", on_progress=lambda *s: seen.append(s))
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")
    # Chunks that were done are not read again: 10 samples each, the first read told the shapes.
    done = 10 * max(0, (min(stop_after, 21) - 1) // 10)
    assert seen[0][0] >= done
    assert len(READS) == 40 - seen[0][0]


def test_a_torn_last_note_and_another_recipe_are_seen(tmp_path: Path) -> None:
    write(Numbers(), tmp_path / "whole")
    beside = tmp_path / "other.unfinished"
    write(Numbers(), tmp_path / "other")
    (tmp_path / "other").rename(beside)
    about = Numbers().about()
    (beside / "manifest.json").unlink()
    (beside / "recipe.json").write_text(json.dumps(about))
    (beside / writing.NOTES).write_text(
        '{"split": "train", "start": 0, "stop": 10, "bad": []}\n{"split": "tra'
    )
    write(Numbers(), tmp_path / "other")
    assert ("train", 0) not in READS
    assert ("train", 10) in READS
    assert hashes(tmp_path / "other") == hashes(tmp_path / "whole")
    # Another recipe begins anew, whatever lies there, and says so.
    (tmp_path / "other").rename(beside)
    (beside / "recipe.json").write_text(json.dumps(about))
    (beside / writing.NOTES).touch()
    said: list[str] = []
    write(Numbers(num_train=26), tmp_path / "other", on_message=said.append)
    assert len(READS) == 26 + 3 + 12 + 1
    (words,) = said
    assert words.startswith("Beginning anew: num_train changed since the preparation in")


def stop_at(monkeypatch: pytest.MonkeyPatch, split: str, index: int, *, bad_ends: bool) -> None:
    """Let the first reading of a sample interrupt the preparation."""
    original, stopped = Numbers.sample, []

    def sample(self: Numbers, *which: Any) -> Sample:
        if which == (split, index) and not stopped:
            stopped.append(which)
            raise BadSampleError("Expected a file, got none.") if bad_ends else KeyboardInterrupt
        return original(self, *which)

    monkeypatch.setattr(Numbers, "sample", sample)


def test_a_note_after_a_torn_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, "test", 0, bad_ends=False)
    with pytest.raises(KeyboardInterrupt):
        write(Numbers(), tmp_path / "data")
    notes = tmp_path / "data.unfinished" / writing.NOTES
    first, second, *_ = notes.read_text().splitlines()
    notes.write_text(f"{first}\n{second[:20]}")
    stop_at(monkeypatch, "test", 0, bad_ends=False)
    with pytest.raises(KeyboardInterrupt):
        write(Numbers(), tmp_path / "data")
    write(Numbers(), tmp_path / "data")
    # Written before and after the torn note: neither is read again.
    assert [read for read in READS if read[0] == "train"] == []


@pytest.mark.parametrize("bad_ends", [False, True])
def test_files_that_changed_meanwhile_are_read_again_and_no_others(
    bad_ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A sample that ended it and was mended does not undo the rest.
    write(Numbers(), tmp_path / "whole")
    stop_at(monkeypatch, "validation", 0, bad_ends=bad_ends)
    with pytest.raises(PreparedDataError if bad_ends else KeyboardInterrupt):
        write(Numbers(), tmp_path / "data")
    monkeypatch.setitem(STATES, ("train", 10), "another")
    monkeypatch.setitem(STATES, ("validation", 0), "mended")
    said: list[str] = []
    write(Numbers(), tmp_path / "data", on_message=said.append)
    assert {index for split, index in READS if split == "train"} == set(range(10, 20))
    assert [words for words in said if "10 samples around them are read again" in words] == said
    assert len(said) == 1
    assert hashes(tmp_path / "data") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("fails_at", [1, 2, 5, 6])
def test_interrupted_while_bad_samples_are_dropped_it_ends_the_same(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows move up in one array after the other: nothing may be written to an array by index then.
    recipe = Numbers(bad=(("train", 3), ("test", 11)))
    write(recipe, tmp_path / "whole", skip_bad=True)
    original, replaced = new_array, []

    def full(path: Path, *args: Any) -> np.memmap:
        if path.suffix == ".part":
            replaced.append(path)
            if len(replaced) == fails_at:
                raise OSError(28, "No space left on device")
        return original(path, *args)

    monkeypatch.setattr(writing, "new_array", full)
    with pytest.raises(OSError, match="No space"):
        write(recipe, tmp_path / "data", skip_bad=True)
    write(recipe, tmp_path / "data", skip_bad=True)
    assert READS == []
    assert hashes(tmp_path / "data") == hashes(tmp_path / "whole")
    skipped = [read_manifest(tmp_path / name)["skipped"] for name in ("data", "whole")]
    assert skipped[0] == skipped[1]


def test_files_that_changed_while_bad_samples_are_dropped_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Numbers(bad=(("train", 3),))
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_keep_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(recipe, tmp_path / "data", skip_bad=True)
    monkeypatch.setitem(STATES, ("train", 0), "mended")
    said: list[str] = []
    write(Numbers(), tmp_path / "data", on_message=said.append)
    assert said[0].startswith("Beginning anew: source files changed since")
    assert read_manifest(tmp_path / "data")["counts"]["train"] == 25


@pytest.mark.parametrize("num_workers", [1, 2])
def test_bad_samples_end_it_or_are_left_out_and_listed(num_workers: int, tmp_path: Path) -> None:
    recipe = Numbers(bad=(("train", 0), ("train", 13), ("test", 11)))
    with pytest.raises(PreparedDataError, match=r"got train 0\. .--skip-bad goes on"):
        write(recipe, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    write(recipe, tmp_path / "data", skip_bad=True, num_workers=num_workers)
    manifest = read_manifest(tmp_path / "data")
    assert manifest["counts"] == {"train": 23, "validation": 3, "test": 11}
    assert set(manifest["skipped"]["train"]) == {"0", "13"}
    assert "got test 11" in manifest["skipped"]["test"]["11"]
    images = np.load(tmp_path / "data" / "train" / "image.npy")
    assert images[:, 0, 0, 0].tolist() == [*range(1, 13), *range(14, 25)]
    depths = np.load(tmp_path / "data" / "test" / "depth.npy")
    assert depths[:, 1, 0, 0].tolist() == list(range(11))


@settings(deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.nan, np.inf, -1.0, 3e38]),
)
def test_what_invalid_pixels_hold_is_never_written(
    height: int, width: int, seed: int, junk: float
) -> None:
    rng = np.random.default_rng(seed)
    valid, measured = (rng.random((height, width)) < 0.6 for _ in range(2))
    depth = rng.uniform(1, 9, (height, width, 1)).astype(np.float32)
    labels = rng.integers(0, 13, (height, width)).astype(np.uint8)
    sample = Sample(
        image=np.zeros((height, width, 3), np.uint8),
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


def test_a_split_of_bad_samples_alone_is_refused(tmp_path: Path) -> None:
    recipe = Numbers(bad=tuple(("validation", i) for i in range(3)))
    with pytest.raises(PreparedDataError, match="split validation, got none: .*validation 0"):
        write(recipe, tmp_path / "data", skip_bad=True)
    assert not (tmp_path / "data").exists()
    every = tuple((s, i) for s, n in Numbers().counts().items() for i in range(n))
    with pytest.raises(PreparedDataError, match="at least one sample that can be read"):
        write(Numbers(bad=every), tmp_path / "none", skip_bad=True)


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
        ("validation", "valid", "measured"),  # what is not valid is not measured either
        ("test", "measured", "measured"),
    ],
)
def test_a_task_that_counts_nowhere_in_a_split_is_refused(
    split: str, mask: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Numbers.sample

    def without_depth(self: Numbers, of: str, index: int) -> Sample:
        sample = original(self, of, index)
        if of == split:
            masks = dict(getattr(sample, mask))
            masks["depth"] = np.zeros((4, 6), bool)
            sample = replace(sample, **{mask: masks})
        return sample

    monkeypatch.setattr(Numbers, "sample", without_depth)
    count = Numbers().counts()[split]
    says = (
        f"some {word} pixels of depth in split {split}, got none in {count} samples. "
        "Leave depth out with --tasks"
    )
    with pytest.raises(PreparedDataError, match=says):
        write(Numbers(), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_training_needs_valid_pixels_but_no_measured_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Numbers.sample

    def filled(self: Numbers, split: str, index: int) -> Sample:
        sample = original(self, split, index)
        none = {"depth": np.zeros((4, 6), bool)}
        return replace(sample, measured=none) if split == "train" else sample

    monkeypatch.setattr(Numbers, "sample", filled)
    write(Numbers(), tmp_path / "data")
    assert read_manifest(tmp_path / "data")["statistics"]["depth"]["share_measured"] == 0


def test_other_bytes_of_the_same_length_are_noticed(tmp_path: Path) -> None:
    write(Numbers(), tmp_path / "data")
    check_hashes(tmp_path / "data")
    path = tmp_path / "data" / "train" / "depth.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreparedDataError, match="as it was written, got other bytes"):
        check_hashes(tmp_path / "data")
