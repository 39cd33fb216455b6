"""Every kind of damage is found and named with its cost; a stranger's store runs nothing."""

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
from mtl.store.states import list_runs
from mtl.store.verify import verify_store
from sweeps.status.journal import sweep_lock


def damages(store: Store) -> dict[str, str]:
    """Return path -> what is wrong."""
    return {damage.path: damage.what for damage in verify_store(store).damages}


def edit(path: Path, **changes: object) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, **changes}))


def edit_line(path: Path, number: int, **changes: object) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **changes})
    path.write_text("\n".join(lines) + "\n")


def test_a_sound_store_has_no_damage_and_is_not_written(store: Store) -> None:
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    found = verify_store(store)
    assert (found.num_runs, found.num_sweeps, found.damages, found.notes) == (3, 1, (), ())
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("spec.json", {"seed": 7}, "describes run"),
        ("spec.json", {"epochs": "three"}, "is no spec"),
        ("spec.json", {"epochs": 10**400}, "describes run"),
        ("spec.json", {"tasks": [["depth"]]}, "is no spec"),
        ("spec.json", {"optimizer": {"learning_rate": 10**400}}, "is no spec"),
        ("spec.json", {"colour": 1}, "is no spec"),
        ("result.json", {"schema": 2}, "schema 1, got 2"),
        ("result.json", {"run_id": "0" * 16}, "is the result of run"),
        ("result.json", {"status": "nearly"}, "has status 'nearly'"),
        ("result.json", {"epochs": 2}, "has epochs 2, its spec says 3"),
        ("result.json", {"epochs": True}, "has epochs True"),
        ("result.json", {"selection": "validation"}, "has selection"),
        ("result.json", {"selected_epoch": 2}, "has selected_epoch 2"),
        ("result.json", {"selected_epoch": "3"}, "has selected_epoch '3'"),
        ("result.json", {"final_metrics": []}, "final_metrics without the splits"),
        ("result.json", {"final_metrics": {"validation": {}, "test": {}}}, "without the tasks"),
        ("manifest.json", {"schema": 3}, "is of schema 3"),
        ("manifest.json", {"hardware": "fast"}, "holds no hardware"),
        ("manifest.json", {"wall_seconds": -1}, "has wall_seconds -1"),
        ("manifest.json", {"wall_seconds": 10**400}, "has wall_seconds 1000"),
        ("manifest.json", {"data": {"info": 1}}, "holds no classes"),
    ],
)
def test_wrong_values_are_damage_of_their_file(
    file: str, changes: dict[str, object], says: str, store: Store, ids: list[str]
) -> None:
    edit(store.run_folder(ids[0]) / file, **changes)
    found = verify_store(store).damages
    assert [damage.path for damage in found] == [f"runs/{ids[0]}/{file}"]
    assert says in found[0].what
    assert found[0].cost
    list_runs(store)


def test_a_result_must_agree_with_its_epochs(store: Store, ids: list[str]) -> None:
    path = store.run_folder(ids[0]) / "result.json"
    metrics = json.loads(path.read_text())["final_metrics"]
    metrics["validation"]["depth"]["delta1"] += 1e-9
    edit(path, final_metrics=metrics)
    assert (
        "other final_metrics on validation than epoch 3"
        in damages(store)[f"runs/{ids[0]}/result.json"]
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 3}, "has epoch 3 in line 2"),
        ({"epoch": "2"}, "has epoch '2' in line 2"),
        ({"losses": [1.0]}, "has losses [1.0] in line 2"),
        ({"losses": None}, "has losses None"),
        ({"weights": ["a", 1.0]}, "has weights"),
        ({"seconds": None}, "no learning_rate or seconds"),
        ({"metrics": {"validation": {"depth": {}}}}, "without the tasks"),
        ({"surprise": 1}, "no epoch record in line 2"),
    ],
)
def test_wrong_epochs_are_named_by_line(
    changes: dict[str, object], says: str, store: Store, ids: list[str]
) -> None:
    edit_line(store.run_folder(ids[0]) / "epochs.jsonl", 2, **changes)
    assert says in damages(store)[f"runs/{ids[0]}/epochs.jsonl"]


def test_missing_epochs_matter_to_done_and_to_partial_runs(store: Store, ids: list[str]) -> None:
    done, partial = (store.run_folder(run_id) / "epochs.jsonl" for run_id in (ids[0], ids[2]))
    done.write_text("".join(done.read_text().splitlines(keepends=True)[:2]))
    partial.unlink()
    found = damages(store)
    assert found[f"runs/{ids[0]}/epochs.jsonl"] == "has 2 epochs of 3"
    assert (
        "is of epoch 1, of which epochs.jsonl holds 0"
        in found[f"runs/{ids[2]}/checkpoint/latest.pt"]
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"schema": NaN}', b"[" * 100_000,
     b'{"a":' * 60 + b"1" + b"}" * 60],
)  # fmt: skip
@pytest.mark.parametrize("file", ["spec.json", "result.json", "manifest.json"])
def test_rubbish_in_place_of_json(file: str, content: bytes, store: Store, ids: list[str]) -> None:
    (store.run_folder(ids[0]) / file).write_bytes(content)
    assert f"runs/{ids[0]}/{file}" in damages(store)
    list_runs(store)


