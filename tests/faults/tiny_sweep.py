"""Tiny sweeps that a test disturbs, and what is compared afterwards: bytes.

A sweep runs either as its user runs it, a process with Ray (`start`), or in this process with the
same command line, launch, journal and worker but without Ray (`Sweeps.here`), where a fault needs
no cluster.
"""

import contextlib
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtl.store import Store
from sweeps import command, priority_grid
from sweeps.launch import driver, tune, worker
from tests.sweeps.launch.stage import node, play_ray

SCRIPT = Path(__file__).parents[2] / "sweeps" / "priority_grid.py"
TINY = [
    "--divisions", "2", "--methods", "lsb", "fixed", "--seeds", "1",
    "--set", "data.num_train=8", "data.num_validation=4", "data.num_test=4", "data.height=16",
    "data.width=16", "network.architecture=small_net:SmallNet", "--checkpoint-seconds", "0.2",
]  # fmt: skip
"""Two runs of a hundredth of a second an epoch, with code from outside (docs/extending.md), and
mostly some epochs recorded beyond the last checkpoint."""
ENDED = "it had ended: the fault did not happen"

Outcome = dict[str, tuple[bytes, str, str]]
"""Run id -> result.json, epoch records without seconds, hash of the final weights."""


def options(data_root: str, *more: str) -> list[str]:
    """Return the options of a tiny sweep without its store."""
    return [*TINY, "--data-root", data_root, *more]


def command_line(store: Path, *more: str) -> list[str]:
    """Return the command line of a sweep into `store`."""
    return [sys.executable, str(SCRIPT), "--store", str(store), *more]


