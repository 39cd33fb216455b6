"""List, merge and remove from the command line: what they do, and what they refuse."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl.records import PAUSED_AFTER, EpochRecord, Result
from mtl.spec import RunSpec
from mtl.store import Store, merge
from mtl.store.__main__ import main
from mtl.store.verify import verify_store

Capture = pytest.CaptureFixture[str]


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run or sweep, as another process does: locks are of open files."""
    with open(folder / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def trained_run(store: Store, ids: list[str]) -> Iterator[str]:
    """Return the id of the partial run while somebody trains it."""
    with locked(store.run_folder(ids[2])):
        yield ids[2]


def states(store: Store, capsys: Capture, *argv: str) -> dict[str, str]:
    assert main(["list", store.address, "--json", *argv]) == 0
    return {run["run_id"]: run["state"] for run in json.loads(capsys.readouterr().out)}


def test_runs_are_listed_and_filtered(store, ids, capsys):
    assert states(store, capsys) == {ids[0]: "done", ids[1]: "done", ids[2]: "partial"}
    assert states(store, capsys, "--state", "partial", "failed") == {ids[2]: "partial"}
    assert states(store, capsys, "--method", "fixed") == {}
    assert len(states(store, capsys, "--task", "segmentation", "depth")) == 3
    assert states(store, capsys, "--task", "normal") == {}
    assert states(store, capsys, "--run", ids[1]) == {ids[1]: "done"}
    store.write_error(ids[2], "Traceback\nValueError: \x1b[2Jno")
    assert main(["list", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("3 runs: 2 done, 1 failed; ")
    assert out.splitlines()[1].endswith("  mine")  # the sweep that planned it
    assert "1 of 3" in out
    assert "\x1b" not in out
    (store.sweep_folder("mine") / "plan.json").write_text("rubbish")
    assert main(["list", str(store.root), "--json", "--run", ids[0]]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sweeps"] == []


def test_paused_run_is_a_state_of_its_own(store, ids, capsys):
    manifest = store.manifest(ids[2])
    store.write_manifest(ids[2], manifest | {PAUSED_AFTER: 1})
    assert states(store, capsys)[ids[2]] == "paused"
    assert main(["remove", str(store.root), "--state", "partial", "missing", "--yes"]) == 0
    assert "nothing was removed" in capsys.readouterr().out
    store.write_error(ids[2], "ValueError: no")
    assert states(store, capsys)[ids[2]] == "failed"
    store.clear_error(ids[2])
    assert main(["remove", str(store.root), "--state", "paused", "--yes"]) == 0
    assert store.run_ids() == sorted(ids[:2])


def fill(store: Store) -> Store:
    """Write a run of each state that object storage tells, and one that is damaged."""
    specs = [RunSpec(seed=seed, epochs=2) for seed in range(6)]
    done, partial, failed, _, begun, damaged = (store.write_spec(spec) for spec in specs)
    record = EpochRecord(1, [0.5, 0.5], None, None, None, 1e-3, {}, 1.0)
    store.write_epochs(done, [record] * 2)
    store.write_result(Result(done, "done", 2, "last", 2, {}, {}))
    store.write_epochs(partial, [record])
    store.write_error(failed, "Traceback\nValueError: \x1b[2Jno")
    store.write_large(store.run_key(begun, "checkpoint", "latest.pt"), b"x")
    store.write(store.run_key(damaged, "spec.json"), b'{"a": ' * 5000)
    return store


def test_object_storage_is_listed_as_a_folder_is(s3_address, tmp_path, capsys):
    listed = []
    for store in (fill(Store(s3_address)), fill(Store(tmp_path / "store"))):
        assert main(["list", store.address, "--json"]) == 0
        runs = json.loads(capsys.readouterr().out)
        # A checkpoint there has a pointer beside it.
        listed.append(
            [run | {"bytes": run["bytes"] * (run["epochs_recorded"] > 0)} for run in runs]
        )
        assert main(["list", store.address]) == 0
        out = capsys.readouterr().out
        assert "6 runs: 1 done, 1 failed, 2 partial, 1 missing, 1 damaged" in out
        assert "\x1b" not in out
    assert listed[0] == listed[1]


def test_what_object_storage_cannot_do_is_refused(s3_address, tmp_path, capsys):
    Store(s3_address)
    address = s3_address.replace("s3://", "s3://someone:open%2Fsesame@")
    for argv, status, says in (
        (["list", address, "--state", "running"], 2, "that object storage tells, got running"),
        (["list", address, "--run", "f" * 16], 2, "Expected runs of s3://bucket/"),
        (["verify", address], 1, "Expected a store in a folder"),
        (["merge", address, str(tmp_path / "elsewhere")], 1, "Expected a store in a folder"),
        (["remove", address, "--all", "--yes"], 1, "Expected a store in a folder"),
        (["list", address.replace("bucket/", "bucket/none/")], 1, "holds no store.json"),
        (["list", address.replace("bucket/", "absent/")], 1, "Expected a bucket"),
    ):
        assert main(argv) == status, argv
        printed = capsys.readouterr()
        assert says in printed.err
        assert (printed.out, len(printed.err.splitlines())) == ("", 1)
        assert "sesame" not in printed.err


def test_package_is_the_command_and_needs_no_torch(store, ids):
    code = (
        "import runpy, sys\n"
        "sys.modules['torch'] = None\n"  # an import of it fails
        "root, run_id = sys.argv.pop(), sys.argv.pop()\n"
        "def call(*argv):\n"
        "    sys.argv[1:] = argv\n"
        "    try:\n"
        "        runpy.run_module('mtl.store', run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "call('list', root)\n"
        "call('merge', root, root + '2')\n"
        "call('verify', root + '2')\n"
        "call('remove', root, '--run', run_id, '--yes')\n"
    )
    argv = [sys.executable, "-W", "error", "-c", code, ids[0], str(store.root)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "3 runs: 2 done, 1 partial" in ran.stdout
    assert "Removed 1 of 1." in ran.stdout


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["list"], 2, "required"),
        (["wat"], 2, "invalid choice"),
        (["list", "STORE", "--state", "dnoe"], 2, "Unknown state 'dnoe'. Did you mean done"),
        (["list", "STORE", "--method", "lbs"], 2, "Did you mean lsb"),
        (["list", "STORE", "--task", "colour"], 2, "Unknown task 'colour'"),
        (["list", "STORE", "--run", "../../etc"], 2, "Expected runs of"),
        (["list", ""], 2, "empty name"),
        (["list", "NOWHERE"], 1, "holds no store.json"),
        (["list", "STORE/sweeps/x"], 1, "the store it lies in"),
        (["list", "STORE/store.json"], 1, "Expected the folder of a store, got the file"),
        (["verify", "NOWHERE/store.json"], 1, "Expected a"),
        (["remove", "STORE", "--yes"], 2, "or else --all"),
        (["remove", "STORE", "--all", "--state", "done", "--yes"], 2, "or else --all"),
        (["remove", "STORE", "--all"], 2, "No terminal to ask on: add --yes"),
        (["merge", "STORE", "STORE"], 1, "Expected two different stores"),
        (["merge", "STORE", "STORE/runs/x"], 1, "Expected"),
        (["merge", "NOWHERE", "STORE"], 1, "holds no store.json"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(argv, status, says, store, tmp_path, capsys):
    before = contents(store.root)
    places = {"STORE": str(store.root), "NOWHERE": str(tmp_path / "nowhere")}
    for word, place in places.items():
        argv = [text.replace(word, place) for text in argv]
    assert main(argv) == status
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert {k: v for k, v in contents(store.root).items() if k in before} == before


def test_links_within_a_store_are_refused(store, tmp_path, capsys):
    for name in ("store.json", "runs"):
        outside = (store.root / name).rename(tmp_path / f"outside-{name}")
        (store.root / name).symlink_to(outside)
        assert main(["remove", str(store.root), "--all", "--yes"]) == 1
        (store.root / name).unlink()
        outside.rename(store.root / name)
    marker, runs = capsys.readouterr().err.splitlines()
    assert "store.json, got a damaged file" in marker
    assert "Links within a store are not followed" in runs
    assert len(store.run_ids()) == 3


def test_merge_copies_whole_runs_and_again_changes_nothing(store, tmp_path, capsys):
    target = tmp_path / "target"
    assert main(["merge", str(store.root), str(target)]) == 0
    assert contents(target) == contents(store.root)
    assert verify_store(Store(target)).damages == []
    assert "Runs: 3 copied. 1 sweep copied.\n" in capsys.readouterr().out
    assert main(["merge", str(store.root), str(target)]) == 0
    assert "Runs: 3 there already.\n" in capsys.readouterr().out
    assert contents(target) == contents(store.root)


def test_merge_brings_results_and_leaves_different_ones(store, ids, tmp_path, capsys):
    target = Store(tmp_path / "target")
    for run_id in ids:
        target.write_spec(store.spec(run_id))
    result = store.run_folder(ids[1]) / "result.json"
    other = result.read_text().replace('"delta1": 0.', '"delta1": 0.9', 1)
    (target.run_folder(ids[1]) / "result.json").write_text(other)
    assert main(["merge", str(store.root), str(target.root)]) == 1
    captured = capsys.readouterr()
    assert f"Run {ids[1]} has different results in" in captured.err
    assert "1 replaced by the finished one" in captured.out
    assert (target.run_folder(ids[1]) / "result.json").read_text() == other
    assert contents(target.run_folder(ids[0])) == contents(store.run_folder(ids[0]))
    # The other way round an unfinished run does not replace one that is done.
    assert main(["merge", str(target.root), str(store.root)]) == 1
    assert store.done(ids) == {*ids[:2]}


def test_merge_leaves_damaged_and_running_runs(store, ids, trained_run, tmp_path, capsys):
    # As it may look to a reader between two files that its training writes.
    (store.run_folder(trained_run) / "checkpoint" / "latest.pt").write_bytes(b"half")
    (store.run_folder(ids[0]) / "epochs.jsonl").unlink()
    (store.run_folder(ids[0]) / "epochs.jsonl").symlink_to("/etc/hostname")
    target = Store(tmp_path / "target")
    target.write_spec(store.spec(ids[1]))
    (target.run_folder(ids[1]) / "result.json").write_text("{")
    linked = "e" * 16
    (tmp_path / "outside").mkdir()
    store.run_folder(linked).symlink_to(tmp_path / "outside")
    with locked(tmp_path / "outside"):  # not this run's lock
        assert main(["merge", str(store.root), str(target.root)]) == 1
    err = capsys.readouterr().err
    for run_id in (ids[0], linked):
        assert f"Run {run_id} is damaged in {store.root} and was not copied" in err
    assert f"Run {ids[1]} is damaged in {target.root}" in err
    assert f"Run {trained_run} is being trained by another process" in err
    assert target.run_ids() == [ids[1]]
    assert (target.run_folder(ids[1]) / "result.json").read_text() == "{"


def test_failed_or_killed_merge_leaves_no_half_run(store, ids, tmp_path, capsys, monkeypatch):
    target = Store(tmp_path / "target")
    left = target.root / "runs" / f".merging-{ids[0]}"
    left.mkdir()
    (left / "result.json").write_text("{}")

    def full(source: str, written: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(merge, "_copy_file", full)
        assert main(["merge", str(store.root), str(target.root)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert os.listdir(target.root / "runs") == []
    assert main(["merge", str(store.root), str(target.root)]) == 0
    assert target.run_ids() == sorted(ids)


def test_remove_says_which_sweeps_planned_the_runs(store, ids, capsys):
    path = store.sweep_folder("mine") / "plan.json"
    plan = path.read_bytes()
    assert main(["remove", str(store.root), "--state", "done", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "Removed 2 of 2." in out
    assert "Sweep mine plans 2 of them: its command trains them." in out
    assert os.listdir(store.root / "runs") == [ids[2]]
    assert path.read_bytes() == plan
    assert main(["remove", str(store.root), "--method", "fixed"]) == 0
    assert "No run matches" in capsys.readouterr().out
    path.write_text(json.dumps(json.loads(plan) | {"tuned": ["x"]}))
    assert main(["remove", str(store.root), "--run", ids[2], "--yes"]) == 0
    assert "its command, a search, trains only what" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("", 3)])
def test_remove_asks_first(answer, left, store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    assert main(["remove", str(store.root), "--all"]) == 0
    assert len(store.run_ids()) == left


def test_running_run_is_listed_and_not_removed(store, trained_run, capsys):
    before = contents(store.run_folder(trained_run))
    assert states(store, capsys)[trained_run] == "running"
    assert main(["remove", str(store.root), "--all", "--yes"]) == 1
    captured = capsys.readouterr()
    assert f"Run {trained_run} is being trained" in captured.err
    assert "Removed 2 of 3." in captured.out
    assert contents(store.run_folder(trained_run)) == before


def test_remove_refuses_runs_of_a_running_sweep(store, ids, capsys):
    with locked(store.sweep_folder("mine")):
        assert main(["remove", str(store.root), "--all", "--yes"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("is planned by sweep mine, which is running") == 3
    assert "Removed 0 of 3." in captured.out
    assert store.run_ids() == sorted(ids)


def test_killed_remove_leaves_a_run_whole_or_absent(store, ids, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    before = contents(store.run_folder(ids[0]))
    for name, run_id in (("os.rename", ids[0]), ("shutil.rmtree", ids[1])):
        with monkeypatch.context() as patch:
            patch.setattr(f"mtl.store.merge.{name}", killed)
            with pytest.raises(Killed):
                main(["remove", str(store.root), "--run", run_id, "--yes"])
    assert contents(store.run_folder(ids[0])) == before
    assert ids[1] not in store.run_ids()
    assert main(["remove", str(store.root), "--run", ids[0], "--yes"]) == 0
    assert os.listdir(store.root / "runs") == [ids[2]]


def test_remove_takes_a_link_and_leaves_its_target(store, ids, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "result.json").write_text("precious")
    link = store.root / "runs" / ("e" * 16)
    link.symlink_to(outside)
    (store.run_folder(ids[0]) / "samples" / "more").symlink_to(outside)
    (store.run_folder(ids[1]) / ".lock").unlink()
    (store.run_folder(ids[1]) / ".lock").symlink_to(outside / "result.json")
    assert main(["remove", str(store.root), "--run", "e" * 16, ids[0], "--yes"]) == 0
    assert main(["remove", str(store.root), "--run", ids[1], "--yes"]) == 1
    assert not link.is_symlink()
    assert (outside / "result.json").read_text() == "precious"
    assert os.listdir(outside) == ["result.json"]


def test_run_that_is_a_link_is_not_followed(tmp_path, capsys):
    store = Store(tmp_path / "results")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/large").write_bytes(bytes(100_000))
    (store.root / "runs").mkdir(exist_ok=True)
    (store.root / "runs" / ("0" * 16)).symlink_to(tmp_path / "elsewhere")
    assert main(["list", str(store.root), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["state"], entry["bytes"]) == ("damaged", 0)


def test_closed_output_is_no_traceback(tmp_path, monkeypatch):
    Store(tmp_path / "results")
    monkeypatch.setattr("sys.stdout", None)
    assert main(["list", str(tmp_path / "results")]) == 0
