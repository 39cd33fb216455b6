"""Sweeps whose runs are forked from a trunk: trained first, once, and never reported."""

import json
from dataclasses import replace

import pytest

from analysis.load.groups import comparable_groups
from analysis.load.plans import planned_or_present
from mtl.spec import RunSpec, Runtime, trunk_of
from mtl.store import Store
from mtl.training import fit
from sweeps.plan import Grid, grid_specs, trunks_of
from sweeps.plan.cost import estimate
from sweeps.priority_grid import GRID, main
from tests.sweeps.played import PlayedLaunch

pytestmark = pytest.mark.usefixtures("two_cpus")

FORKED = ("--fork-at", "0.5", "--divisions", "4", "--epochs", "4", "--seeds", "1")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> PlayedLaunch:
    return PlayedLaunch(monkeypatch)


def grid(**changes: object) -> Grid:
    fields = {**GRID.fields, "epochs": 4}
    values = {"divisions": 4, "seeds": 1, "fork_at": 0.5, "fields": fields}
    return Grid(**({**vars(GRID), **values} | changes))


def keep_state(store: Store, run_id: str) -> None:
    store.write_large(store.run_key(run_id, "checkpoint", "latest.pt"), b"state")


def test_priorities_of_a_method_and_seed_share_a_trunk() -> None:
    specs = grid_specs(grid(methods=("lsb", "fixed", "equal"), seeds=2, baselines=True))
    forks = [spec for spec in specs if spec.trunk is not None]
    assert {spec.method for spec in forks} == {"lsb", "fixed"}
    assert len(forks) == 2 * 3 * 2
    trunks = trunks_of(specs)
    assert [(t.method, t.seed, t.epochs, t.priorities) for t in trunks] == [
        (method, seed, 2, (0.5, 0.5)) for seed in (0, 1) for method in ("lsb", "fixed")
    ]
    assert all(spec.own_epochs == 2 for spec in forks)
    whole = grid_specs(grid(methods=("lsb", "fixed", "equal"), seeds=2, fork_at=None))
    assert [spec.priorities for spec in whole] == [s.priorities for s in specs if len(s.tasks) > 1]


