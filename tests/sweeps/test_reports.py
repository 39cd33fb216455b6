"""Reports at the end of a sweep: runs that may be compared stand together, others apart."""

from dataclasses import replace

from mtl.store import Store
from sweeps import weighting_methods
from sweeps.command import write_reports
from sweeps.plan import grid_specs, make_plan
from tests.sweeps.played import finish


def test_first_page_compares_architectures_and_each_has_a_report(tmp_path, capsys):
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
        finish(store, spec, metrics)
    assert write_reports(store, plan)
    folder = store.sweep_folder("methods") / "report"
    assert {path.parent.name for path in folder.glob("*/report.html")} == {
        "tasks=depth+segmentation,network.architecture=full_sharing",
        "tasks=depth+segmentation,network.architecture=mtan",
        "tasks=depth,network.architecture=single_task",
        "tasks=segmentation,network.architecture=single_task",
    }
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["architecture", "method"]
    assert [line.split()[:2] for line in lines[1:7]] == [
        [name, method] for name in ("full_sharing", "mtan") for method in ("lsb", "equal", "gls")
    ]
    assert lines[7].startswith("any           single-task networks")
    assert "Delta_m (%)" in lines[0]
    assert lines[-1] == f"Report: {folder / 'report.html'}"
    for name in ("settings", "best", "differences"):
        assert (folder / "tables" / f"{name}.csv").is_file()
        assert (folder / "tables" / f"{name}.tex").is_file()


def test_report_that_fails_is_a_sentence_and_no_wrong_usage(tmp_path, capsys, monkeypatch):
    store, plan = Store(tmp_path / "store"), make_plan("grid", "priority_grid", [])
    assert not write_reports(store, plan)
    assert capsys.readouterr().err.startswith("No report: Expected at least one run")

    def fail(*_: object, **__: object) -> None:
        raise ValueError("Expected a number, got none. Leave it out.")

    monkeypatch.setattr("analysis.reports.write_reports", fail)
    assert not write_reports(store, plan)
    assert capsys.readouterr().err == "No report: Expected a number, got none. Leave it out.\n"
