"""Sweeps with networks mixed between forks: run after their forks, and never without them."""

from dataclasses import replace

import pytest

from analysis.load.groups import comparable_groups
from analysis.load.plans import planned_or_present
from mtl.spec import RunSpec, Runtime, forks_of, trunk_of
from mtl.store import Store
from mtl.store.states import read_runs
from mtl.training import fit
from sweeps.dial import GRID, main
from sweeps.plan import Grid, grid_specs, trunks_of
from sweeps.plan.cost import estimate
from tests.sweeps.played import PlayedLaunch
from tests.sweeps.test_fork import keep_state

pytestmark = pytest.mark.usefixtures("two_cpus")

SMALL = ("--divisions", "4", "--epochs", "4", "--seeds", "1", "--methods", "lsb")
"""A trunk, three forks, and two networks between them."""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> PlayedLaunch:
    return PlayedLaunch(monkeypatch)


def grid(**changes: object) -> Grid:
    fields = {**GRID.fields, "epochs": 4}
    values = {"divisions": 4, "seeds": 1, "methods": ("lsb",), "fields": fields}
    return Grid(**({**vars(GRID), **values} | changes))


def test_equal_steps_between_neighbouring_forks() -> None:
    specs = grid_specs(grid(mixes=3, methods=("lsb", "equal"), seeds=2, baselines=True))
    held = [spec for spec in specs if spec.is_mixed]
    assert held == specs[-len(held) :]
    assert [spec.seed for spec in held] == [0] * 6 + [1] * 6
    assert [(spec.priorities[0], spec.mix) for spec in held[:6]] == [
        (0.3125, 0.25), (0.375, 0.5), (0.4375, 0.75),
        (0.5625, 0.25), (0.625, 0.5), (0.6875, 0.75),
    ]  # fmt: skip
    assert {fork.run_id() for spec in held for fork in forks_of(spec)} == {
        spec.run_id() for spec in specs if spec.trunk and not spec.is_mixed
    }
    assert len(trunks_of(specs)) == 2
    assert trunks_of(held) == []


def test_neighbours_of_three_tasks_are_a_division_apart() -> None:
    tasks = (("depth", "normal", "segmentation"),)
    held = [spec for spec in grid_specs(grid(task_sets=tasks, divisions=5)) if spec.is_mixed]
    # Interior lattice points of 5: a triangle of 3 + 2 + 1, with 9 sides of small triangles.
    assert len(held) == 9
    for spec in held:
        a, b = spec.mixed_between
        assert sorted(round(5 * (x - y)) for x, y in zip(a, b, strict=True)) == [-1, 0, 1]


def test_mixes_need_forks_and_their_weights(tmp_path, capsys) -> None:
    with pytest.raises(ValueError, match="Expected --fork-at with --mixes 1, got none"):
        grid_specs(grid(fork_at=None))
    for more, says in (
        (("--mixes", "-1"), "--mixes of 0 or more, got -1"),
        (("--refine", "1"), "Expected --refine or --mixes"),
        (("--keep", "none"), "--keep final or all with --mixes"),
    ):
        assert main([*SMALL, *more, "--store", str(tmp_path / "store")]) == 2
        assert says in capsys.readouterr().err


def test_mixed_runs_follow_their_forks_and_are_reported(tmp_path, launched) -> None:
    arguments = [*SMALL, "--store", str(tmp_path / "store")]
    assert main(arguments) == 0
    specs = grid_specs(grid())
    ids = [spec.run_id() for spec in specs]
    assert launched.trained == [trunks_of(specs)[0].run_id(), *ids]
    assert launched.reported == [5]
    assert planned_or_present([Store(tmp_path / "store")]) == ids
    assert main(arguments) == 0
    assert len(launched.trained) == 6
    # More between the same forks: the trunk, which has lost its state, is not needed.
    assert main([*arguments, "--mixes", "3"]) == 0
    assert len(launched.trained) == 6 + 4
    assert list(comparable_groups({spec.run_id(): spec for spec in specs})) == [""]


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_sweep_stopped_among_trunk_forks_or_mixed_runs_goes_on(
    stop_after, tmp_path, launched
) -> None:
    arguments = [*SMALL, "--store", str(tmp_path / "store")]
    launched.stop_after = stop_after
    assert main(arguments) == 1
    assert launched.reported == []
    keep_state(Store(tmp_path / "store"), launched.trained[0])
    launched.stop_after = None
    assert main(arguments) == 0
    assert len(launched.trained) == len(set(launched.trained)) == 6
    assert launched.reported == [5]


