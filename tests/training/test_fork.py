"""Runs that go on from a trunk at other priorities."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtl.errors import StoreError, UsageError
from mtl.spec import RunSpec, Runtime, forked, trunk_of
from mtl.spec.methods import METHODS
from mtl.store import Store
from mtl.training import fit
from tests.training.runs import assert_same_outcome, interrupt, outcome, tiny

PRIORITISED = sorted(method for method in METHODS if METHODS[method].takes_priorities)
FALLING = {"learning_rate": 1e-3, "schedule": "cosine", "warmup_share": 0.3}


def trained(spec: RunSpec, store: Store, runtime: Runtime) -> RunSpec:
    """Train the trunk of a forked run, and the run."""
    assert spec.forked_after is not None
    fit(trunk_of(spec, spec.forked_after), store, replace(runtime, keep="last"))
    fit(spec, store, runtime)
    return spec


@pytest.mark.parametrize("method", PRIORITISED)
def test_fork_at_equal_priorities_is_the_whole_training(
    method: str, tmp_path: Path, runtime: Runtime
) -> None:
    whole = tiny(method=method, optimizer=FALLING)
    store = Store(tmp_path / "store")
    fork = trained(forked(whole, 2), store, runtime)
    fit(whole, store, runtime)
    forked_outcome, whole_outcome = (outcome(store, run.run_id()) for run in (fork, whole))
    assert fork.run_id() != whole.run_id()
    assert [record["epoch"] for record in forked_outcome[1]] == [1, 2, 3]
    assert forked_outcome[1] == whole_outcome[1]
    for name, weights in whole_outcome[2].items():
        assert torch.equal(forked_outcome[2][name], weights)
    assert fit(fork, store, runtime).final_metrics == fit(whole, store, runtime).final_metrics


def test_killed_fork_ends_as_an_unkilled_one(tmp_path: Path, runtime: Runtime) -> None:
    spec = forked(tiny(priorities=[0.8, 0.2], epochs=4, selection="validation"), 1)
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    trained(spec, whole, runtime)
    fit(trunk_of(spec, 1), killed, replace(runtime, keep="last"))
    for _ in range(2):
        interrupt(spec, killed, runtime)
    fit(spec, killed, runtime)
    assert_same_outcome(killed, whole, spec.run_id())
    records = whole.epochs(spec.run_id())
    assert records[0].weights == pytest.approx([0.5, 0.5])
    assert records[1].weights is not None
    first, second = records[1].weights
    scales = records[0].losses
    assert first * scales[0] / (first * scales[0] + second * scales[1]) == pytest.approx(0.8)


def test_trunk_is_shared_and_trained_again_only_where_its_state_is_gone(
    tmp_path: Path, runtime: Runtime
) -> None:
    forks = [forked(tiny(priorities=[p, 1 - p], epochs=2), 1) for p in (0.2, 0.8)]
    trunk = trunk_of(forks[0], 1)
    assert {fork.trunk for fork in forks} == {trunk.run_id()}
    assert trunk_of(forks[1], 1) == trunk
    store = Store(tmp_path / "store")
    fit(trunk, store, runtime)  # as a run of its own, which leaves its weights
    with pytest.raises(StoreError, match=r"after epoch 1 of run .* got none\. Train it"):
        fit(forks[0], store, runtime)
    before = outcome(store, trunk.run_id())
    epochs: list[int] = []
    for _ in range(2):
        fit(trunk, store, replace(runtime, keep="last"), on_epoch=lambda r: epochs.append(r.epoch))
    assert epochs == [1]
    assert outcome(store, trunk.run_id())[:2] == before[:2]
    results = [fit(fork, store, runtime) for fork in forks]
    assert results[0].final_metrics != results[1].final_metrics


def test_impossible_forks_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(UsageError, match="forked_after from 1 to 2"):
        forked(tiny(), 3)
    with pytest.raises(UsageError, match="takes priorities"):
        forked(tiny(method="dwa"), 1)
    with pytest.raises(UsageError, match="trunk and forked_after together"):
        replace(tiny(), forked_after=1)
    other = replace(forked(tiny(), 1), trunk="0" * 16)
    with pytest.raises(UsageError, match=r"Expected the trunk of run .*, got 0000"):
        fit(other, Store(tmp_path / "store"), runtime)
