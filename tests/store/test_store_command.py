"""List, merge and remove from the command line: what they do, and what they refuse."""

import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl.records import PAUSED_AFTER
from mtl.store import Store, merge
from mtl.store.__main__ import main
from mtl.store.verify import verify_store


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def hold(root: str, run_id: str, held: object, release: object) -> None:
    with Store(root).run_lock(run_id):
        held.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


@pytest.fixture
def locked(store: Store, ids: list[str]):
    """Let another process hold the third run, as a training does."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(str(store.root), ids[2], held, release))
    holder.start()
    assert held.wait(60)
    yield ids[2]
    release.set()
    holder.join()


def listed(store: Store, capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, str]:
    assert main(["list", str(store.root), "--json", *argv]) == 0
    return {run["run_id"]: run["state"] for run in json.loads(capsys.readouterr().out)}


def test_runs_are_listed_and_filtered(store: Store, ids: list[str], capsys) -> None:
    assert listed(store, capsys) == {ids[0]: "done", ids[1]: "done", ids[2]: "partial"}
    assert listed(store, capsys, "--state", "partial", "failed") == {ids[2]: "partial"}
    assert listed(store, capsys, "--method", "fixed") == {}
    assert len(listed(store, capsys, "--task", "segmentation", "depth")) == 3
    assert listed(store, capsys, "--task", "normal") == {}
    assert listed(store, capsys, "--run", ids[1]) == {ids[1]: "done"}
    store.write_error(ids[2], "Traceback\nValueError: \x1b[2Jno")
    assert listed(store, capsys) == {ids[0]: "done", ids[1]: "done", ids[2]: "failed"}
    assert main(["list", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("3 runs: 2 done, 1 failed; ")
    assert "1 of 3" in out
    assert "\x1b" not in out


def test_paused_runs_are_a_state_of_their_own_and_go_with_no_other(
    store: Store, ids: list[str], capsys
) -> None:
    manifest = store.manifest(ids[2])
    assert manifest is not None
    store.write_manifest(ids[2], manifest | {PAUSED_AFTER: 1})
    assert listed(store, capsys)[ids[2]] == "paused"
    assert main(["list", str(store.root)]) == 0
    assert "3 runs: 2 done, 1 paused; " in capsys.readouterr().out
    assert main(["remove", str(store.root), "--state", "partial", "waiting", "--yes"]) == 0
    assert "nothing was removed" in capsys.readouterr().out
    store.write_error(ids[2], "ValueError: no")
    assert listed(store, capsys)[ids[2]] == "failed"
    store.clear_error(ids[2])
    store.write_manifest(ids[2], manifest)  # as a training that goes on writes it
    assert listed(store, capsys)[ids[2]] == "partial"
    store.write_manifest(ids[2], manifest | {PAUSED_AFTER: 1})
    assert main(["remove", str(store.root), "--state", "paused", "--yes"]) == 0
    assert store.run_ids() == sorted(ids[:2])


def test_runs_are_listed_with_the_sweeps_that_planned_them(
    store: Store, ids: list[str], capsys
) -> None:
    assert main(["list", str(store.root), "--json", "--run", ids[0]]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sweeps"] == ["mine"]
    assert main(["list", str(store.root)]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  mine")
    (store.sweep_folder("mine") / "plan.json").write_text("rubbish")
    assert main(["list", str(store.root), "--json", "--run", ids[0]]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sweeps"] == []


def test_a_run_under_way_is_listed_as_running(store: Store, locked: str, capsys) -> None:
    assert listed(store, capsys)[locked] == "running"


def test_listing_merging_and_removing_need_no_torch(store: Store, ids: list[str]) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # an import of it fails
        "from mtl.store.__main__ import main\n"
        "root, run_id = sys.argv.pop(), sys.argv.pop()\n"
        "def call(*argv): assert main(argv) == 0\n"
        "call('list', root)\n"
        "call('merge', root, root + '2')\n"
        "call('verify', root + '2')\n"
        "call('remove', root, '--run', run_id, '--yes')\n"
    )
    argv = [sys.executable, "-c", code, ids[0], str(store.root)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Removed 1 of 1." in ran.stdout


def test_the_store_module_is_the_command(store: Store) -> None:
    argv = [sys.executable, "-W", "error", "-m", "mtl.store", "list", str(store.root)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "3 runs: 2 done, 1 partial" in ran.stdout


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
        (["verify", "NOWHERE/store.json"], 1, "Expected a"),
        (["list", "s3://bucket/x"], 1, "s3://bucket/x"),
        (["remove", "STORE", "--yes"], 2, "or else --all"),
        (["remove", "STORE", "--all", "--state", "done", "--yes"], 2, "or else --all"),
        (["remove", "STORE", "--all"], 2, "Expected --yes where nobody can be asked"),
        (["merge", "STORE", "STORE"], 1, "Expected two stores"),
        (["merge", "STORE", "STORE/runs/x"], 1, "Expected"),
        (["merge", "NOWHERE", "STORE"], 1, "holds no store.json"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    argv, status, says, store: Store, tmp_path: Path, capsys
) -> None:
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


def test_a_store_whose_marker_is_a_link_or_huge_is_refused(store: Store, capsys) -> None:
    marker = store.root / "store.json"
    marker.unlink()
    marker.symlink_to("/dev/zero")
    assert main(["list", str(store.root)]) == 1
    marker.unlink()
    with open(marker, "wb") as file:
        file.truncate(10**12)
    assert main(["list", str(store.root)]) == 1
    assert capsys.readouterr().err.count("store.json is a") == 2


def test_merging_copies_what_is_absent_whole_and_again_changes_nothing(
    store: Store, ids: list[str], tmp_path: Path, capsys
) -> None:
    target = tmp_path / "target"
    assert main(["merge", str(store.root), str(target)]) == 0
    assert contents(target) == contents(store.root)
    assert verify_store(Store(target)).damages == ()
    assert "Runs: 3 copied. 1 sweep copied.\n" in capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()}
    assert main(["merge", str(store.root), str(target)]) == 0
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()} == before
    assert "2 the same in both" in capsys.readouterr().out


def test_the_further_run_wins_and_different_results_are_left(
    store: Store, ids: list[str], tmp_path: Path, capsys
) -> None:
    target = Store(tmp_path / "target")
    for run_id in ids:
        target.write_spec(store.spec(run_id))
    result = store.run_folder(ids[1]) / "result.json"
    other = result.read_text().replace('"delta1": 0.', '"delta1": 0.9', 1)
    assert other != result.read_text()
    (target.run_folder(ids[1]) / "result.json").write_text(other)
    assert main(["merge", str(store.root), str(target.root)]) == 1
    captured = capsys.readouterr()
    assert f"Conflict: run {ids[1]} has different results" in captured.err
    assert "2 replaced by one that is further" in captured.out
    assert (target.run_folder(ids[1]) / "result.json").read_text() == other
    for run_id in (ids[0], ids[2]):
        assert contents(target.run_folder(run_id)) == contents(store.run_folder(run_id))
    # The other way round an unfinished run does not replace one that is done.
    assert main(["remove", str(store.root), "--run", ids[0], "--yes"]) == 0
    store.write_spec(target.spec(ids[0]))
    before = contents(target.run_folder(ids[0]))
    main(["merge", str(store.root), str(target.root)])
    assert contents(target.run_folder(ids[0])) == before


def test_a_run_under_way_is_busy_and_not_damaged(
    store: Store, locked: str, tmp_path: Path, capsys
) -> None:
    # As it may look to a reader between two files that its training writes.
    (store.run_folder(locked) / "checkpoint" / "latest.pt").write_bytes(b"half")
    assert main(["merge", str(store.root), str(tmp_path / "target")]) == 1
    err = capsys.readouterr().err
    assert f"Run {locked} is being trained by another process" in err
    assert "damaged" not in err


def test_what_a_link_leads_to_is_neither_locked_nor_copied(
    store: Store, ids: list[str], tmp_path: Path, capsys
) -> None:
    """Another process holds a lock outside; a link to it must not make the run look busy."""
    outside = tmp_path / "outside"
    store.run_folder(ids[2]).rename(outside)
    store.run_folder(ids[2]).symlink_to(outside)
    with open(outside / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["merge", str(store.root), str(tmp_path / "target")]) == 1
    assert f"Run {ids[2]} is damaged in {store.root} and was not copied" in capsys.readouterr().err


def test_damaged_and_busy_runs_are_not_copied_and_a_damaged_one_is_not_replaced(
    store: Store, ids: list[str], locked: str, tmp_path: Path, capsys
) -> None:
    (store.run_folder(ids[0]) / "epochs.jsonl").unlink()
    (store.run_folder(ids[0]) / "epochs.jsonl").symlink_to("/etc/hostname")
    target = Store(tmp_path / "target")
    target.write_spec(store.spec(ids[1]))
    (target.run_folder(ids[1]) / "result.json").write_text("{")
    assert main(["merge", str(store.root), str(target.root)]) == 1
    err = capsys.readouterr().err
    assert f"Run {ids[0]} is damaged in {store.root} and was not copied" in err
    assert f"Run {ids[1]} is damaged in {target.root}" in err
    assert f"Run {locked} is being trained by another process" in err
    assert target.run_ids() == [ids[1]]
    assert (target.run_folder(ids[1]) / "result.json").read_text() == "{"


def test_a_merge_that_fails_or_was_killed_leaves_no_half_run(
    store: Store, ids: list[str], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Store(tmp_path / "target")
    left = target.runs_folder / f".merging-{ids[0]}"
    left.mkdir()
    (left / "result.json").write_text("{}")

    def full(source: object, written: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mtl.store.merge.shutil", SimpleNamespace(copyfileobj=full))
        assert main(["merge", str(store.root), str(target.root)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(target.runs_folder.iterdir()) == []
    assert main(["merge", str(store.root), str(target.root)]) == 0
    assert target.run_ids() == sorted(ids)


def test_removing_takes_what_passes_and_says_which_sweeps_planned_it(
    store: Store, ids: list[str], capsys
) -> None:
    plan = (store.sweep_folder("mine") / "plan.json").read_bytes()
    assert main(["remove", str(store.root), "--state", "done", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "Removed 2 of 2." in out
    assert "Sweep mine plans 2 of them: its command trains them again." in out
    assert [path.name for path in store.runs_folder.iterdir()] == [ids[2]]
    assert (store.sweep_folder("mine") / "plan.json").read_bytes() == plan
    assert main(["remove", str(store.root), "--method", "fixed", "--yes"]) == 0
    assert "No run is meant" in capsys.readouterr().out


def test_removing_a_search_s_runs_says_what_its_command_trains_again(
    store: Store, ids: list[str], capsys
) -> None:
    path = store.sweep_folder("mine") / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tuned": ["x"]}))
    assert main(["remove", str(store.root), "--run", ids[2], "--yes"]) == 0
    assert capsys.readouterr().out.endswith(
        "Sweep mine plans 1 of them: its command, a search, trains again only what it reports or "
        "has yet to compare; what it decided by others stands.\n"
    )


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("", 3), ("n", 3), ("yes", 0), ("no", 3)])
def test_a_person_is_asked(answer, left, store: Store, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    assert main(["remove", str(store.root), "--all"]) == 0
    assert len(store.run_ids()) == left


def test_a_run_that_is_trained_is_refused(store: Store, locked: str, capsys) -> None:
    before = contents(store.run_folder(locked))
    assert main(["remove", str(store.root), "--all", "--yes"]) == 1
    captured = capsys.readouterr()
    assert f"Run {locked} is being trained" in captured.err
    assert "Removed 2 of 3." in captured.out
    assert contents(store.run_folder(locked)) == before


def test_runs_of_a_sweep_under_way_are_refused(store: Store, ids: list[str], capsys) -> None:
    # Its driver has planned them, and would fail them for want of a spec.
    with open(store.sweep_folder("mine") / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["remove", str(store.root), "--all", "--yes"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("is planned by sweep mine, which is being run") == 3
    assert "Removed 0 of 3." in captured.out
    assert store.run_ids() == sorted(ids)
    assert main(["remove", str(store.root), "--all", "--yes"]) == 0


def test_a_kill_while_removing_leaves_no_run_that_looks_done(
    store: Store, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Killed at each step in turn: after result.json, and after the folder left its place.
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(merge.os, "rename", killed)
        with pytest.raises(Killed):
            main(["remove", str(store.root), "--run", ids[0], "--yes"])
    assert not store.is_done(ids[0])
    assert store.spec(ids[0])
    with monkeypatch.context() as patch:
        patch.setattr("mtl.store.untrusted.shutil.rmtree", killed)
        with pytest.raises(Killed):
            main(["remove", str(store.root), "--run", ids[1], "--yes"])
    assert ids[1] not in store.run_ids()
    assert main(["remove", str(store.root), "--run", ids[0], "--yes"]) == 0
    assert [path.name for path in store.runs_folder.iterdir()] == [ids[2]]


def test_removing_a_link_leaves_what_it_points_to(
    store: Store, ids: list[str], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "result.json").write_text("precious")
    link = store.runs_folder / ("e" * 16)
    link.symlink_to(outside)
    (store.run_folder(ids[0]) / "samples" / "more").symlink_to(outside)
    (store.run_folder(ids[1]) / ".lock").unlink()
    (store.run_folder(ids[1]) / ".lock").symlink_to(outside / "result.json")
    assert main(["remove", str(store.root), "--run", "e" * 16, ids[0], "--yes"]) == 0
    assert main(["remove", str(store.root), "--run", ids[1], "--yes"]) == 1
    assert not link.is_symlink()
    assert (outside / "result.json").read_text() == "precious"
    assert os.listdir(outside) == ["result.json"]