@pytest.mark.parametrize(
    ("share", "message"),
    [(0.0, "between 0 and 1, got 0"), (1.0, "between"), (0.1, "at least one of 4"), (0.9, "of 4")],
)
def test_fork_without_epochs_before_or_after_it_is_refused(share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_specs(grid(fork_at=share))


def test_forked_grid_of_n_priorities_costs_1_plus_n_in_2n_trainings() -> None:
    def seconds(specs: list[RunSpec]) -> float:
        runs = {spec.run_id(): spec for spec in specs}
        held = estimate(runs, store=None, runtime=Runtime(), concurrency=1, num_cpus=1)
        return sum(high for _, high in held.run_seconds.values())

    forks = grid_specs(grid(methods=("lsb",), divisions=8))
    whole = grid_specs(grid(methods=("lsb",), divisions=8, fork_at=None))
    assert seconds([*trunks_of(forks), *forks]) / seconds(whole) == pytest.approx((1 + 7) / 14)


def test_trunks_are_trained_first_and_once_and_not_reported(tmp_path, launched) -> None:
    arguments = [*FORKED, "--store", str(tmp_path / "store")]
    assert main(arguments) == 0
    forks = grid_specs(grid())
    trunks = [trunk.run_id() for trunk in trunks_of(forks)]
    ids = [spec.run_id() for spec in forks]
    assert launched.trained == [*trunks, *ids]
    assert launched.reported == [6]
    store = Store(tmp_path / "store")
    assert planned_or_present([store]) == ids
    plan = json.loads((store.sweep_folder("priority_grid") / "plan.json").read_text())
    assert [r.get("reported", True) for r in plan["revisions"]] == [False, True]
    assert main(arguments) == 0
    assert len(launched.trained) == 8
    # More priorities: the trunk of one method has lost its state.
    keep_state(store, trunks[0])
    assert main([*arguments, "--divisions", "8"]) == 0
    assert launched.trained[8:9] == trunks[1:]
    assert len(launched.trained) == 8 + 1 + 2 * (7 - 3)


def test_sweep_stopped_among_its_trunks_goes_on(tmp_path, launched, capsys) -> None:
    arguments = [*FORKED, "--store", str(tmp_path / "store")]
    launched.stop_after = 1
    assert main(arguments) == 1
    assert launched.reported == []
    assert "Stopped by SIGTERM with 1 of 2 runs done" in capsys.readouterr().err
    keep_state(Store(tmp_path / "store"), launched.trained[0])
    launched.stop_after = None
    assert main(arguments) == 0
    assert len(launched.trained) == len(set(launched.trained)) == 8


def test_forks_fail_with_their_trunk_and_the_others_are_trained(tmp_path, launched, capsys) -> None:
    arguments = [*FORKED, "--store", str(tmp_path / "store")]
    trunk = trunks_of(grid_specs(grid()))[1].run_id()
    launched.failing = {trunk}
    assert main(arguments) == 1
    assert len(launched.trained) == 1 + 3
    assert launched.reported == [6]
    said = capsys.readouterr()
    assert "3 of 6 runs done." in said.out
    assert "3 runs failed" in said.err
    assert f"Its trunk, run {trunk}, failed: no" in said.err
    store = Store(tmp_path / "store")
    status = json.loads((store.sweep_folder("priority_grid") / "status.json").read_text())
    assert (status["state"], status["done"], status["failed"]) == ("finished", 3, 3)
    # They stay failed until they are asked for again, and their trunk with them.
    assert main([*arguments, "--plan"]) == 0
    assert "3 done, 0 to do, 3 failed earlier" in capsys.readouterr().out
    assert main(arguments) == 1
    assert len(launched.trained) == 1 + 3
    launched.failing = set()
    assert main([*arguments, "--retry-failed"]) == 0
    assert launched.trained[4:5] == [trunk]
    assert len(launched.trained) == 2 + 6


def test_plan_counts_the_trunks(tmp_path, capsys) -> None:
    assert main([*FORKED, "--store", str(tmp_path / "store"), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "6 runs: 0 done, 6 to do (12 epochs)" in said
    assert "Before them 2 trunks of 2 epochs at equal priorities" in said
    assert "trunk=" not in said


def test_forked_and_whole_trainings_are_told_apart() -> None:
    specs = grid_specs(grid(seeds=2)) + grid_specs(grid(seeds=2, fork_at=None))
    groups = comparable_groups({spec.run_id(): spec for spec in specs})
    assert {label: len(ids) for label, ids in groups.items()} == {
        "forked_after=2": 12, "forked_after=None": 12,
    }  # fmt: skip


def test_search_is_not_forked(tmp_path, capsys) -> None:
    from sweeps.pareto_search import main as search

    assert search(["--fork-at", "0.5", "--store", str(tmp_path / "store")]) == 2
    assert "Expected no --fork-at" in capsys.readouterr().err


@pytest.mark.slow
def test_forked_sweep_trains_what_its_runs_train_alone(tmp_path) -> None:
    runtime = Runtime(device="cpu", num_threads=1, data_root=str(tmp_path / "data"))
    sets = [f"{k}={v}" for k, v in (("data.height", 32), ("data.width", 32))]
    sets += [f"data.num_{split}=8" for split in ("train", "validation", "test")]
    where = ["--store", str(tmp_path / "store"), "--data-root", str(tmp_path / "data")]
    assert main([*FORKED, *where, "--methods", "lsb", "--set", *sets]) == 0
    store, alone = Store(tmp_path / "store"), Store(tmp_path / "alone")
    for run_id in planned_or_present([store]):
        spec = store.spec(run_id)
        assert isinstance(spec, RunSpec)
        fit(trunk_of(spec, 2), alone, replace(runtime, keep="last"))
        assert fit(spec, alone, runtime) == store.result(run_id)
