"""A sweep's files in the store: revisions, events, status and the lock."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mtl.errors import StoreError, UsageError
from mtl.store import Store, write_json
from mtl.store.plan_file import read_plan
from sweeps.plan import grid_specs, make_plan
from sweeps.priority_grid import GRID
from sweeps.status.journal import Journal, revisions, sweep_lock, with_declared
from sweeps.status.progress import SweepProgress
from tests.sweeps.played import finish


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def plan_of(num_runs):
    return make_plan("mine", "priority_grid", grid_specs(GRID)[:num_runs])


def test_start_adds_a_revision_unless_it_plans_the_same(store):
    for num_runs in (2, 2, 4, 4, 2):
        plan = plan_of(num_runs)
        with sweep_lock(store, plan.name):
            Journal(store, plan)
    held = revisions(store, "mine", "priority_grid")
    assert [len(revision["run_ids"]) for revision in held] == [2, 4, 2]
    assert held[1]["varies"]["method"] == ["lsb", "fixed"]
    assert held[0]["started"].endswith("+00:00")
    raw = json.loads((store.sweep_folder("mine") / "plan.json").read_text())
    assert (raw["schema"], raw["kind"]) == (1, "priority_grid")


def start(store, plan, asked=None):
    plan = with_declared(store, plan, asked)
    with sweep_lock(store, plan.name):
        Journal(store, plan)
    return read_plan(store, plan.name).primary


def declaring(primary, name="mine", num_runs=4):
    return make_plan(name, "priority_grid", grid_specs(GRID)[:num_runs], primary)


def test_primary_comparison_moves_only_before_there_is_a_result(store):
    assert with_declared(None, declaring(("lsb", "fixed")), None).primary == ("lsb", "fixed")
    assert start(store, declaring(("lsb", "fixed"))) == ("lsb", "fixed")
    assert start(store, declaring(("lsb", "stch")), ("lsb", "stch")) == ("lsb", "stch")
    finish(store, grid_specs(GRID)[0])
    # More methods or seeds, in whatever order: it stays, and naming it again is no move.
    assert start(store, declaring(("fixed", "lsb"), num_runs=8)) == ("lsb", "stch")
    assert start(store, declaring(("lsb", "stch")), ("stch", "lsb")) == ("lsb", "stch")
    with pytest.raises(UsageError, match="1 runs are done, and lsb and stch were declared before"):
        start(store, declaring(("lsb", "fixed")), ("lsb", "fixed"))


def test_results_without_a_declaration_get_none_afterwards(store):
    path = store.sweep_key("mine", "plan.json")
    run_id = finish(store, grid_specs(GRID)[0])
    old = {"schema": 1, "kind": "priority_grid", "revisions": [{"run_ids": [run_id]}]}
    store.write_json(path, old)
    assert start(store, declaring(("lsb", "fixed"))) is None
    assert "primary" not in store.read_json(path)
    with pytest.raises(UsageError, match="none was declared before them"):
        start(store, declaring(("lsb", "fixed")), ("lsb", "fixed"))


def test_new_sweep_over_results_has_what_their_sweeps_declared(store):
    assert start(store, declaring(("lsb", "fixed"))) == ("lsb", "fixed")
    finish(store, grid_specs(GRID)[0])
    assert start(store, declaring(("lsb", "stch"), "more", num_runs=8)) == ("lsb", "fixed")
    with pytest.raises(UsageError, match="Leave it out"):
        start(store, declaring(("lsb", "stch"), "other"), ("lsb", "stch"))
    # A result that no sweep planned was not declared by any.
    finish(store, grid_specs(GRID)[7])
    assert start(store, declaring(("lsb", "fixed"), "again", num_runs=10)) == ("lsb", "fixed")
    finish(store, grid_specs(GRID)[15])
    assert start(store, declaring(("lsb", "fixed"), "all", num_runs=20)) is None


def test_damaged_plan_and_plan_of_another_kind_are_refused(store):
    path = store.sweep_folder("mine") / "plan.json"
    path.parent.mkdir()
    path.write_text('{"schema": 1, "ki')
    with pytest.raises(StoreError, match="damaged"):
        revisions(store, "mine", "priority_grid")
    whole = {"schema": 1, "kind": "priority_grid", "revisions": []}
    for held, got, remedy in (
        ({"schema": 2}, "schema 2", "Use the release that wrote it."),
        ([], "a damaged file", "Remove the file and start the sweep again."),
        (whole | {"tuned": "x"}, "another", "Remove the file and start"),
    ):
        write_json(path, held)
        with pytest.raises(StoreError, match=f"Expected a plan .*got {got}.* {remedy}"):
            revisions(store, "mine", "priority_grid")
    write_json(path, {"schema": 1, "kind": "increase_rate", "revisions": []})
    with pytest.raises(ValueError, match="--name"):
        revisions(store, "mine", "priority_grid")


def test_event_after_a_torn_line_is_whole(store):
    with sweep_lock(store, "mine"):
        journal = Journal(store, plan_of(1))
    journal.event("started", num_runs=1)
    path = store.sweep_folder("mine") / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"time": "2026')
    journal.event("stopped", signal="SIGINT")
    lines = path.read_text().splitlines()
    assert [json.loads(lines[i])["event"] for i in (0, 1)] == ["started", "stopped"]


def test_status_is_rate_limited_but_for_the_end(store):
    now = [0.0]
    plan = plan_of(2)
    with sweep_lock(store, "mine"):
        journal = Journal(store, plan, clock=lambda: now[0])
    runs = dict(zip(plan.run_ids, plan.specs, strict=True))
    progress = SweepProgress(runs, expected={}, slots=1, clock=lambda: now[0])
    path = store.sweep_folder("mine") / "status.json"

    def status():
        return json.loads(path.read_text())

    journal.status(progress.snapshot(), "running")
    progress.start(plan.run_ids[0])
    progress.epoch(plan.run_ids[0], 1, [0.5, None])
    now[0] = 1.0
    journal.status(progress.snapshot(), "running")
    assert status()["running"] == []
    now[0] = 2.0
    journal.status(progress.snapshot(), "running")
    assert status()["running"] == [{"run_id": plan.run_ids[0], "epoch": 1, "losses": [0.5, None]}]
    assert (status()["total"], status()["waiting"], status()["state"]) == (2, 1, "running")
    journal.status(progress.snapshot(), "stopped", now=True)
    assert status()["state"] == "stopped"


HOLD = """
import sys
from dataclasses import replace
from mtl.store import Store
from sweeps.status.journal import sweep_lock
with sweep_lock(Store(sys.argv[1]), "mine"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_driver_is_refused_until_the_first_is_gone(store):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=f"process {other.pid} on"),
            sweep_lock(store, "mine"),
        ):
            pass
        with sweep_lock(store, "another"):
            pass
        other.kill()
    with sweep_lock(store, "mine"):
        pass


def test_search_has_one_revision_that_grows(store):
    def searched(num_runs):
        return replace(plan_of(num_runs), tuned=("optimizer.learning_rate",))

    with sweep_lock(store, "mine"):
        Journal(store, plan_of(1))
        journal = Journal(store, searched(0), reported=False)
        for num_runs in (2, 5):
            journal.replan(searched(num_runs))
        Journal(store, searched(3))
    held = revisions(store, "mine", "priority_grid")
    assert [len(revision["run_ids"]) for revision in held] == [1, 5, 3]
    assert [revision.get("reported", True) for revision in held] == [True, False, True]
    raw = json.loads((store.sweep_folder("mine") / "plan.json").read_text())
    assert raw["tuned"] == ["optimizer.learning_rate"]
    assert read_plan(store, "mine").reported == list(plan_of(3).run_ids)
