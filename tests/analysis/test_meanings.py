"""Runs whose metrics mean nothing yet, or different things, cost themselves and no page."""

import pytest

from analysis import pareto, ranking, trends
from analysis.load.runs import load_stores
from analysis.reports import write_reports
from mtl.records import Result
from mtl.spec import RunSpec
from mtl.spec.tasks import DECLARED_TASKS, DeclaredTask, Metric
from mtl.store import Store
from tests.analysis.conftest import depth_and_segmentation, finish, make_spec

OWN = "gone:Mine"
SHARES = (0.25, 0.75)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def own_spec(code: str, priority: float = 0.5) -> RunSpec:
    priorities = (priority, 1 - priority)
    return RunSpec(tasks=("depth", OWN), code={"gone": code * 16}, priorities=priorities)


def fail(store: Store, spec: RunSpec) -> str:
    run_id = store.write_spec(spec)
    store.write_error(run_id, "the ratios lack mae")
    return run_id


def finish_own(store: Store, spec: RunSpec, direction: str, unit: str = "m") -> str:
    own = DeclaredTask(metrics=(Metric("mae", unit, direction),), plotted="mae")
    values = {"depth": {"delta1": 0.8, "rmse": 0.5}, OWN: {"mae": spec.priorities[0]}}
    metrics = {"validation": values, "test": values}
    declared = {"depth": DECLARED_TASKS["depth"], OWN: own}
    run_id = store.write_spec(spec)
    last = (spec.epochs, "last", spec.epochs, metrics, metrics)
    store.write_result(Result(run_id, "done", *last, declared=declared))
    return run_id


def test_failed_own_task_is_a_reason_and_blocks_no_command(store, tmp_path, capsys):
    for method in ("lsb", "fixed"):
        for share in SHARES:
            finish(store, make_spec(method, share, 0), depth_and_segmentation(share, 1 - share))
    fail(store, own_spec("a"))
    fail(store, own_spec("b"))
    root = str(store.root)
    reports = write_reports([store], tmp_path / "out")
    failed = [held for label, held in reports.items() if "gone" in label]
    assert [held.counts for held in failed] == [{"failed": 1}, {"failed": 1}]
    assert all("the ratios lack mae" in held.path.read_text() for held in failed)
    assert reports[""].num_done == 4
    assert ranking.main([root, "--out", str(tmp_path / "ranks")]) == 0
    trends.main([root, "--out", str(tmp_path / "trends")])
    assert "declares" not in capsys.readouterr().err


def test_store_of_failed_runs_alone_is_a_page_of_reasons(store, tmp_path):
    fail(store, own_spec("a"))
    argv = [str(store.root), "--out", str(tmp_path), "--metrics", f"{OWN}=mae"]
    assert pareto.main(argv) == 0
    assert "the ratios lack mae" in (tmp_path / "report.html").read_text()


def test_edited_declaration_stays_apart(store, tmp_path):
    for code, direction in (("a", "min"), ("b", "max")):
        for share in SHARES:
            finish_own(store, own_spec(code, share), direction)
    reports = write_reports([store], tmp_path)
    assert [held.num_done for held in reports.values()] == [4, 2, 2]
    page = reports[""].path.read_text()
    assert "2 sets of settings stay apart: code gone" in page
    assert "what their metrics mean" in page
    assert "higher is better" in reports[f"code.gone={'b' * 16}"].path.read_text()


def test_edit_that_keeps_the_meaning_is_compared(store, tmp_path):
    for code in "ab":
        finish_own(store, own_spec(code), "min")
    assert "stay apart" not in write_reports([store], tmp_path)[""].path.read_text()


def test_two_meanings_within_comparable_runs_exclude_them(store):
    units = zip(SHARES, ("m", "mm"), strict=True)
    done = [finish_own(store, own_spec("a", share), "min", unit) for share, unit in units]
    missing = store.write_spec(own_spec("a"))
    loaded = load_stores([store], [*done, missing])
    assert (loaded.tasks, len(loaded.runs)) == ((), 0)
    assert [state.state for state in loaded.states] == ["excluded", "excluded", "missing"]
    assert "one meaning of gone:Mine mae" in loaded.states[0].reason
