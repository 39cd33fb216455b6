"""The section on error maps and predictions: what is shown, bounded and refused."""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from analysis.page import as_png
from analysis.render.panels import Pictures
from analysis.render.pictures import scale_picture
from analysis.render.section import Section
from analysis.sections.error_maps import error_map_section
from mtl.store import Store
from tests.analysis.made_findings import words

EPOCHS = (2, 10, 12)
METHODS = ("lsb", "fixed")
HEIGHT, WIDTH = 6, 8


def samples(errors: tuple[float, float], sides: tuple[int, int] = (HEIGHT, WIDTH), **changes: Any):
    """Return arrays as `mtl.training.samples` writes them, with one error a task everywhere."""
    generator = np.random.default_rng(3)
    shape = (2, *sides)
    arrays = {
        "indices": np.array([0, 33]),
        "image": generator.integers(0, 256, (*shape, 3)).astype(np.uint8),
        "depth_target": generator.uniform(1, 4, (*shape, 1)).astype(np.float16),
        "depth_prediction": generator.uniform(1, 4, (*shape, 1)).astype(np.float16),
        "segmentation_target": generator.integers(0, 5, shape).astype(np.uint8),
        "segmentation_prediction": generator.integers(0, 5, shape).astype(np.uint8),
    }
    for task, error in zip(("depth", "segmentation"), errors, strict=True):
        arrays[f"{task}_valid"] = np.ones(shape, bool)
        arrays[f"{task}_error"] = np.full(shape, error, np.float16)
    return arrays | changes


def write(store: Store, run_id: str, epoch: int, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    store.write(store.run_key(run_id, "samples", f"epoch_{epoch:05d}.npz"), buffer.getvalue())


def error_of(method: str, epoch: int) -> tuple[float, float]:
    """Return the errors of depth and segmentation, numbers that float16 holds exactly."""
    return (4.0 if method == "lsb" else 8.0), (12.0 if epoch == 2 else 6.0)


@pytest.fixture
def filled(store: Store, synthetic: SimpleNamespace) -> dict[tuple[str, int], str]:
    """Fill the grid, with samples of the runs at equal priorities."""
    synthetic.write_plan(store, "priority_grid", synthetic.fill(store))
    ids = {}
    for method in METHODS:
        for seed in (0, 1):
            run_id = ids[method, seed] = synthetic.make_spec(method, 1 / 2, seed).run_id()
            for epoch in EPOCHS:
                write(store, run_id, epoch, samples(error_of(method, epoch)))
    return ids


def section(store: Store) -> Section:
    loaded = load_stores([store])
    findings = find(loaded, choose_axes(loaded.tasks))
    made = error_map_section(findings, RunFiles((store,)))
    assert made is not None
    return made


def pictures(made: Section, name: str) -> Pictures:
    return next(p for p in made.pictures if p.name == name)


def test_sums_are_of_the_errors_in_one_colour_range(store, filled):
    made = section(store)
    total = pictures(made, "error_maps_sum")
    assert total.head == ("input", "error, epoch 2", "error, epoch 10", "error, epoch 12")
    assert [row.label for row in total.rows] == ["lsb", "fixed"]
    # Sums of lsb: 4 + 12, 4 + 6, 4 + 6; of fixed 8 + 12, 8 + 6, 8 + 6. One range for all six.
    limits = total.scales[0].limits
    assert limits == (0.0, 20.0)
    for row, sums in zip(total.rows, ((16, 10, 10), (20, 14, 14)), strict=True):
        for cell, value in zip(row.cells[1:], sums, strict=True):
            expected = scale_picture(np.full((HEIGHT, WIDTH), float(value)), limits, 1)
            np.testing.assert_array_equal(cell, expected)
    np.testing.assert_array_equal(total.rows[0].cells[0], samples((0, 0))["image"][0])
    assert total.rows[1].cells[0] is None
    # lsb: 6 of 10; fixed: 6 of 14.
    assert "Of the summed error after epoch 12, segmentation makes 60% (lsb) and 43% (fixed)" in (
        made.lead
    )
    assert "All pictures are of seed 0." in words(made)
    assert made.values["runs"] == {m: filled[m, 0] for m in METHODS}


def test_predictions_stand_beside_their_errors(store, filled):
    depth = pictures(section(store), "error_maps_depth")
    assert depth.head[:4] == ("input", "target", "prediction", "error, epoch 2")
    by_title = {bar.title: bar.limits for bar in depth.scales}
    target, prediction = (samples((0, 0))[f"depth_{kind}"][0] for kind in ("target", "prediction"))
    limits = by_title["depth (m)"]
    assert limits == (target.min(), target.max())
    first, second = depth.rows
    for cell, values in ((first.cells[1], target), (second.cells[2], prediction)):
        expected = scale_picture(values[..., 0].astype(float), limits, 1)
        np.testing.assert_array_equal(cell, expected)
    expected = scale_picture(
        np.full((HEIGHT, WIDTH), 4.0), by_title["depth error (natural log)"], 1
    )
    np.testing.assert_array_equal(first.cells[3], expected)
    assert second.cells[:2] == (None, None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"depth_error": np.zeros((2, 3, 3), np.float16)}, "depth_error holds float16"),
        (
            {"depth_error": np.full((2, HEIGHT, WIDTH), np.inf, np.float16)},
            "depth_error holds NaN or infinity",
        ),
    ],
)
def test_untrusted_samples_leave_a_gap_and_a_note(store, filled, changes, why):
    run_id = filled["fixed", 0]
    write(store, run_id, 12, samples(error_of("fixed", 12), **changes))
    made = section(store)
    assert f"samples of run {run_id} are not shown: epoch 12 ({why}" in words(made)
    cells = pictures(made, "error_maps_sum").rows[1].cells
    assert [cell is None for cell in cells] == [True, False, False, True]
    assert [row.cells[2] is None for row in pictures(made, "error_maps_depth").rows] == [
        False, True,
    ]  # fmt: skip


