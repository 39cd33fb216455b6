"""Pictures of samples: shapes are checked, sums and colours are what the arrays say."""

from typing import Any

import numpy as np
import pytest

from analysis.load.run_files import RunFiles
from analysis.render.panels import SCALE_COLOURS
from analysis.render.pictures import (
    CLASS_COLOURS,
    NO_VALUE,
    array_names,
    error_maps,
    estimate_picture,
    estimates,
    image_numbers,
    input_image,
    scale_picture,
    shared_limits,
    shrink_factor,
    shrunk_mean,
    shrunk_pick,
    summed,
    target_limits,
)
from mtl.spec import RunSpec, Runtime
from mtl.spec.sections import TASKS as ALL_TASKS
from mtl.store import Store
from mtl.training import fit

HEIGHT, WIDTH = 4, 6


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Return samples of two images, numbers 0 and 33, as `mtl.training.samples` writes them."""
    generator = np.random.default_rng(5)
    shape = (2, HEIGHT, WIDTH)
    held: dict[str, Any] = {
        "indices": np.array([0, 33]),
        "image": generator.integers(0, 256, (*shape, 3)).astype(np.uint8),
        "depth_target": generator.uniform(1, 4, (*shape, 1)).astype(np.float16),
        "depth_prediction": generator.uniform(1, 4, (*shape, 1)).astype(np.float16),
        "depth_valid": generator.random(shape) < 0.8,
        "depth_error": generator.uniform(0, 1, shape).astype(np.float16),
        "segmentation_target": generator.integers(0, 5, shape).astype(np.uint8),
        "segmentation_prediction": generator.integers(0, 5, shape).astype(np.uint8),
        "segmentation_valid": np.ones(shape, bool),
        "segmentation_error": generator.uniform(0, 3, shape).astype(np.float16),
    } | changes
    return {name: values for name, values in held.items() if values is not None}


TASKS = ("depth", "segmentation")


def test_error_maps_are_those_of_the_image_asked_for():
    held = arrays()
    held["depth_error"][~held["depth_valid"]] = np.inf  # where nothing counts it does no harm
    for values in held.values():
        values.flags.writeable = False
    found = error_maps(held, TASKS, 33)["depth"]
    valid = held["depth_valid"][1]
    assert np.array_equal(input_image(held, 33), held["image"][1])
    assert np.array_equal(found[valid], held["depth_error"][1][valid])
    assert np.array_equal(np.isnan(found), ~valid)


def test_sums_by_hand():
    nan = np.nan
    # Nothing counts at the third pixel, task b alone at the second.
    maps = {"a": np.float32([[1, nan, nan]]), "b": np.float32([[2, 1, nan]])}
    np.testing.assert_array_equal(summed(maps), [[3.0, 1.0, nan]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"indices": None}, "indices is missing"),
        ({"indices": np.array([0.0, 1.0])}, "not numbers of images"),
        ({"indices": np.array([7, 7])}, "twice"),
        ({"indices": np.zeros(0, int)}, "indices hold"),
        ({"indices": np.array(3)}, "indices hold"),
        ({"image": np.zeros((2, 4, 6, 4), np.uint8)}, "image holds uint8"),
        ({"image": np.zeros((2, 4, 6, 3))}, "image holds float64"),
        ({"image": np.zeros((3, 4, 6, 3), np.uint8)}, "image holds"),
        ({"image": np.zeros((2, 0, 6, 3), np.uint8)}, "image holds"),
        ({"image": np.zeros((2, 1, 9000, 3), np.uint8)}, "image holds"),
        ({"image": np.array("x")}, "image holds"),
        ({"depth_error": None}, "depth_error is missing"),
        ({"depth_error": np.zeros((2, 6, 4), np.float16)}, "depth_error holds float16"),
        ({"depth_error": np.zeros((2, 4, 6), int)}, "depth_error holds int64"),
        ({"depth_error": np.full((2, 4, 6), np.nan)}, "NaN or infinity"),
        ({"depth_error": np.full((2, 4, 6), 1e300)}, "NaN or infinity"),
        ({"depth_valid": np.ones((2, 4, 6))}, "depth_valid holds float64"),
        ({"depth_target": np.zeros((2, 4, 6, 5), np.float16)}, "depth_prediction holds"),
        ({"depth_target": np.zeros((2, 4, 6, 0), np.float16)}, "depth_target holds"),
        ({"depth_target": np.zeros((2, 4, 6), np.float16)}, "depth_target holds"),
        ({"depth_prediction": np.zeros((2, 4, 6, 3), np.float16)}, "depth_prediction holds"),
        ({"depth_prediction": np.zeros((2, 4, 6, 1), object)}, "depth_prediction holds object"),
    ],
)
def test_untrusted_arrays_are_refused_in_a_sentence(changes, words):
    held = arrays(**changes)

    def read() -> None:
        image_numbers(held)
        error_maps(held, TASKS, 0)
        estimates(held, "depth", 0)

    with pytest.raises(ValueError, match=words):
        read()


def test_an_image_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="image 1 is missing"):
        error_maps(arrays(), TASKS, 1)


def test_shrinking_takes_means_of_what_counts_and_picks_classes():
    values = np.array([[1.0, 3.0, 9.0], [np.nan, 5.0, 9.0], [9.0, 9.0, 9.0]])
    assert shrunk_mean(values, 2).tolist() == [[3.0]]  # (1 + 3 + 5) / 3; the rest is cut off
    assert np.isnan(shrunk_mean(np.full((2, 2), np.nan), 2)).all()
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert shrunk_pick(labels, 2).tolist() == [[5, 7], [13, 15]]
    # More than the picture: one pixel is left.
    assert shrunk_mean(np.ones((2, 5)), 9).shape == shrunk_pick(np.ones((2, 5)), 9).shape == (1, 1)


@pytest.mark.parametrize(("sides", "most"), [((48, 64), 3072), ((480, 640), 5000), ((1, 999), 10)])
def test_the_least_factor_that_fits(sides, most):
    factor = shrink_factor(*sides, most)

    def pixels(factor: int) -> int:
        return shrunk_pick(np.zeros(sides), factor).size

    assert pixels(factor) <= most
    assert factor == 1 or pixels(factor - 1) > most


def test_one_colour_range_from_zero_to_nearly_the_largest():
    assert shared_limits([np.linspace(0, 1, 101), np.full(3, np.nan)]) == (0.0, 0.99)
    low, high = shared_limits([np.linspace(-1, 1, 201)])  # a loss may fall below 0
    assert (low, high) == (pytest.approx(-0.98), pytest.approx(0.98))
    assert shared_limits([np.zeros((2, 2))]) == (0.0, 1.0)
    assert shared_limits([]) == (0.0, 1.0)
    # So few pixels are wrong that nearly all hold 0: the largest value then ends the range.
    assert shared_limits([np.array([*[0.0] * 999, 5.0])]) == (0.0, 5.0)


def test_colours_of_a_scale_are_those_of_its_bar():
    picture = scale_picture(np.array([[0.0, 2.0, 9.0, np.nan, 1.0]]), (0.0, 2.0), 1)
    ends = [tuple(bytes.fromhex(SCALE_COLOURS["sequential"][i][1:])) for i in (0, -1)]
    assert [tuple(pixel) for pixel in picture[0, :4]] == [ends[0], ends[1], ends[1], NO_VALUE]
    # Halfway lies between the third and fourth of six colours.
    third, fourth = (bytes.fromhex(SCALE_COLOURS["sequential"][i][1:]) for i in (2, 3))
    assert np.abs(picture[0, 4] - np.mean([list(third), list(fourth)], axis=0)).max() <= 0.5
    assert picture.dtype == np.uint8


def test_estimates_are_coloured_by_what_they_are():
    valid = np.array([[True, True, False]])

    def shown(values: Any, task: str, limits: tuple[float, float] = (0.0, 2.0)) -> list[Any]:
        picture = estimate_picture(np.array(values), valid, limits, 1, task=task)
        return [tuple(pixel) for pixel in picture[0].tolist()]

    classes = shown(np.array([[0, len(CLASS_COLOURS) + 1, 2]], np.uint8), "segmentation")
    assert classes == [*(tuple(bytes.fromhex(c[1:])) for c in CLASS_COLOURS[:2]), NO_VALUE]
    # Towards -z, twice too long: red and green in the middle, no blue; a length of 0 has no colour.
    normals = shown([[[0.0, 0.0, -2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], "normal")
    assert normals == [(128, 128, 0), NO_VALUE, NO_VALUE]
    assert shown([[[0.0], [2.0], [1.0]]], "edge2d") == [(0, 0, 0), (255, 255, 255), NO_VALUE]
    assert shown([[[2.0, 0.0], [np.nan, 0.0], [1.0, 1.0]]], "curvature") == [
        (255, 128, 0), NO_VALUE, NO_VALUE,
    ]  # fmt: skip
    depth = shown([[[0.0], [np.inf], [1.0]]], "depth")
    assert depth == [tuple(bytes.fromhex(SCALE_COLOURS["sequential"][0][1:])), NO_VALUE, NO_VALUE]


def test_the_palette_tells_classes_apart():
    colours = np.array([list(bytes.fromhex(c[1:])) for c in CLASS_COLOURS], float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 40


def test_targets_fix_the_range_of_predictions():
    held = arrays()
    found = estimates(held, "depth", 0)
    counted = held["depth_target"][0][held["depth_valid"][0]]
    assert target_limits(found) == (counted.min(), counted.max())
    constant = arrays(depth_target=np.ones((2, HEIGHT, WIDTH, 1), np.float16))
    assert target_limits(estimates(constant, "depth", 0)) == (0.5, 1.5)
    nothing = arrays(depth_valid=np.zeros((2, HEIGHT, WIDTH), bool))
    assert target_limits(estimates(nothing, "depth", 0)) == (0.0, 1.0)


def test_what_training_writes_can_be_read_for_all_nine_tasks(make_tiny, data_root, tmp_path):
    spec = RunSpec.from_dict(make_tiny(tasks=list(ALL_TASKS)))
    store = Store(tmp_path / "store")
    fit(spec, store, Runtime(device="cpu", data_root=data_root))
    files, run_id = RunFiles((store,)), spec.run_id()
    last = files.sample_epochs(run_id)[-1]
    held = files.samples(run_id, last)
    assert held is not None
    number = image_numbers(held)[0]
    maps = error_maps(held, spec.tasks, number)
    for task in spec.tasks:
        estimate = estimates(held, task, number)
        assert np.array_equal(np.isnan(maps[task]), ~estimate.valid)
        limits = target_limits(estimate)
        for values in (estimate.target, estimate.prediction):
            picture = estimate_picture(values, estimate.valid, limits, 1, task=task)
            assert picture.shape == held["image"].shape[1:]
            assert (picture[~estimate.valid] == NO_VALUE).all()
    # A part of it, and the same whether the others are read along or not.
    some = files.samples(run_id, last, array_names(spec.tasks, ("error", "valid")))
    assert some is not None
    assert set(some) < set(held)
    again = error_maps(some, spec.tasks, number)
    assert np.array_equal(summed(again), summed(maps), equal_nan=True)
