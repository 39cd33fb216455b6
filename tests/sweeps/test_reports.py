"""Reports at the end of a sweep: runs that may be compared stand together, others apart."""

from pathlib import Path

import pytest

from mtl.records import Result
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.plan import make_plan
from sweeps.reports import write_reports


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
    assert "epochs=7\nmethod" in capsys.readouterr().out


def test_no_report_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan("grid", "priority_grid", [])
    assert not write_reports(Store(tmp_path / "store"), plan)
    assert capsys.readouterr().err.startswith("No report: Expected at least one run")