def test_flipped_bytes_in_checkpoints_and_samples_are_found(store: Store, ids: list[str]) -> None:
    files = [
        f"runs/{ids[0]}/checkpoint/weights.pt",
        f"runs/{ids[2]}/checkpoint/latest.pt",
        f"runs/{ids[0]}/samples/epoch_00001.npz",
    ]
    for name in files:
        path = store.root / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    assert sorted(damages(store)) == sorted(files)


def test_a_checkpoint_of_another_run_or_epoch_is_found(store: Store, ids: list[str]) -> None:
    weights = store.run_folder(ids[0]) / "checkpoint" / "weights.pt"
    shutil.copy(store.run_folder(ids[1]) / "checkpoint" / "weights.pt", weights)
    latest = store.run_folder(ids[2]) / "checkpoint" / "latest.pt"
    held = torch.load(latest, weights_only=True)
    torch.save({**held, "epoch": 9}, latest)
    found = damages(store)
    assert found[f"runs/{ids[0]}/checkpoint/weights.pt"] == f"is that of run '{ids[1]}'"
    assert found[f"runs/{ids[2]}/checkpoint/latest.pt"] == "is of epoch 9 of 3"


class _Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_nothing_in_a_stranger_s_file_is_run(store: Store, ids: list[str], tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save(
        {"schema": 1, "run_id": _Evil(str(proof))},
        store.run_folder(ids[0]) / "checkpoint/weights.pt",
    )
    with zipfile.ZipFile(store.run_folder(ids[0]) / "samples/epoch_00001.npz", "w") as archive:
        for name in ("image.npy", "indices.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(file, np.array([_Evil(str(proof))], dtype=object))
    (store.run_folder(ids[0]) / "spec.json").write_bytes(pickle.dumps(_Evil(str(proof))))
    found = damages(store)
    assert f"runs/{ids[0]}/spec.json" in found
    spec = store.run_folder(ids[1]) / "spec.json"
    assert spec.exists()
    shutil.rmtree(store.run_folder(ids[1]))
    os.rename(store.run_folder(ids[0]), store.run_folder(ids[1]))
    spec.write_text(json.dumps(_spec_of(1)))
    found = damages(store)
    assert "does not load" in found[f"runs/{ids[1]}/checkpoint/weights.pt"]
    assert "array" in found[f"runs/{ids[1]}/samples/epoch_00001.npz"]
    assert not proof.exists()


def _spec_of(seed: int) -> dict[str, object]:
    from mtl.spec import RunSpec
    from tests.conftest import tiny_fields

    return RunSpec.from_dict(tiny_fields(seed=seed)).to_dict()


def test_bombs_are_not_unpacked(store: Store, ids: list[str]) -> None:
    weights = store.run_folder(ids[0]) / "checkpoint" / "weights.pt"
    samples = store.run_folder(ids[0]) / "samples" / "epoch_00001.npz"
    for path in (weights, samples):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(2_000_000))
    header = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    with zipfile.ZipFile(samples, "w") as archive:
        for name in ("image.npy", "indices.npy"):
            archive.writestr(name, header + len(text).to_bytes(2, "little") + text)
    found = damages(store)
    assert "is packed" in found[f"runs/{ids[0]}/checkpoint/weights.pt"]
    assert "damaged array" in found[f"runs/{ids[0]}/samples/epoch_00001.npz"]


def test_links_folders_and_devices_are_named_and_not_followed(
    store: Store, ids: list[str], tmp_path: Path
) -> None:
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
    (store.runs_folder / ("e" * 16)).symlink_to(outside)
    (store.runs_folder / ("f" * 16)).write_text("a file")
    found = damages(store)
    assert found[f"runs/{ids[0]}/spec.json"] == "is a link, not a file"
    assert found[f"runs/{ids[1]}/epochs.jsonl"] == "is a folder, not a file"
    assert "is a link" in found[f"runs/{ids[1]}/samples"]
    assert "is a link" in found[f"runs/{ids[2]}/.lock"]
    assert found[f"runs/{'e' * 16}"] == "is a link, not a folder"
    assert found[f"runs/{'f' * 16}"] == "is a file, not a folder"
    states = {entry.run_id: entry.state for entry in list_runs(store)}
    assert states == {
        ids[0]: "damaged", ids[1]: "done", ids[2]: "partial", "e" * 16: "damaged",
        "f" * 16: "damaged",
    }  # fmt: skip
    assert (outside / "secret").read_text() == "secret"


def test_a_huge_file_is_not_read(store: Store, ids: list[str]) -> None:
    path = store.run_folder(ids[0]) / "result.json"
    with open(path, "wb") as file:
        file.truncate(10**12)  # holes, no bytes
    assert "1.0 TB, more than" in damages(store)[f"runs/{ids[0]}/result.json"]


def test_sweeps_are_looked_at_and_torn_lines_are_no_damage(store: Store, ids: list[str]) -> None:
    folder = store.sweep_folder("mine")
    (folder / "events.jsonl").write_text('{"event": "started"}\n{"time": "20\n{"event": "x"}\n')
    (folder / "decisions.jsonl").write_text("[1]\n")
    edit(folder / "status.json", total="many")
    edit(folder / "plan.json", revisions=[{"run_ids": [*ids, 5]}])
    (store.root / "sweeps" / "a file").write_text("x")
    found = verify_store(store)
    assert {damage.path: damage.what for damage in found.damages} == {
        "sweeps/mine/plan.json": "holds a revision without a list of run ids",
        "sweeps/mine/decisions.jsonl": "has no object in line 1",
        "sweeps/mine/status.json": "has no counts total, done, failed, waiting",
    }
    assert any("torn line 2" in note for note in found.notes)
    assert any("a file" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "damaged", "noted"),
    [
        ('{"decision": "tuned"}\n', "", ""),
        ('{"decision": "tuned"}\n{"deci', "", "has a torn line 2"),  # a kill ends nothing
        ('{"decision": "tuned"}\n{"deci\n', "has a line 2 that does not parse", ""),
        ('{"deci\n{"decision": "tuned"}\n', "has a line 1 that does not parse", ""),
        ('{"decision": "tuned"}\n\x00\x00{}\n{"deci', "has a line 2 that does not parse", ""),
        ("[1]", "has no object in line 1", ""),
    ],
)
def test_of_decisions_only_a_torn_last_line_is_the_trace_of_a_kill(
    content: str, damaged: str, noted: str, store: Store
) -> None:
    (store.sweep_folder("mine") / "decisions.jsonl").write_text(content)
    found = verify_store(store)
    assert [damage.path for damage in found.damages] == ["sweeps/mine/decisions.jsonl"] * bool(
        damaged
    )
    for damage in found.damages:
        assert damage.what.startswith(damaged)
        assert "under another --name" in damage.cost
        assert "remove the line" in damage.cost
    assert [noted in note for note in found.notes] == [True] * bool(noted)