def test_mixed_runs_fail_with_a_fork_and_the_others_are_run(tmp_path, launched, capsys) -> None:
    arguments = [*SMALL, "--store", str(tmp_path / "store")]
    specs = grid_specs(grid())
    fork = next(spec for spec in specs if spec.priorities == (0.25, 0.75)).run_id()
    launched.failing = {fork}
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "3 of 5 runs done." in said.out
    assert len(launched.trained) == 1 + 2 + 1
    store = Store(tmp_path / "store")
    (lost,) = (s for s in specs if s.is_mixed and (0.25, 0.75) in s.mixed_between)
    assert (store.error(lost.run_id()) or "").strip() == f"Its fork, run {fork}, failed: no."
    keep_state(store, launched.trained[0])
    assert main([*arguments, "--plan"]) == 0
    assert "3 done, 0 to do, 2 failed earlier" in capsys.readouterr().out
    # It fails once a command, and is trained with what hangs on it once it no longer does.
    assert main([*arguments, "--retry-failed"]) == 1
    assert len(launched.trained) == 4
    launched.failing = set()
    assert main([*arguments, "--retry-failed"]) == 0
    assert launched.trained[4:] == [fork, lost.run_id()]


def test_plan_says_that_mixed_runs_train_nothing(tmp_path, capsys) -> None:
    assert main([*SMALL, "--store", str(tmp_path / "store"), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "5 runs: 0 done, 5 to do (6 epochs)" in said
    assert "2 of the runs are mixed, networks between two forks: they train no epochs" in said
    assert said.count("lsb, mixed") == 2
    assert "mixed_between=" not in said


def test_mixed_run_costs_less_than_an_epoch() -> None:
    specs = grid_specs(grid())
    held = estimate(
        {spec.run_id(): spec for spec in specs},
        store=None, runtime=Runtime(), concurrency=1, num_cpus=1,
    ).run_seconds  # fmt: skip
    fork, between = held[specs[0].run_id()], held[specs[-1].run_id()]
    assert between == pytest.approx([side / 2 / 3 for side in fork])


@pytest.mark.slow
def test_dial_runs_what_its_runs_are_alone(tmp_path) -> None:
    runtime = Runtime(device="cpu", num_threads=1, data_root=str(tmp_path / "data"))
    sets = [f"{k}={v}" for k, v in (("data.height", 32), ("data.width", 32))]
    sets += [f"data.num_{split}=8" for split in ("train", "validation", "test")]
    where = ["--store", str(tmp_path / "store"), "--data-root", str(tmp_path / "data")]
    assert main([*SMALL, *where, "--pack", "2", "--set", *sets]) == 0
    store, alone = Store(tmp_path / "store"), Store(tmp_path / "alone")
    runs = read_runs(store, planned_or_present([store]), manifests=True)
    assert len(runs) == 5
    for run_id, run in runs.items():
        assert isinstance(run.spec, RunSpec)
        fit(trunk_of(run.spec, 2), alone, replace(runtime, keep="last"))
        assert fit(run.spec, alone, runtime) == run.result, run_id
        packed = run.manifest["execution"].get("packed", 1)
        assert packed == 1 or not run.spec.is_mixed
    report = (store.sweep_folder("dial") / "report" / "report.html").read_text("utf-8")
    assert "lsb, mixed" in report
