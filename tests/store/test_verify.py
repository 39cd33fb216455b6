"""Every kind of damage is found and named with its cost; an untrusted store runs nothing."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl.store import Store
from mtl.store.__main__ import main
from mtl.store.states import read_runs
from mtl.store.verify import verify_run, verify_store
from sweeps.status.journal import sweep_lock


def damages(store: Store) -> dict[str, str]:
    """Return path -> what is wrong."""
    return {damage.path: damage.what for damage in verify_store(store).damages}


def edit(path: Path, **changes: object) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, **changes}))


def test_sound_store_has_no_damage_and_is_not_written(store):
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    found = verify_store(store)
    assert (found.num_runs, found.num_sweeps, found.damages, found.notes) == (3, 1, [], [])
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before
    with sweep_lock(store, "mine"):  # its driver runs
        assert damages(store) == {}
    assert damages(store) == {}


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("spec.json", {"seed": 7}, "got that of"),
        ("spec.json", {"epochs": "three"}, "Expected a spec"),
        ("spec.json", {"epochs": 10**400}, "got that of"),
        ("spec.json", {"colour": 1}, "Expected a spec"),
        ("result.json", {"schema": 2}, "schema 1, got 2"),
        ("result.json", {"run_id": "0" * 16}, "Expected the result of run"),
        ("result.json", {"status": "nearly"}, "another status, got 'nearly'"),
        ("result.json", {"epochs": 2}, "another selected_epoch, got 3"),
        ("result.json", {"epochs": 4}, "Expected the result of 3 epochs"),
        ("result.json", {"selection": "validation"}, "selection last, as its spec"),
        ("result.json", {"selected_epoch": "3"}, "another selected_epoch, got '3'"),
        ("result.json", {"final_metrics": {"validation": {}, "test": {}}}, "validation metrics of"),
        ("manifest.json", {"schema": 3}, "got schema 3"),
        ("manifest.json", {"data": {"info": 1}}, "Expected the classes"),
    ],
)
def test_wrong_values_are_damage_of_their_file(file, changes, says, store, ids):
    edit(store.run_folder(ids[0]) / file, **changes)
    (damage,) = verify_run(store, ids[0])
    assert damage.path == f"runs/{ids[0]}/{file}"
    assert says in damage.what
    assert damage.cost
    assert str(store.root) not in damage.what
    read_runs(store, ids)  # which is stopped by nothing in a file


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 3}, "Expected the records of epoch 1 and those after it"),
        ({"losses": [1.0]}, "Expected 2 losses an epoch"),
        ({"losses": None}, "another losses"),
        ({"seconds": float("nan")}, "another seconds"),
        ({"metrics": {"validation": {"depth": 3}}}, "another metrics"),
        ({"surprise": 1}, "not surprise"),
    ],
)
def test_wrong_epoch_records_are_named(changes, says, store, ids):
    path = store.run_folder(ids[0]) / "epochs.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **changes})
    path.write_text("\n".join(lines) + "\n")
    assert [says in damage.what for damage in verify_run(store, ids[0])] == [True]


def test_missing_epochs_matter_to_done_and_to_partial_runs(store, ids):
    done, partial = (store.run_folder(run_id) / "epochs.jsonl" for run_id in (ids[0], ids[2]))
    done.write_text("".join(done.read_text().splitlines(keepends=True)[:2]))
    partial.unlink()
    found = damages(store)
    assert "Expected 3 epochs, as its spec says, got 2." in found[f"runs/{ids[0]}/epochs.jsonl"]
    assert "after epoch 1" in found[f"runs/{ids[2]}/checkpoint/latest.pt"]
    with store.run_lock(ids[2]):  # a training may be ahead of the records that were read before
        assert f"runs/{ids[2]}/checkpoint/latest.pt" not in damages(store)


def test_bytes_flipped_in_any_file_are_found(store, ids):
    files = [
        f"runs/{ids[0]}/result.json",
        f"runs/{ids[0]}/checkpoint/weights.pt",
        f"runs/{ids[0]}/samples/epoch_00001.npz",
        f"runs/{ids[2]}/checkpoint/latest.pt",
    ]
    for name in files:
        path = store.root / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    assert sorted(damages(store)) == sorted(files)


def test_checkpoint_of_another_run_or_epoch_is_found(store, ids):
    weights = store.run_folder(ids[0]) / "checkpoint" / "weights.pt"
    shutil.copy(store.run_folder(ids[1]) / "checkpoint" / "weights.pt", weights)
    latest = store.run_folder(ids[2]) / "checkpoint" / "latest.pt"
    held = torch.load(latest, weights_only=True)
    torch.save({**held, "epoch": 9}, latest)
    found = damages(store)
    assert f"got one of '{ids[1]}'" in found[f"runs/{ids[0]}/checkpoint/weights.pt"]
    assert "after epoch 9" in found[f"runs/{ids[2]}/checkpoint/latest.pt"]


class _Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_nothing_in_an_untrusted_file_is_run(store, ids, tmp_path):
    proof = tmp_path / "ran"
    folder = store.run_folder(ids[0])
    torch.save({"schema": 1, "run_id": _Evil(str(proof))}, folder / "checkpoint/weights.pt")
    array = np.array([_Evil(str(proof))], dtype=object)
    np.savez(folder / "samples/epoch_00001.npz", image=array, indices=array)
    (store.run_folder(ids[1]) / "spec.json").write_bytes(pickle.dumps(_Evil(str(proof))))
    found = damages(store)
    assert "UnpicklingError" in found[f"runs/{ids[0]}/checkpoint/weights.pt"]
    assert f"runs/{ids[1]}/spec.json" in found
    assert not proof.exists()


def test_bombs_are_not_unpacked(store, ids, monkeypatch):
    monkeypatch.setattr("mtl.store.verify.MAX_UNPACKED_BYTES", 1_000_000)
    for name in ("checkpoint/weights.pt", "samples/epoch_00001.npz"):
        path = store.run_folder(ids[0]) / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(2_000_000))
    found = damages(store)
    assert len(found) == 2
    assert all("it would unpack to 2,000,000 bytes" in what for what in found.values())


def test_links_folders_and_devices_are_named_and_not_followed(store, ids, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    first = store.run_folder(ids[0])
    for name, target in (("spec.json", "/dev/zero"), ("manifest.json", outside / "secret")):
        (first / name).unlink()
        (first / name).symlink_to(target)
    os.mkfifo(first / "error.txt")
    second = store.run_folder(ids[1])
    (second / "epochs.jsonl").unlink()
    (second / "epochs.jsonl").mkdir()
    shutil.rmtree(second / "samples")
    (second / "samples").symlink_to(outside)
    third = store.run_folder(ids[2])
    (third / ".lock").unlink()
    (third / ".lock").symlink_to(outside / "secret")
    (store.root / "runs" / ("e" * 16)).symlink_to(outside)
    (store.root / "runs" / ("f" * 16)).write_text("a file")
    assert damages(store) == {
        f"runs/{ids[0]}/spec.json": "is a link, not a file",
        f"runs/{ids[0]}/manifest.json": "is a link, not a file",
        f"runs/{ids[0]}/error.txt": "is a device, not a file",
        f"runs/{ids[1]}/epochs.jsonl": "is a folder, not a file",
        f"runs/{ids[1]}/samples": "is a link, not a folder",
        f"runs/{ids[2]}/.lock": "is a link, not a file",
        f"runs/{'e' * 16}": "is a link, not a folder",
        f"runs/{'f' * 16}": "is a file, not a folder",
    }
    assert {run.run_id: run.state for run in read_runs(store, store.run_ids()).values()} == {
        ids[0]: "damaged", ids[1]: "done", ids[2]: "partial", "e" * 16: "damaged",
        "f" * 16: "damaged",
    }  # fmt: skip
    assert (outside / "secret").read_text() == "secret"


def test_huge_file_is_not_read(store, ids):
    with open(store.run_folder(ids[0]) / "result.json", "wb") as file:
        file.truncate(10**12)  # holes, no bytes
    assert "got 1,000,000,000,000" in damages(store)[f"runs/{ids[0]}/result.json"]


def test_damaged_files_of_a_sweep_are_found(store, ids):
    folder = store.sweep_folder("mine")
    (folder / "events.jsonl").write_text('{"event": "started"}\n{"time": "20\n{"event": "x"}\n')
    (folder / "decisions.jsonl").write_text("[1]\n")
    (folder / "lease.json").write_text("{")
    edit(folder / "status.json", schema=2)
    edit(folder / "plan.json", revisions=[{"run_ids": [*ids, 5]}])
    (store.root / "sweeps" / "a file").write_text("x")
    found = verify_store(store)
    assert [damage.path.rpartition("/")[2] for damage in found.damages] == [
        "plan.json", "status.json", "lease.json", "decisions.jsonl",
    ]  # fmt: skip
    assert any("torn line 2" in note for note in found.notes)
    assert any("a file" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "damaged", "note"),
    [
        ('{"decision": "tuned"}\n{"deci', "", "has a torn line 2"),  # a kill ends nothing
        ('{"decision": "tuned"}\n{"deci\n', "has no JSON object in line 2", ""),
        ('{"decision": "tuned"}\n\x00\x00{}\n{"deci', "has no JSON object in line 2", ""),
    ],
)
def test_only_a_torn_last_decision_is_no_damage(content, damaged, note, store):
    (store.sweep_folder("mine") / "decisions.jsonl").write_text(content)
    found = verify_store(store)
    assert [damage.what for damage in found.damages] == [damaged] * bool(damaged)
    assert all("remove the line" in damage.cost for damage in found.damages)
    assert [note in held for held in found.notes] == [True] * bool(note)


def test_what_a_kill_leaves_is_a_note(store, ids, capsys):
    (store.run_folder(ids[0]) / ".result.json.ab12").write_text("{")
    (store.root / "runs" / "\x1b[2Jnot a run").mkdir()
    assert main(["verify", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "was left by a process that was killed" in out
    assert "\x1b" not in out
    assert out.endswith("3 runs and 1 sweep: no damage.\n")


def test_command_names_file_and_cost(store, ids, capsys):
    (store.run_folder(ids[0]) / "result.json").write_text("{")
    assert main(["verify", str(store.root)]) == 1
    out = capsys.readouterr().out
    assert f"runs/{ids[0]}/result.json: Expected JSON in runs/{ids[0]}/result.json" in out
    assert "costs: the run's epochs of training" in out
    assert "1 file damaged." in out


def test_absent_planned_runs_are_a_note(store, ids):
    shutil.rmtree(store.run_folder(ids[0]))
    (note,) = verify_store(store).notes
    assert note.endswith("plans 1 run that the store does not hold; its command trains it.")
    edit(store.sweep_folder("mine") / "plan.json", tuned=["optimizer.learning_rate"])
    (note,) = verify_store(store).notes
    assert "trains only what it reports or has yet to compare; what it decided" in note
