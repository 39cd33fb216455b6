"""The watcher on object storage: what it says on a folder, with few requests a look."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mtl.errors import StoreUnreachableError
from mtl.store import Store, objects
from mtl.store.objects import ObjectStorage
from sweeps.watch import (
    HypervolumeSoFar,
    View,
    Watcher,
    drawing,
    look,
    main,
    newest_sweep,
    watch_lines,
)
from tests.s3_server import Proxy, S3Server
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

LSB = [index for index, spec in enumerate(SPECS) if spec.method == "lsb" and spec.seed == 0]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_PAUSES", (0.0,))


def fill(store: Store) -> Store:
    """Write a sweep of which two runs are done and one is under way."""
    for spec in SPECS[:6]:
        store.write_spec(spec)
    write_status(store, done=2)
    finish(store, LSB[0], 0.7, 0.3)
    finish(store, LSB[1], 0.6, 0.4)
    store.write_epochs(IDS[4], [record(epoch) for epoch in (1, 2, 3)])
    return store


@pytest.fixture
def store(s3_address: str) -> Store:
    return fill(Store(s3_address))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect what is asked of object storage."""
    asked: list[str] = []
    call = ObjectStorage._call

    def counted(self: ObjectStorage, doing: str, key: str, action: object) -> object:
        asked.append(f"{doing} {key}")
        return call(self, doing, key, action)

    monkeypatch.setattr(ObjectStorage, "_call", counted)
    return asked


def seen(store: Store, fronts: HypervolumeSoFar | None = None) -> View:
    return look(store, "mine", fronts or HypervolumeSoFar(store), NOW)


def test_a_look_is_that_of_a_folder(store: Store, tmp_path: Path) -> None:
    view = seen(store)
    assert view == seen(fill(Store(tmp_path / "store")))
    assert view.rows[0].cells()[-2:] == ("3 of 16", "depth 0.25  segmentation absent")
    assert "lsb 0.03 (2 points)" in view.fronts[0]


def test_a_look_asks_for_what_may_have_changed_alone(store: Store, requests: list[str]) -> None:
    fronts = HypervolumeSoFar(store)
    seen(store, fronts)
    key = "sweeps/mine"
    # Once: whether each of 20 runs is done, the two that are, and the spec of the one under way.
    assert sum(text.endswith("result.json") for text in requests) == 20
    assert sum(text.endswith("spec.json") for text in requests) == 3
    requests.clear()
    seen(store, fronts)
    assert requests == [
        f"read {key}/plan.json",
        f"read {key}/status.json",
        f"read runs/{IDS[4]}/epochs.jsonl/000001.jsonl",
    ]


def test_a_run_that_ended_is_asked_alone(store: Store, requests: list[str]) -> None:
    fronts = HypervolumeSoFar(store)
    seen(store, fronts)
    finish(store, 4, 0.5, 0.5)
    write_status(store, done=3, running=[])
    requests.clear()
    view = seen(store, fronts)
    assert requests[2:] == [f"read runs/{IDS[4]}/{name}.json" for name in ("result", "manifest")]
    assert view == seen(store)


def test_a_run_that_came_and_went_between_two_looks_is_found(store: Store) -> None:
    fronts = HypervolumeSoFar(store)
    seen(store, fronts)
    finish(store, 4, 0.5, 0.5)
    finish(store, LSB[2], 0.8, 0.25)
    # Two more are done than before, but only one was seen under way.
    write_status(store, done=4, running=[])
    assert seen(store, fronts) == seen(store)
    assert "(3 points)" in seen(store, fronts).fronts[0]


@pytest.mark.parametrize(
    ("told", "written", "shown"),
    [(99, 100, 100), (100, 100, 100), (100, 130, 130), (129, 130, 130), (130, 120, 130),
     (10**9, 1, 10**9)],
)  # fmt: skip
def test_the_newest_epoch_is_found_in_its_segment(
    told: int, written: int, shown: int, store: Store
) -> None:
    store.write_epochs(IDS[4], [record(epoch) for epoch in range(1, written + 1)])
    write_status(store, running=[{"run_id": IDS[4], "epoch": told, "losses": [0.5, 0.5]}])
    assert seen(store).rows[0].epoch == shown


@pytest.mark.parametrize("content", DAMAGED_FILES)
def test_damaged_files_are_said_to_be_so(content: str, store: Store, tmp_path: Path) -> None:
    local = fill(Store(tmp_path / "store"))
    for name in ("status.json", "plan.json"):
        for each in (store, local):
            each.write(each.sweep_key("mine", name), content.encode())
        assert seen(store) == seen(local)
        assert (seen(store).state, name in seen(store).headline) == ("unreadable", True)