def start(
    store: Path, *more: str, process_group: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start a sweep as a process with Ray; with `process_group` 0 it leads a group of its own."""
    return subprocess.Popen(
        command_line(store, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        process_group=process_group,
    )


def finish(store: Path, *more: str, **environment: str) -> str:
    """Run a sweep to its end, which must be a good one; return what it printed."""
    with start(store, *more, **environment) as process:
        out, said = process.communicate(timeout=400)
    assert (process.returncode, said) == (0, "")
    return out


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 240.0) -> None:
    """Wait for `condition`, which must come about before something else is seen to hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def num_epochs(store: Path) -> int:
    """Return the epochs on record of all runs together."""
    return sum(len(path.read_bytes().splitlines()) for path in store.glob("runs/*/epochs.jsonl"))


def wait_for_epochs(store: Path, least: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many epochs are on record; the process that trains them must not have ended."""
    wait_until(lambda: num_epochs(store) >= least or process.poll() is not None, f"{least} epochs")
    assert process.poll() is None, ENDED


def assert_resumes(store: Path, argv: list[str], expected: Outcome) -> str:
    """Give the command again; compare with an undisturbed sweep; return what it printed."""
    kept = finished_files(store)
    out = finish(store, *argv)
    assert_as_undisturbed(store, expected, kept)
    return out


def fill_disk(ballast: Path) -> None:
    """Write a file until there is not a byte left on its disk."""
    with contextlib.suppress(OSError), open(ballast, "wb", 0) as file:
        while file.write(bytes(4096)):
            continue
    assert os.statvfs(ballast).f_bavail == 0, "the fault did not happen"


def outcome(store: Path) -> Outcome:
    """Return what the finished runs of a store are."""
    found = {}
    for path in store.glob("runs/*/result.json"):
        lines = (path.parent / "epochs.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            del record["seconds"]
        weights = (path.parent / "checkpoint/weights.pt").read_bytes()
        found[path.parent.name] = (
            path.read_bytes(),
            json.dumps(records),
            hashlib.sha256(weights).hexdigest(),
        )
    return found


def finished_files(store: Path) -> dict[Path, tuple[int, bytes]]:
    """Return path -> time of writing and content, of every file of every finished run."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for result in store.glob("runs/*/result.json")
        for path in result.parent.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def events(store: Path, name: str = "priority_grid") -> list[dict[str, Any]]:
    """Return the whole lines of a sweep's events.jsonl."""
    lines = (store / "sweeps" / name / "events.jsonl").read_text().splitlines()
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line torn by a kill
            found.append(json.loads(line))
    return found


def assert_as_undisturbed(
    store: Path,
    expected: Outcome,
    finished_before: dict[Path, tuple[int, bytes]],
    lost: Set[str] = frozenset(),
) -> None:
    """Compare with an undisturbed sweep bit for bit; what was finished must not be touched.

    Args:
        store: the disturbed one, after the last start.
        expected: the undisturbed outcome.
        finished_before: `finished_files` before the last start.
        lost: runs whose result the fault itself destroyed.
    """
    assert outcome(store) == expected
    for path, before in finished_before.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == before, path
    ended = Counter(
        (journal, event["run_id"])
        for journal in store.glob("sweeps/*/events.jsonl")
        for event in events(store, journal.parent.name)
        if event["event"] == "run_done"
    )
    assert {run_id for (_, run_id), times in ended.items() if times > 1} <= lost, (
        "a run was trained twice"
    )
    for run_id in expected:
        begun = Store(store).manifest(run_id)["started_epochs"]
        assert begun == sorted(begun), "an epoch that was finished was trained again"


def descendants(process: subprocess.Popen[str], beginning: str) -> list[psutil.Process]:
    """Return the living processes below `process` whose command line begins so."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if beginning in " ".join(child.cmdline()[:1]):
                found.append(child)
    return found


def lives(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that nobody has waited for has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def printed_seed(seed: int) -> random.Random:
    """Return a generator whose seed pytest shows with a failure."""
    print(f"seed of the fault: {seed}")
    return random.Random(seed)


@dataclass
class Sweeps:
    """Runs sweeps in this process, Ray left out; a test may put faults in their way.

    Reports, which take half the time, are left out too.
    """

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    data_root: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda train: train
    """Takes `mtl.training.fit.fit` and returns what is called instead."""
    trained: Counter[str] = field(default_factory=Counter)
    """run id -> epochs trained, over all starts."""

    def __post_init__(self) -> None:
        play_ray(self.monkeypatch, lambda: [node(CPU=1.0)])
        self.monkeypatch.setattr(command, "write_reports", lambda *_: True)
        self.monkeypatch.setattr(
            driver,
            "launch",
            functools.partial(driver.launch, run_round=self._round, train=self._fit),
        )

    def here(self, store: Path, *more: str) -> tuple[int, str, str]:
        """Run a tiny sweep into `store`; return exit status, standard output and error."""
        self.capsys.readouterr()
        argv = ["--store", str(store), *options(self.data_root, *more)]
        status = priority_grid.main(argv)
        out, said = self.capsys.readouterr()
        return status, out, said

    def _fit(self, spec: Any, store: Any, runtime: Any, on_epoch: Callable[[Any], None]) -> Any:
        from mtl.training import fit

        def counted(record: Any) -> None:
            self.trained[spec.run_id()] += 1
            on_epoch(record)

        return self.wrap(fit)(spec, store, runtime, on_epoch=counted)

    def _round(
        self, run_ids: Any, trainable: Any, _resources: Any, tracker: Any, signals: Any, _: Path
    ) -> None:
        """Train the runs in turn, with the retries that Ray Tune would make."""
        signals.deferring = True
        for run_id in run_ids:
            tracker.run_started(run_id)
            report = functools.partial(_report, tracker, signals, run_id)
            self.monkeypatch.setattr(worker.tune, "report", report)
            for attempt in range(tune.MAX_RETRIES + 1):
                try:
                    trainable({"run_id": run_id})
                    break
                except _Stopped:
                    signals.deferring = False
                    return
                except Exception as error:
                    if attempt == tune.MAX_RETRIES:
                        tracker.run_given_up(run_id, repr(error))
                    else:
                        tracker.run_retried(run_id, repr(error))
                        tracker.run_started(run_id)
            tracker.tick()
        signals.deferring = False


def after_epoch(
    method: str, epoch: int, act: Callable[[], object]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what calls `act` once, after an epoch of a method's run."""
    acted = False

    def wrap(train: Callable[..., Any]) -> Callable[..., Any]:
        def disturbed(spec: Any, store: Any, runtime: Any, on_epoch: Callable[[Any], None]) -> Any:
            def reported(record: Any) -> None:
                nonlocal acted
                on_epoch(record)
                if (spec.method, record.epoch) == (method, epoch) and not acted:
                    acted = True
                    act()

            return train(spec, store, runtime, on_epoch=reported)

        return disturbed

    return wrap


class _Stopped(BaseException):
    """A signal has come: Tune would end the trial after this report."""


def _report(tracker: Any, signals: Any, run_id: str, metrics: dict[str, Any]) -> None:
    if "state" in metrics:
        tracker.run_ended(run_id, metrics["state"])
    else:
        tracker.run_epoch(run_id, metrics["epoch"], metrics["losses"])
        if signals.received is not None:
            raise _Stopped