@pytest.mark.parametrize(
    ("content", "cost"),
    [
        ("", "the next start writes it anew"),
        ("{", "the next start writes it anew"),
        ("[]", "the next start writes it anew"),
        ('{"schema": 1}', "the next start writes it anew"),
        ('{"schema": 2}', "remove the file once no driver of the sweep runs"),
    ],
)
def test_a_damaged_lease_costs_nothing_and_a_newer_one_stops_the_next_start(
    content: str, cost: str, store: Store
) -> None:
    (store.sweep_folder("mine") / "lease.json").write_text(content)
    (damage,) = verify_store(store).damages
    assert damage.path == "sweeps/mine/lease.json"
    assert cost in damage.cost


def test_the_lease_of_a_finished_driver_is_sound(store: Store) -> None:
    with sweep_lock(store, "mine"):
        assert verify_store(store).damages == ()
    assert verify_store(store).damages == ()


def test_a_run_under_way_may_be_ahead_of_the_records_read_before(
    store: Store, ids: list[str]
) -> None:
    (store.run_folder(ids[2]) / "epochs.jsonl").unlink()
    with store.run_lock(ids[2]):
        assert verify_store(store).damages == ()
    assert len(verify_store(store).damages) == 1


def test_what_a_kill_leaves_is_a_note_and_escapes_do_not_reach_the_terminal(
    store: Store, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (store.run_folder(ids[0]) / ".result.json.ab12").write_text("{")
    (store.runs_folder / "\x1b[2Jnot a run").mkdir()
    assert main(["verify", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "was left by a process that was killed" in out
    assert "\x1b" not in out
    assert out.endswith("3 runs and 1 sweep: nothing damaged.\n")


def test_the_command_names_file_and_cost_and_ends_with_1(
    store: Store, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (store.run_folder(ids[0]) / "result.json").write_text("{")
    assert main(["verify", str(store.root)]) == 1
    out = capsys.readouterr().out
    assert f"runs/{ids[0]}/result.json does not parse" in out
    assert "costs: 3 epochs of training" in out
    assert "1 damage." in out


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        ({"tuned": "x"}, "holds no list of names under tuned", "remove the file and start"),
        ({"schema": 2}, "holds schema 2", "use the release that wrote it"),
    ],
)
def test_a_damaged_plan_is_to_be_removed_and_a_newer_one_is_not(
    changes: dict, what: str, remedy: str, store: Store
) -> None:
    edit(store.sweep_folder("mine") / "plan.json", **changes)
    (damage,) = verify_store(store).damages
    assert (damage.path, damage.what) == ("sweeps/mine/plan.json", what)
    assert damage.cost.startswith(f"which runs the sweep asked for; no run: {remedy}")


def test_of_absent_runs_it_is_said_what_a_search_does_about_them(
    store: Store, ids: list[str]
) -> None:
    shutil.rmtree(store.run_folder(ids[0]))
    (note,) = verify_store(store).notes
    assert note.endswith("plans 1 run that the store does not hold; its command trains it.")
    edit(store.sweep_folder("mine") / "plan.json", tuned=["optimizer.learning_rate"])
    (note,) = verify_store(store).notes
    assert "trains only what it reports or has yet to compare; what it decided" in note
