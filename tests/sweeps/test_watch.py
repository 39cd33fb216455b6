"""The watcher: from files alone, with the age of what it says, whatever the files hold."""

import io
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from mtl.errors import StoreUnreachableError
from mtl.store import Store
from sweeps import watch
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.status import watcher as looks
from sweeps.status.watcher import View, Watcher
from sweeps.watch import main, watch_lines, watch_live
from tests.s3_server import Proxy, S3Server
from tests.sweeps import played

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SPECS = grid_specs(GRID)
IDS = [spec.run_id() for spec in SPECS]
PRIOR = {"depth": {"delta1": 0.5}, "segmentation": {"miou": 0.2}}
DAMAGED_FILES = [
    "", "[]", "{}", '{"schema": 2}', "x" * 100, '{"schema": 1, "state": 5, "updated": "x"}',
]  # fmt: skip
STRANGE_VALUES = [
    {"updated": "yesterday"},
    {"updated": "0001-01-01T00:00:00+23:59"},
    {"running": [{"run_id": "../../etc", "epoch": 1}]},
    {"running": [{"run_id": IDS[4], "epoch": 1, "losses": [10**400, "x\x1b[2J"]}]},
    {"running": [{"run_id": "f" * 16, "epoch": 1, "losses": 5}]},
    {"running": [{"run_id": IDS[4], "epoch": 10**4000}]},
    {"expected_seconds_left": [None, None]},
    {"state": "\x1b[2J" * 50},
    {"done": 10**300},
    {"paused": "\x1b[2J"},
]
"""Of a status."""
LSB = [index for index, spec in enumerate(SPECS) if spec.method == "lsb" and spec.seed == 0]


def finish(store: Store, index: int, delta1: float, miou: float) -> None:
    """Write a run that is done, with these metrics on validation."""
    metrics = {
        "validation": {"depth": {"delta1": delta1}, "segmentation": {"miou": miou}},
        "test": {"depth": {"delta1": 0.99}, "segmentation": {"miou": 0.99}},
    }
    run_id = played.finish(store, SPECS[index], metrics)
    store.write_manifest(run_id, {"per_pixel_prior": {"validation": PRIOR, "test": PRIOR}})


def write_status(store: Store, seconds_ago: float = 3.0, **changes: object) -> None:
    """Write the plan and the status of the sweep `mine`, which is running."""
    revision = {"started": "x", "run_ids": IDS, "varies": {}}
    plan = {"schema": 1, "kind": "priority_grid", "revisions": [revision]}
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    status = {
        "schema": 1, "updated": (NOW - timedelta(seconds=seconds_ago)).isoformat(),
        "state": "running", "total": 20, "done": 4, "failed": 1, "waiting": 14,
        "running": [{"run_id": IDS[4], "epoch": 2, "losses": [0.5, None]}],
        "expected_seconds_left": [103.0, 203.0],
    }  # fmt: skip
    store.write_json(store.sweep_key("mine", "status.json"), status | changes)


def fill(store: Store) -> Store:
    """Write a sweep of six specs, of which one is running."""
    for spec in SPECS[:6]:
        store.write_spec(spec)
    write_status(store)
    return store


@pytest.fixture
def store(tmp_path) -> Store:
    return fill(Store(tmp_path / "store"))


def seen(store: Store) -> View:
    return Watcher(store, "mine", lambda: NOW).see()


def text(store: Store) -> str:
    return "\n".join(seen(store).lines())


def test_counts_time_left_and_running_runs_are_shown(store):
    assert seen(store).lines()[:2] == [
        "mine: running, status 3 s old",
        # Three seconds have gone since the status was written.
        "4 of 20 done, 1 running, 1 failed, about 1 min 40 s to 3 min 20 s left",
    ]
    assert "2 of 16  depth 0.5  segmentation absent" in seen(store).lines()[2]


@pytest.mark.parametrize("state", ["running", "preparing"])
def test_driver_that_is_silent_seems_gone(store, state):
    write_status(store, seconds_ago=59, state=state)
    assert "gone" not in text(store)
    write_status(store, seconds_ago=61, state=state)
    assert "status 1 min 1 s old; its driver seems gone" in text(store)
    told = seen(store).to_json()
    assert (told["state"], told["running"], told["waiting"]) == ("gone", 0, 15)
    assert (told["seconds_left"], told["runs"]) == (None, [])
    write_status(store, seconds_ago=1e6, state="stopped")
    assert "gone" not in text(store)


