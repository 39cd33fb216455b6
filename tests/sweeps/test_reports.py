"""Reports at the end of a sweep: runs that may be compared stand together, others apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtl.records import Result
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps import weighting_methods
from sweeps.command import write_reports
from sweeps.plan import grid_specs, make_plan


def grid(**changes: object) -> list[RunSpec]:
    return [
        RunSpec.from_dict({"method": method, "priorities": [p, 1 - p], "seed": seed, **changes})
        for method in ("lsb", "fixed")
        for p in (0.25, 0.75)
        for seed in (0, 1)
    ]


def test_each_group_gets_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    plan = make_plan("grid", "priority_grid", [*grid(), *grid(epochs=7)])
    for number, spec in enumerate(plan.specs):
        run_id = store.write_spec(spec)
        value = 0.5 + number / 100
        metrics = {
            split: {
                "depth": {"delta1": value, "rmse": 1.0, "abs": 1.0, "rel": 1.0},
                "segmentation": {"miou": value, "pixel_accuracy": value},
            }
            for split in ("validation", "test")
        }
        store.write_result(
            Result(
                run_id=run_id, status="done", epochs=spec.epochs, selection="last",
                selected_epoch=spec.epochs, selected_metrics=metrics, final_metrics=metrics,
            )
        )  # fmt: skip
    assert write_reports(store, plan)
    folder = store.sweep_folder("grid") / "report"
    pages = sorted(path.relative_to(folder).parts[0] for path in folder.rglob("report.html"))
    assert pages == ["epochs=1000", "epochs=7", "report.html"]
    assert "depth and segmentation, epochs 7\nmethod" in capsys.readouterr().out


def test_baselines_have_reports_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = replace(
        weighting_methods.GRID,
        task_sets=(("depth", "segmentation"),),
        methods=("lsb", "equal", "gls"),
        seeds=2,
        axes={"network.architecture": ("full_sharing", "mtan")},
    )
    store = Store(tmp_path / "store")
    plan = make_plan("methods", "weighting_methods", grid_specs(table))
    assert len(plan.specs) == 2 * 3 * 2 + 2 * 2
    for number, spec in enumerate(plan.specs):
        value = 0.5 + number / 100
        held = {"depth": {"delta1": value}, "segmentation": {"miou": value}}
        metrics = {s: {t: held[t] for t in spec.tasks} for s in ("validation", "test")}
        store.write_result(
            Result(
                store.write_spec(spec), "done", spec.epochs, "last", spec.epochs, metrics, metrics
            )
        )
    assert write_reports(store, plan)
    folder = store.sweep_folder("methods") / "report"
    assert {path.parent.name for path in folder.glob("*/report.html")} == {
        "tasks=depth+segmentation,network.architecture=full_sharing",
        "tasks=depth+segmentation,network.architecture=mtan",
        "tasks=depth,network.architecture=single_task",
        "tasks=segmentation,network.architecture=single_task",
    }
    assert "gls" in capsys.readouterr().out


def test_no_report_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan("grid", "priority_grid", [])
    assert not write_reports(Store(tmp_path / "store"), plan)
    assert capsys.readouterr().err.startswith("No report: Expected at least one run")


def test_a_report_that_fails_after_the_training_is_no_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Expected a number, got none. Leave it out.")

    monkeypatch.setattr("analysis.report.write_reports", fail)
    assert not write_reports(Store(tmp_path / "store"), make_plan("grid", "priority_grid", []))
    assert capsys.readouterr().err == "No report: Expected a number, got none. Leave it out.\n"