def test_strange_values_crash_nothing_and_reach_no_terminal(store: Store, tmp_path: Path) -> None:
    local = fill(Store(tmp_path / "store"))
    for each in (store, local):
        each.write(each.run_key(IDS[5], "result.json"), b'{"schema": 1}')
        each.write(each.run_key(IDS[LSB[1]], "spec.json"), b'{"a": ' * 5000)
    for changes in STRANGE_VALUES:
        for each in (store, local):
            write_status(each, **changes)
        view = seen(store)
        assert view == seen(local)
        assert "\x1b" not in view.headline + view.body
        Console(file=io.StringIO(), width=100).print(drawing(view))


def test_a_status_that_is_too_large_is_not_read(store: Store) -> None:
    store.write(store.sweep_key("mine", "status.json"), bytes(64_000_001))
    assert seen(store).headline == ("mine: status.json has 64.0 MB, more than such a file can have")
    store.remove(store.sweep_key("mine", "status.json"))
    assert seen(store).headline == "mine: 20 runs planned, none begun"
    store.remove(store.sweep_key("mine", "plan.json"))
    assert seen(store).headline == "mine: plan.json is absent"


def test_only_runs_that_are_shown_are_asked(store: Store, requests: list[str]) -> None:
    running = [{"run_id": f"{number:016x}", "epoch": 1} for number in range(1000)]
    write_status(store, running=running)
    requests.clear()
    view = seen(store)
    assert (len(view.rows), view.num_hidden) == (20, 980)
    assert "and 980 more runs" in view.body
    assert sum("epochs.jsonl" in text for text in requests) == 20


def test_a_lost_connection_is_waited_for(store: Store, s3_server: S3Server, monkeypatch) -> None:
    proxy = Proxy(s3_server.port)
    address = store.address.replace(str(s3_server.port), str(proxy.port))
    watcher = Watcher(Store(address, create=False), "mine")
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
        write_status(store, state="finished", running=[])

    monkeypatch.setattr("sweeps.watch.time.sleep", play)
    stream = io.StringIO()
    watch_lines(watcher.see, 7.0, stream)
    said = [line for line in stream.getvalue().splitlines() if line.startswith("mine: ")]
    assert len(said) == 3  # that nothing answers is said once
    assert said[0].startswith("mine: running")
    assert said[1].startswith("mine: as it was when last seen. Expected an answer of s3://bucket/")
    assert said[2].startswith("mine: finished")
    assert len(slept) == 3
    proxy.close()


def test_the_sweep_that_was_active_last_is_taken(store: Store, capsys) -> None:
    assert newest_sweep(store) == "mine"
    for key in ("../y/plan.json", "\x1b[2J/plan.json", "other/report/plan.json", "file"):
        store.write(f"sweeps/{key}", b"{}")
    assert newest_sweep(store) == "mine"
    listed = ObjectStorage.listed

    def later(self: ObjectStorage, key: str) -> list[objects.ListedObject]:
        # The clock of a real provider tells seconds, too few for files of one test.
        return [
            objects.ListedObject(held.name, held.num_bytes, float("other/" in held.name))
            for held in listed(self, key)
        ]

    store.write("sweeps/other/events.jsonl/000001.jsonl", b"{}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectStorage, "listed", later)
        assert newest_sweep(store) == "other"
    assert main([store.address, "--name", "absent"]) == 2
    assert "Expected one of the sweeps mine, other after --name" in capsys.readouterr().err


def test_the_command_writes_nothing_and_shows_no_credentials(
    store: Store, s3_server: S3Server, capsys
) -> None:
    storage = ObjectStorage(store.address)
    before = storage.listed("")
    address = store.address.replace("s3://", "s3://someone:open%2Fsesame@")
    assert main([address, "--once"]) == 0
    out = capsys.readouterr().out
    assert "2 of 20 done" in out
    assert storage.listed("") == before
    bad = s3_server.address("nothing/here").replace("s3://", "s3://someone:open%2Fsesame@")
    for argv, status in (([bad], 1), ([bad.replace("bucket", "absent")], 1),
                         ([address, "--name", "x y"], 2), (["s3://"], 1),
                         ([address.replace(str(s3_server.port), "1")], 1)):  # fmt: skip
        assert main(argv) == status
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert not any(secret in said.err + out for secret in ("someone", "sesame"))