def test_runs_that_cannot_be_read_are_not_called_undone(store, monkeypatch):
    write_status(store, done=20)
    error = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Store, "run_ids", lambda _: (_ for _ in ()).throw(error))
    view = seen(store)
    assert view.fronts == ("Hypervolume: the runs cannot be read (Permission denied).",)


def test_hypervolume_is_that_of_the_validation_split(store):
    # lsb: (0.7, 0.3) and (0.6, 0.4) over (0.59, 0.29), the worst moved by a tenth of the range:
    # 0.11 x 0.01 + 0.01 x (0.11 - 0.01) = 0.0021; fixed has one point.
    fixed = next(index for index, spec in enumerate(SPECS) if spec.method == "fixed")
    assert seen(store).fronts == ("Hypervolume: no result can be read yet.",)
    finish(store, LSB[0], 0.7, 0.3)
    finish(store, LSB[1], 0.6, 0.4)
    finish(store, fixed, 0.6, 0.3)
    (line,) = seen(store).fronts
    assert "lsb 0.0021 (2 points); fixed: 1 point, too few." in line
    assert "Reference: depth delta1 59.00 %, segmentation miou 29.00 %." in line


def test_search_is_one_front_though_its_learning_rates_differ(store):
    rates = {"lsb": 1e-3, "fixed": 3e-3}
    specs = [
        replace(spec, optimizer=replace(spec.optimizer, learning_rate=rates[spec.method]))
        for spec in SPECS
        if spec.seed == 0
    ]
    for number, spec in enumerate(specs):
        value = 0.6 + number / 100
        metrics = {"depth": {"delta1": value}, "segmentation": {"miou": value}}
        played.finish(store, spec, {"validation": metrics, "test": metrics})
    revision = {"started": "x", "run_ids": [s.run_id() for s in specs], "varies": {}}
    plan = {"schema": 1, "kind": "pareto_search", "revisions": [revision | {"reported": False}]}
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    assert len(seen(store).fronts) == 2  # as files of earlier releases have it
    plan |= {"tuned": ["optimizer.learning_rate"]}
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    (line,) = seen(store).fronts
    assert line.count("(5 points)") == 2
    write_status(store, undecided=6)
    assert seen(store).lines()[1].startswith("4 of at most 20 done")


def test_fronts_are_computed_again_only_when_more_runs_are_done(store, monkeypatch):
    computed = []
    front_lines = looks.front_lines
    monkeypatch.setattr(looks, "front_lines", lambda *a: computed.append(1) or front_lines(*a))
    watcher = Watcher(store, "mine", lambda: NOW)
    first = watcher.see()
    assert (watcher.see(), len(computed)) == (first, 1)
    finish(store, 0, 0.7, 0.3)
    write_status(store, done=5)
    assert "1 point" in watcher.see().fronts[0]
    assert len(computed) == 2
    # Of many runs each new one would cost a look at all.
    counts = []
    for done, state in ((100, "running"), (102, "running"), (103, "running"), (104, "finished")):
        write_status(store, done=done, state=state)
        watcher.see()
        counts.append(len(computed))
    assert counts == [3, 3, 4, 5]


@pytest.mark.parametrize("content", DAMAGED_FILES)
def test_damaged_file_is_said_to_be_damaged(store, content):
    store.write(store.sweep_key("mine", "status.json"), content.encode())
    assert seen(store).state == "unreadable"
    assert seen(store).headline.startswith("mine: status.json cannot be read: ")
    store.write(store.sweep_key("mine", "plan.json"), content.encode())
    assert "plan.json" in seen(store).headline


@pytest.mark.parametrize("changes", STRANGE_VALUES)
def test_strange_values_crash_nothing_and_reach_no_terminal(store, changes):
    write_status(store, **changes)
    store.write(store.run_key(IDS[5], "result.json"), b'{"schema": 1}')
    view = seen(store)
    assert "\x1b" not in "\n".join(view.lines())
    Console(file=io.StringIO(), width=100).print(view.drawing())


def test_strange_result_is_no_traceback(store):
    finish(store, 0, 0.7, 0.3)
    for index, metrics in enumerate(({"validation": {"depth": {"delta1": 10**400}}}, [], "x"), 1):
        finish(store, index, 0.6, 0.3)
        key = store.run_key(IDS[index], "result.json")
        store.write_json(key, store.read_json(key) | {"selected_metrics": metrics})
    (line,) = seen(store).fronts
    assert line.startswith("Hypervolume")