def test_the_images_shown_are_those_that_all_have(store, filled):
    changes = {"indices": np.array([7, 33])}
    held = samples((1, 1))
    changes |= {name: held[name] for name in ("image", "depth_target", "segmentation_target")}
    for epoch in EPOCHS:
        write(store, filled["fixed", 0], epoch, samples(error_of("fixed", epoch), **changes))
    made = section(store)
    assert made.values["image"] == 33
    assert "validation image 33" in made.lead
    assert "are not shown" not in words(made)


def test_a_damaged_file_a_run_without_samples_and_none_at_all(store, filled):
    folder = store.run_folder(filled["lsb", 0]) / "samples"
    (folder / "epoch_00010.npz").write_bytes(b"torn")
    assert "epoch 10 (there are none that can be read)" in words(section(store))
    for name in folder.iterdir():
        name.write_bytes(b"torn")
    made = section(store)
    assert f"samples of run {filled['lsb', 0]} are not shown: epoch 2" in words(made)
    assert [row.label for row in pictures(made, "error_maps_sum").rows] == ["fixed"]
    for name in list(folder.iterdir()):
        name.unlink()
    assert f"lsb: run {filled['lsb', 0]} has no samples." in words(section(store))
    for epoch in EPOCHS:
        folder = store.run_folder(filled["fixed", 0]) / "samples"
        (folder / f"epoch_{epoch:05d}.npz").write_bytes(b"")
    assert section(store).lead.startswith("None of the samples")


def test_no_samples_is_no_section(full_store):
    loaded = load_stores([full_store])
    findings = find(loaded, choose_axes(loaded.tasks))
    assert error_map_section(findings, RunFiles((full_store,))) is None
    assert error_map_section(findings, RunFiles()) is None


def test_large_noisy_pictures_stay_small_in_the_page(store, filled, monkeypatch):
    monkeypatch.setattr("analysis.sections.error_maps.MAX_PIXELS", 100_000)
    noise = np.random.default_rng(1).random((2, 120, 160)).astype(np.float16)
    for method in METHODS:
        for epoch in EPOCHS:
            changes = {"depth_error": noise, "segmentation_error": noise}
            write(store, filled[method, 0], epoch, samples((0, 0), (120, 160), **changes))
    made = section(store)
    assert "of the height and width of the images" in words(made)
    cells = [cell for p in made.pictures for row in p.rows for cell in row.cells]
    assert sum(cell.shape[0] * cell.shape[1] for cell in cells if cell is not None) <= 100_000
    # Each picture has a palette of its own; base64 takes four signs for three bytes.
    size = sum(len(as_png(cell)) for cell in cells if cell is not None)
    assert size < (100_000 * 1.1 + 1_500 * len(cells)) * 4 / 3
