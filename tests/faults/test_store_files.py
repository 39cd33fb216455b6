"""Every kind of file of the store truncated, emptied, or as a newer release would write it.

A sweep of two runs is stopped when one is done and the other has two of three epochs. Then a file
is damaged and the same command given again. Either it goes on to the undisturbed outcome, or it
says in a sentence which file it is and what to do; that done, it goes on to that outcome.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mtl.errors import StoreError
from mtl.store import Store
from mtl.training import load_network
from tests.faults.tiny_sweep import Sweeps, after_epoch, assert_as_undisturbed, finished_files

EPOCHS = ("--epochs", "3")


def truncate(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_newer(path: Path) -> None:
    """Rewrite the file as of a schema that this release does not know."""
    if path.suffix == ".pt":
        torch.save(torch.load(path, weights_only=True) | {"schema": 99}, path)
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) | {"schema": 99} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))


DAMAGES = {"truncated": truncate, "empty": empty, "newer": make_newer}


def interrupt() -> None:
    raise KeyboardInterrupt


class Half:
    """A store with a finished run and one running, its report and a sweep's files."""

    def __init__(self, root: Path, sweeps: Sweeps) -> None:
        self.root, self.sweeps = root, sweeps
        (self.done,) = (path.parent for path in root.glob("runs/*/result.json"))
        (self.open,) = (path for path in root.glob("runs/*") if path != self.done)
        self.sweep = root / "sweeps/priority_grid"

    def again(self, *more: str) -> tuple[int, str]:
        """Give the same command again; return exit status and standard error."""
        status, _, message = self.sweeps.here(self.root, *EPOCHS, *more)
        assert message.count("\n") <= 1, "one sentence"
        assert "Traceback" not in message
        return status, message


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("half") / "store"


@pytest.fixture
def half(sweeps: Sweeps, stopped: Path, tmp_path: Path) -> Half:
    """Return a copy of the stopped sweep."""
    if not stopped.exists():
        sweeps.wrap = after_epoch("fixed", 2, interrupt)
        status, _, message = sweeps.here(stopped, *EPOCHS)
        sweeps.wrap = lambda train: train
        assert (status, message.count("\n")) == (1, 1)
        assert "Stopped." in message
    return Half(Path(shutil.copytree(stopped, tmp_path / "store")), sweeps)


def lease(half: Half) -> Path:
    return half.sweep / "lease.json"


@pytest.mark.parametrize("how", DAMAGES)
def test_files_that_can_be_written_again_are(how, half, undisturbed):
    finished, begun = half.done / "spec.json", half.open / "spec.json"
    whole = [finished.read_bytes(), begun.read_bytes()]
    paths = [finished, begun, half.sweep / "events.jsonl", half.sweep / "status.json"]
    if how != "newer":  # the first two know no schema; another release may run under the third
        paths += [half.open / ".lock", next(half.open.glob("samples/*.npz")), lease(half)]
    for path in paths:
        DAMAGES[how](path)
    kept = finished_files(half.root)
    del kept[finished]
    assert half.again() == (0, "")
    assert_as_undisturbed(half.root, undisturbed(*EPOCHS), kept)
    assert [finished.read_bytes(), begun.read_bytes()] == whole


def remove_file(half: Half, path: Path) -> None:
    path.unlink()


def remove_run(half: Half, path: Path) -> None:
    shutil.rmtree(half.open)


def write_marker(half: Half, path: Path) -> None:
    path.write_text('{"schema": 1}')


Remedy = Callable[[Half, Path], None]
NEED_THEIR_USER: dict[str, tuple[Callable[[Half], Path], str, Remedy]] = {
    "store": (lambda half: half.root / "store.json", 'write {"schema": 1} into it', write_marker),
    "plan": (lambda half: half.sweep / "plan.json", "Remove the file", remove_file),
    "result": (lambda half: half.done / "result.json", "Remove the file", remove_file),
    "manifest": (lambda half: half.open / "manifest.json", "Remove the file", remove_file),
    "epochs": (lambda half: half.open / "epochs.jsonl", "to train the run again", remove_run),
    "checkpoint": (lambda half: half.open / "checkpoint/latest.pt", "Remove the file", remove_file),
}
"""Files that nothing but their user can judge: where, what the message says, and doing so."""


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, "truncated") for kind in NEED_THEIR_USER]
    + [("store", "empty"), ("epochs", "empty"), ("checkpoint", "empty")],
)
def test_damaged_file_is_named_with_a_remedy_that_helps(kind, how, half, undisturbed):
    where, advice, remedy = NEED_THEIR_USER[kind]
    path = where(half)
    DAMAGES[how](path)
    kept = {p: v for p, v in finished_files(half.root).items() if p != path}
    status, message = half.again()
    assert status == 1
    assert advice in message
    assert path.parent.name in message
    remedy(half, path)
    lost = {half.done.name} if kind == "result" else set()
    if lost:
        kept = {}  # the run is trained again, as was asked for
    assert half.again("--retry-failed") == (0, "")
    assert_as_undisturbed(half.root, undisturbed(*EPOCHS), kept, lost)


NEWER = {kind: where for kind, (where, *_) in NEED_THEIR_USER.items() if kind != "manifest"}
NEWER["lease"] = lease
"""Files that a newer release may have written, and go on with."""


@pytest.mark.parametrize("kind", NEWER)
def test_file_of_a_newer_release_is_refused_and_left(kind, half, undisturbed):
    path = NEWER[kind](half)
    known, kept = path.read_bytes(), finished_files(half.root)
    make_newer(path)
    newer = path.read_bytes()
    status, message = half.again()
    assert status == 1
    assert "release that wrote" in message
    assert path.read_bytes() == newer
    path.write_bytes(known)  # as if that release had gone on and ended
    assert half.again("--retry-failed") == (0, "")
    kept.pop(path, None)
    assert_as_undisturbed(half.root, undisturbed(*EPOCHS), kept)


@pytest.mark.parametrize(
    ("kind", "how"),
    [("epochs.jsonl", "truncated"), ("epochs.jsonl", "newer")]
    + [("checkpoint/weights.pt", how) for how in DAMAGES],
)
def test_damage_beside_a_result_is_named_by_its_reader(kind, how, half, undisturbed):
    path = half.done / kind
    DAMAGES[how](path)
    kept = finished_files(half.root)
    assert half.again() == (0, "")  # the result stands, and the other run goes on
    results = {path.parent.name: path.read_bytes() for path in half.root.glob("runs/*/result.json")}
    assert results == {run_id: result for run_id, (result, *_) in undisturbed(*EPOCHS).items()}
    assert all((p.stat().st_mtime_ns, p.read_bytes()) == v for p, v in kept.items())
    store = Store(half.root)
    if (kind, how) == ("epochs.jsonl", "truncated"):  # whole lines count
        assert len(store.epochs(half.done.name)) < int(EPOCHS[1])
        return
    read = store.epochs if kind == "epochs.jsonl" else partial(load_network, store)
    with pytest.raises(StoreError, match=r"Expected .* in .*" + path.name):
        read(half.done.name)