def test_sweep_that_was_written_last_is_watched(store, capsys):
    for name, updated in (("earlier", "2025-12-31T00:00:00+00:00"), ("broken", 5)):
        plan = store.read_json(store.sweep_key("mine", "plan.json"))
        store.write_json(store.sweep_key(name, "plan.json"), plan)
        status = store.read_json(store.sweep_key("mine", "status.json"))
        store.write_json(store.sweep_key(name, "status.json"), status | {"updated": updated})
    status["updated"] = "2026-01-01T11:59:57+00:00"
    store.write_json(store.sweep_key("broken", "status.json"), status | {"updated": ""})
    assert main([str(store.root), "--once"]) == 0
    assert capsys.readouterr().out.startswith("mine: ")


def test_lines_show_news_and_end_with_the_sweep(store, monkeypatch):
    ages = iter([3, 5, 7, 70, 90])
    slept = []

    def play(seconds):
        slept.append(seconds)
        if len(slept) < 5:
            write_status(store, seconds_ago=next(ages))
        else:
            write_status(store, state="finished", done=20, failed=0, waiting=0, running=[])

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


def test_live_table_ends_with_the_sweep(store, monkeypatch):
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
        (["SWEEP"], 1, "the store it lies in"),
    ],
)
def test_bad_input_is_one_sentence(argv, status, says, store, tmp_path, capsys):
    places = {
        "STORE": str(store.root),
        "NOWHERE": str(tmp_path / "nowhere"),
        "SWEEP": str(store.sweep_folder("mine")),
    }
    assert main([places.get(text, text) for text in argv]) == status
    captured = capsys.readouterr()
    assert says in captured.err
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)


def test_store_without_sweeps_is_one_sentence(tmp_path, capsys):
    Store(tmp_path / "empty")
    assert main([str(tmp_path / "empty"), "--once"]) == 1
    assert "Expected a sweep in" in capsys.readouterr().err


@pytest.fixture
def remote(s3_address: str) -> Store:
    return fill(Store(s3_address))


def test_object_storage_is_watched_like_a_folder(store, remote):
    for each in (store, remote):
        finish(each, LSB[0], 0.7, 0.3)
        finish(each, LSB[1], 0.6, 0.4)
    assert seen(remote) == seen(store)
    assert "lsb 0.0021 (2 points)" in seen(remote).fronts[0]
    for each in (store, remote):
        each.remove(each.sweep_key("mine", "status.json"))
    assert seen(remote) == seen(store)
    assert seen(remote).headline == "mine: 20 runs planned, none begun"


def test_lost_connection_is_waited_for(remote, s3_server: S3Server, monkeypatch):
    monkeypatch.setattr("mtl.store.objects.RETRY_PAUSES", (0.0,))
    proxy = Proxy(s3_server.port)
    address = remote.address.replace(str(s3_server.port), str(proxy.port))
    watcher = Watcher(Store(address, create=False), "mine", lambda: NOW)
    proxy.bytes_left = 0
    with pytest.raises(StoreUnreachableError):
        watcher.see()
    proxy.bytes_left = None
    slept = []

    def play(seconds: float) -> None:
        if seconds != 7.0:  # the pause before a try
            return
        slept.append(seconds)
        proxy.bytes_left = 0 if len(slept) < 3 else None
        write_status(remote, state="finished", running=[])

    monkeypatch.setattr(watch.time, "sleep", play)
    stream = io.StringIO()
    watch_lines(watcher.see, 7.0, stream)
    said = [line for line in stream.getvalue().splitlines() if line.startswith("mine: ")]
    assert len(said) == 3  # that nothing answers is said once
    assert said[0].startswith("mine: running")
    assert said[1].startswith("mine: as it was when last seen. s3://bucket/")
    assert said[2].startswith("mine: finished")
    proxy.close()


def test_command_shows_no_credentials(remote, s3_server: S3Server, capsys):
    address = remote.address.replace("s3://", "s3://someone:open%2Fsesame@")
    assert main([address, "--once"]) == 0
    assert "4 of 20 done" in capsys.readouterr().out
    bad = s3_server.address("nothing/here").replace("s3://", "s3://someone:open%2Fsesame@")
    for argv, status in (([bad], 1), ([address, "--name", "absent"], 2), (["s3://"], 1)):
        assert main(argv) == status
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert not any(secret in said.err for secret in ("someone", "sesame"))
