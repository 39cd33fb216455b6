"""The watcher: from files alone, with the age of what it says, whatever the files hold."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from mtl.records import Result
from mtl.store import Store, write_json
from sweeps import watch
from sweeps.watch import (
    HypervolumeSoFar,
    drawing,
    look,
    main,
    newest_sweep,
    watch_lines,
    watch_live,
)
from tests.sweeps.watched import (
    DAMAGED_FILES,
    IDS,
    NOW,
    SPECS,
    STRANGE_VALUES,
    finish,
    record,
    write_status,
)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    for spec in SPECS[:6]:
        store.write_spec(spec)
    write_status(store)
    return store


def seen(store: Store):
    return look(store, "mine", HypervolumeSoFar(store), NOW)


def test_counts_time_left_and_the_runs_under_way(store):
    view = seen(store)
    assert view.headline == "mine: running, status 3 s old"
    # Three seconds have gone since the status was written.
    assert view.counts == (
        "4 of 20 done, 1 running, 1 failed, 14 waiting, about 1 min 40 s to 3 min 20 s left"
    )
    assert view.rows[0].cells()[-2:] == ("2 of 16", "depth 0.5  segmentation absent")
    # The run's own records are newer than the status.
    store.write_epochs(IDS[4], [record(epoch) for epoch in (1, 2, 3)])
    assert seen(store).rows[0].cells()[-2:] == ("3 of 16", "depth 0.25  segmentation absent")


@pytest.mark.parametrize("state", ["running", "preparing"])
def test_a_driver_that_is_silent_seems_gone(store, state):
    write_status(store, seconds_ago=59, state=state)
    assert "gone" not in seen(store).headline
    write_status(store, seconds_ago=61, state=state)
    view = seen(store)
    assert "status 1 min 1 s old; its driver seems gone" in view.headline
    assert "1 were running" in view.counts
    assert "left" not in view.counts
    write_status(store, seconds_ago=1e6, state="stopped")
    assert "gone" not in seen(store).headline


def test_hypervolume_by_hand_on_validation_and_too_few_points_said(store):
    # lsb: (0.7, 0.3) and (0.6, 0.4) over the prior (0.5, 0.2):
    # 0.2 x 0.1 + 0.1 x (0.2 - 0.1) = 0.03; fixed has one point.
    lsb = [index for index, spec in enumerate(SPECS) if spec.method == "lsb" and spec.seed == 0]
    fixed = next(index for index, spec in enumerate(SPECS) if spec.method == "fixed")
    assert seen(store).fronts == ("Hypervolume: no run is done yet.",)
    finish(store, lsb[0], 0.7, 0.3)
    finish(store, lsb[1], 0.6, 0.4)
    finish(store, fixed, 0.6, 0.3)
    (line,) = seen(store).fronts
    assert "lsb 0.03 (2 points); fixed: 1 point, too few." in line
    assert "Reference: depth_delta1 50.0 %, segmentation_miou 20.0 %." in line
    assert "per-pixel prior" in line


def test_a_search_is_one_front_though_its_learning_rates_differ_and_its_total_a_bound(store):
    folder = store.sweep_folder("mine")
    rates = {"lsb": 1e-3, "fixed": 3e-3}
    specs = [
        replace(spec, optimizer=replace(spec.optimizer, learning_rate=rates[spec.method]))
        for spec in SPECS
        if spec.seed == 0
    ]
    for number, spec in enumerate(specs):
        value = 0.6 + number / 100
        metrics = {"depth": {"delta1": value}, "segmentation": {"miou": value}}
        result = Result(
            store.write_spec(spec), "done", spec.epochs, "last", spec.epochs,
            {"validation": metrics, "test": metrics}, {"validation": metrics, "test": metrics},
        )  # fmt: skip
        store.write_result(result)
    revision = {"started": "x", "run_ids": [s.run_id() for s in specs], "varies": {}}
    plan = {"schema": 1, "kind": "pareto_search", "revisions": [revision | {"reported": False}]}
    write_json(folder / "plan.json", plan)
    assert len(seen(store).fronts) == 2  # as files of earlier releases have it
    write_json(folder / "plan.json", plan | {"tuned": ["optimizer.learning_rate"]})
    (line,) = seen(store).fronts
    assert line.count("(5 points)") == 2
    write_status(store, undecided=6)
    assert seen(store).counts.startswith("4 of at most 20 done")


def test_each_finished_run_is_read_once(store, monkeypatch):
    finish(store, 0, 0.7, 0.3)
    fronts = HypervolumeSoFar(store)
    first = fronts.lines(IDS)
    asked = []
    monkeypatch.setattr("sweeps.watch.read_result", lambda folder: asked.append(folder.name))
    assert fronts.lines(IDS) == first
    assert asked == IDS[1:]


@pytest.mark.parametrize("content", DAMAGED_FILES)
def test_damaged_files_are_said_to_be_so(store, content):
    folder = store.sweep_folder("mine")
    (folder / "status.json").write_text(content)
    assert seen(store).state == "unreadable"
    (folder / "plan.json").write_text(content)
    assert "plan.json" in seen(store).headline


@pytest.mark.parametrize("changes", STRANGE_VALUES)
def test_strange_values_crash_nothing_and_reach_no_terminal(store, changes):
    write_status(store, **changes)
    (store.run_folder(IDS[5]) / "result.json").write_text('{"schema": 1}')
    view = seen(store)
    assert "\x1b" not in view.headline + view.body
    Console(file=io.StringIO(), width=100).print(drawing(view))


def test_a_strange_result_is_left_out_of_the_fronts(store):
    finish(store, 0, 0.7, 0.3)
    for index, metrics in enumerate(({"validation": {"depth": {"delta1": 10**400}}}, [], "x"), 1):
        finish(store, index, 0.6, 0.3)
        path = store.run_folder(IDS[index]) / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"selected_metrics": metrics}))
    (line,) = seen(store).fronts
    assert line.startswith("Hypervolume on validation: ")


def test_the_sweep_that_was_active_last_is_taken(store):
    other = store.sweep_folder("other")
    other.mkdir()
    (other / "status.json").write_text("{}")
    os.utime(other / "status.json", (1, 1))
    (store.root / "sweeps" / "linked").symlink_to(other)
    (store.root / "sweeps" / "\x1b[2J").mkdir()  # no name that a sweep can have
    (store.root / "sweeps" / "\x1b[2J" / "plan.json").write_text("{}")
    assert newest_sweep(store) == "mine"
    os.utime(other / "status.json", (4e9, 4e9))
    assert newest_sweep(store) == "other"


def test_lines_tell_what_is_new_and_end_with_the_sweep(store, monkeypatch):
    ages = iter([3, 5, 7, 70, 90])
    slept = []

    def play(seconds):
        slept.append(seconds)
        if len(slept) < 5:
            write_status(store, seconds_ago=next(ages), expected_seconds_left=[0, 0])
        else:
            write_status(store, state="finished", done=20, waiting=0, running=[])

    play(0)
    monkeypatch.setattr(watch.time, "sleep", play)
    stream = io.StringIO()
    watch_lines(lambda: seen(store), 7.0, stream)
    headlines = [line for line in stream.getvalue().splitlines() if line.startswith("mine: ")]
    # Ages 3, 5 and 7 are one piece of news, and so is silence.
    assert headlines[0] == "mine: running, status 3 s old"
    assert "1 min 10 s old; its driver seems gone" in headlines[1]
    assert headlines[2].startswith("mine: finished")
    assert len(headlines) == 3
    assert slept[1:] == [7.0] * 4


def test_the_live_table_ends_with_the_sweep(store, monkeypatch):
    def play(seconds):
        write_status(store, state="finished", running=[])

    monkeypatch.setattr(watch.time, "sleep", play)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    watch_live(lambda: seen(store), 2.0, console)
    assert "running, status" in console.file.getvalue()
    assert "finished" in console.file.getvalue()


def test_one_look_writes_nothing_and_needs_no_torch(store):
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['ray'] = None\n"
        "from sweeps.watch import main\n"
        "sys.exit(main([sys.argv[1], '--once']))"
    )
    argv = [sys.executable, "-W", "error", "-c", code, str(store.root)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "4 of 20 done" in ran.stdout
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        ([], 2, "required"),
        (["STORE", "--name", "absent"], 2, "one of the sweeps mine"),
        (["STORE", "--name", "../x"], 2, "Expected a sweep name"),
        (["STORE", "--interval", "0"], 2, "--interval from 0.1"),
        (["STORE", "--interval", "nan"], 2, "--interval from 0.1"),
        (["NOWHERE"], 1, "holds no store.json"),
    ],
)
def test_bad_input_is_one_sentence(argv, status, says, store, tmp_path, capsys):
    places = {"STORE": str(store.root), "NOWHERE": str(tmp_path / "nowhere")}
    assert main([places.get(text, text) for text in argv]) == status
    captured = capsys.readouterr()
    assert says in captured.err
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)


def test_a_store_without_sweeps(tmp_path, capsys):
    Store(tmp_path / "empty")
    assert main([str(tmp_path / "empty"), "--once"]) == 1
    assert "Expected a sweep in" in capsys.readouterr().err
