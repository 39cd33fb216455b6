"""The section on trends: which runs are read, what is drawn and tabulated."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.compute.findings import Findings, find
from analysis.load.axes import choose_axes
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from analysis.render.panels import Area, Line, Points
from analysis.render.section import Section
from analysis.sections.trends import MAX_EPOCHS, trend_section
from analysis.trends import main
from mtl.records import EpochRecord
from mtl.store import Store
from tests.analysis.made_findings import words

# Loss scales of the last epoch: seed -> (depth, segmentation).
ENDS = {"lsb": {0: (1.0, 1.1), 1: (1.0, 1.3)}, "fixed": {0: (1.0, 4.0), 1: (5.0, 1.0)}}


def epochs_of(ends: tuple[float, float], num_epochs: int = 12, **changes: Any) -> list[EpochRecord]:
    """Return records whose loss scales rise in steps of 1 to `ends`, with weights of 1/2."""
    records = []
    for epoch in range(1, num_epochs + 1):
        scales: list[float | None] = [end + num_epochs - epoch for end in ends]
        values: dict[str, Any] = {
            "losses": [2 * s for s in scales if s is not None],
            "weights": [0.5, 0.5],
            "loss_scales": scales,
            "difficulties": None,
        }
        values |= {"learning_rate": 0.1, "metrics": {}, "seconds": 1.0, **changes}
        records.append(EpochRecord(epoch=epoch, **values))
    return records


def fill(store: Store, synthetic: SimpleNamespace) -> dict[tuple[str, int], str]:
    """Finish the grid, write epochs of the runs at equal priorities; (method, seed) -> run id."""
    synthetic.write_plan(store, "priority_grid", synthetic.fill(store))
    ids = {}
    for method, seeds in ENDS.items():
        for seed, ends in seeds.items():
            run_id = synthetic.make_spec(method, 1 / 2, seed).run_id()
            store.write_epochs(run_id, epochs_of(ends))
            ids[method, seed] = run_id
    return ids


def found(store: Store) -> Findings:
    loaded = load_stores([store])
    return find(loaded, choose_axes(loaded.tasks))


def section(store: Store) -> Section:
    made = trend_section(found(store), RunFiles((store,)))
    assert made is not None
    return made


def test_lead_says_how_far_apart_the_scales_end(store, synthetic):
    fill(store, synthetic)
    made = section(store)
    # Medians of (1.1, 1.3) and of (4, 5).
    assert "within a factor of 1.2 (lsb) and 4.5 (fixed)" in made.lead
    even = (
        "They stay within a factor of 2 from epoch 1 on (lsb) and at no time until the end (fixed)."
    )
    assert even in made.lead
    held = {m["method"]: m["largest_over_smallest_loss_scale"] for m in made.values["methods"]}
    assert held["lsb"] == pytest.approx((1.1, 1.3))
    assert held["fixed"] == (4.0, 5.0)


def test_recorded_epochs_are_drawn(store, synthetic):
    fill(store, synthetic)
    made = section(store)
    figure = next(f for f in made.figures if f.name == "trends_loss_scales")
    assert [panel.title for panel in figure.panels] == ["lsb", "fixed"]
    assert [key.text for key in figure.legend] == ["depth", "segmentation"]
    assert len({(key.style.colour, key.style.dash) for key in figure.legend}) == 2
    fixed = figure.panels[1]
    assert fixed.y.is_log
    assert fixed.y.limits == figure.panels[0].y.limits  # methods can be compared by eye
    depth, _ = (mark for mark in fixed.marks if isinstance(mark, Line))
    # Seeds end at 1 and 5: mean 3, band 1 to 5; 11 epochs earlier 11 more.
    assert depth.x == tuple(range(1, 13))
    assert (depth.y[0], depth.y[-1]) == (14.0, 3.0)
    band = next(mark for mark in fixed.marks if isinstance(mark, Area))
    assert band.y[:12] == tuple(5.0 + 12 - e for e in range(1, 13))
    assert band.y[12:] == tuple(1.0 + 12 - e for e in range(12, 0, -1))
    csv = next(t for t in made.tables if t.name == "trends").raw
    assert len(csv) == 2 * 3 * 2 * 12  # methods, quantities, tasks, epochs
    row = csv[(csv["method"] == "fixed") & (csv["quantity"] == "loss_scales")].iloc[0]
    assert (row["mean"], row["lowest"], row["highest"], row["num_seeds"]) == (14, 12, 16, 2)


def test_damaged_and_missing_records_are_named(store, synthetic):
    ids = fill(store, synthetic)
    Path(store.run_folder(ids["lsb", 0]), "epochs.jsonl").write_text("{torn")
    store.write_epochs(ids["fixed", 1], epochs_of((1.0, 2.0), losses=[1.0]))
    text = words(section(store))
    assert f"Run {ids['lsb', 0]} (lsb, seed 0) is not drawn: it has no epoch records" in text
    assert f"Run {ids['fixed', 1]} (fixed, seed 1) is not drawn: epoch 1 does not hold" in text
    assert "differ in their seeds: lsb 1; fixed 0" in text


def test_missing_records_are_named(full_store):
    made = section(full_store)
    assert made.lead.startswith("No epoch records")
    assert "(lsb, seed 0) is not drawn: it has no epoch records" in words(made)
    assert words(made).count("is not drawn") == 4
    assert trend_section(found(full_store), RunFiles()) is None


def test_methods_without_weights_are_named(store, synthetic):
    ids = fill(store, synthetic)
    for seed in (0, 1):
        bare = epochs_of((1.0, 2.0), weights=None, loss_scales=None)
        store.write_epochs(ids["fixed", seed], bare)
    made = section(store)
    losses = next(f for f in made.figures if f.name == "trends_losses")
    assert [panel.title for panel in losses.panels] == ["lsb", "fixed"]
    scales = next(f for f in made.figures if f.name == "trends_loss_scales")
    assert "Not recorded for fixed." in scales.caption


def test_nearest_priorities_stand_in_for_equal_ones(store, synthetic):
    for method, priority in (("lsb", 1 / 3), ("lsb", 1 / 6), ("fixed", 5 / 6)):
        spec = synthetic.make_spec(method, priority, 0)
        synthetic.finish(store, spec, synthetic.depth_and_segmentation(0.5, 0.5))
        store.write_epochs(spec.run_id(), epochs_of((1.0, 2.0)))
    made = section(store)
    text = words(made)
    assert "No finished run has equal priorities; shown are those nearest to it, (1/3, 2/3)" in text
    assert "fixed has no finished run there: it is shown at (5/6, 1/6)" in text
    assert "factor of 5 at (5/6, 1/6) and 2 at (1/3, 2/3)" in made.lead


def test_values_without_a_logarithm_break_the_line(store, synthetic):
    ids = fill(store, synthetic)
    for seed in (0, 1):
        records = epochs_of((1.0, 2.0))
        records[1].loss_scales[0] = 0.0
        store.write_epochs(ids["lsb", seed], records)
    figure = next(f for f in section(store).figures if f.name == "trends_loss_scales")
    assert "1 means of 0 or less" in figure.caption
    marks = figure.panels[0].marks
    assert [mark.x for mark in marks if isinstance(mark, Points)] == [(1.0,)]
    assert [len(mark.x) for mark in marks if isinstance(mark, Line)] == [10, 12]


def test_long_trainings_are_subsampled_in_the_figure(store, synthetic):
    ids = fill(store, synthetic)
    for run_id in ids.values():
        store.write_epochs(run_id, epochs_of((1.0, 2.0), num_epochs=1000))
    made = section(store)
    figure = next(f for f in made.figures if f.name == "trends_loss_scales")
    line = next(mark for mark in figure.panels[0].marks if isinstance(mark, Line))
    assert (len(line.x), line.x[0], line.x[-1]) == (MAX_EPOCHS, 1.0, 1000.0)
    assert f"{MAX_EPOCHS} epochs of each curve are drawn" in figure.caption
    assert len(next(t for t in made.tables if t.name == "trends").raw) == 2 * 3 * 2 * 1000


def test_rounded_equal_priorities_count_as_equal(store, synthetic):
    spec = synthetic.make_spec("lsb", 0.4998, 0)
    synthetic.finish(store, spec, synthetic.depth_and_segmentation(0.5, 0.5))
    store.write_epochs(spec.run_id(), epochs_of((1.0, 2.0)))
    made = section(store)
    assert "are shown at equal ones" in words(made)
    assert "unequal" not in made.lead


def test_command_writes_curves_and_figures(store, synthetic, tmp_path, capsys):
    fill(store, synthetic)
    out = tmp_path / "out"
    assert main([str(store.root), "--out", str(out)]) == 0
    out_text = capsys.readouterr().out
    assert "within a factor of 1.2 (lsb) and 4.5 (fixed)" in out_text
    names = {"trends.csv"}
    names |= {
        f"trends_{quantity}.{form}"
        for quantity in ("loss_scales", "weights", "losses")
        for form in ("svg", "pdf", "png")
    }
    assert {path.name for path in out.iterdir()} == names
    assert f"{len(names)} files" in out_text
    assert (out / "trends_weights.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "following arguments are required"),
        (["nowhere"], 1, "nowhere"),
        (["{store}"], 1, "Expected finished runs"),
        (["{table}"], 1, "Trends need the epoch records of runs, which only a store has"),
    ],
)
def test_command_names_what_is_wrong(
    arguments, status, message, store, synthetic, tmp_path, capsys
):
    store.write_spec(synthetic.make_spec("lsb", 0.5, 0))
    table = tmp_path / "runs.csv"
    table.write_text("method,seed\nlsb,0\n")
    assert main([text.format(store=store.root, table=table) for text in arguments]) == status
    assert message in capsys.readouterr().err
