"""The built-in class tables against each other and against the files they come from."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from mtl.data.readers.nyuv2_classes import CLASSES_13, NUM_LABELS, TO_13, TO_40, classes_13


def test_known_labels() -> None:
    # NYU's own numbering: 21 wall, 11 floor, 5 chair, 4 ceiling, 157 bed, 1 book.
    labels = np.array([[21, 11, 5], [4, 157, 0]], np.uint16)
    classes, valid = classes_13(labels)
    names = [CLASSES_13[index] for index in classes[valid]]
    assert names == ["wall", "floor", "chair", "ceiling", "bed"]
    assert valid.tolist() == [[True] * 3, [True, True, False]]
    assert classes.dtype == np.uint8


def test_each_class_is_reached_and_void_alone_is_not_valid() -> None:
    classes, valid = classes_13(np.arange(NUM_LABELS + 1))
    assert set(TO_40) == set(range(1, 41))
    assert set(classes[valid].tolist()) == set(range(13))
    assert np.flatnonzero(~valid).tolist() == [0]


def test_unknown_labels_are_refused() -> None:
    for label in (-1, 895, 65535):
        with pytest.raises(ValueError, match=rf"labels 0\.\.894, got {label}"):
            classes_13(np.array([1, label]))
    with pytest.raises(ValueError, match="integer labels, got float"):
        classes_13(np.array([1.0]))


def test_tables_equal_files(real_data: Path) -> None:
    folder = real_data / "nyuv2_meta"
    to_40 = scipy.io.loadmat(folder / "classMapping40.mat")
    assert tuple(to_40["mapClass"][0].tolist()) == TO_40
    to_13 = scipy.io.loadmat(folder / "class13Mapping.mat")["classMapping13"][0][0]
    assert tuple(to_13[0][0].tolist()) == TO_13
    assert tuple(str(name[0]).lower() for name in to_13[1][0]) == CLASSES_13
