"""Which runs are packed, and what is said of it; no torch."""

from dataclasses import replace

import pytest

from mtl.spec import RunSpec
from sweeps.plan import grid_specs
from sweeps.plan.cost import step_key
from sweeps.plan.packs import at_a_time, fastest, joined, members, pack_notes, packs_of, rates_text
from sweeps.priority_grid import GRID
from tests.spec.test_own_spec import SPEC as OWN

RUNS = {spec.run_id(): spec for spec in grid_specs(replace(GRID, seeds=2))}
IDS = list(RUNS)


def packs(runs: dict, size: int = 4, slots: int = 1, **options: object) -> list[tuple[str, ...]]:
    networks = [spec for spec in runs.values() if isinstance(spec, RunSpec)]
    return packs_of(
        list(runs), runs, dict.fromkeys(map(step_key, networks), size), slots, **options
    )


def test_packs_are_neighbours_of_one_seed_in_the_order_of_the_plan():
    found = packs(RUNS)
    assert sorted(run_id for pack in found for run_id in pack) == sorted(IDS)
    assert found[0] == tuple(IDS[:4])
    assert all(len({RUNS[run_id].seed for run_id in pack}) == 1 for pack in found)
    assert max(map(len, found)) == 4
    firsts = [IDS.index(pack[0]) for pack in found]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7}, {"epochs": 3}, {"batch_size": 4}, {"precision": "bf16"},
        {"horizontal_flips": False}, {"method": "torchjd:UPGrad", "priorities": None},
        {"tasks": ("depth", "normal"), "loss_units": {}},
    ],
)  # fmt: skip
def test_runs_that_share_no_batches_or_cost_are_apart(changes):
    one = next(spec for spec in RUNS.values() if spec.method == "fixed")
    other = replace(one, method_options={}, **changes)
    assert len(packs({spec.run_id(): spec for spec in (one, other)})) == 2
    rate = replace(one.optimizer, learning_rate=1e-5)
    alike = replace(one, priorities=(0.25, 0.75), optimizer=rate)
    assert len(packs({spec.run_id(): spec for spec in (one, alike)})) == 1


def test_mixed_runs_are_alone():
    specs = grid_specs(replace(GRID, seeds=1, methods=("lsb",), fork_at=0.5, mixes=1))
    found = packs({spec.run_id(): spec for spec in specs}, size=8)
    assert sorted(map(len, found)) == [1, 1, 1, 1, 5]


def test_every_slot_gets_a_pack_before_packs_grow():
    eight = dict(list(RUNS.items())[:8])
    assert [len(pack) for pack in packs(eight, size=8, slots=3)] == [3, 3, 2]


def test_suspects_kinds_without_a_size_and_own_functions_are_alone():
    four = dict(list(RUNS.items())[:4])
    assert packs(four, alone={IDS[1]}) == [(IDS[0], IDS[2], IDS[3]), (IDS[1],)]
    assert packs_of(list(four), four, {}, 1) == [(run_id,) for run_id in four]
    own = {seed: replace(OWN, params={"rate": seed}) for seed in ("a", "b")}
    assert packs_of(list(own), own, {}, 1) == [("a",), ("b",)]


def test_config_of_a_trial_holds_the_settings_of_its_members():
    settings = [
        {"run_id": "a" * 16, "method": "lsb", "seed": 0, "priority_depth": 0.25},
        {"run_id": "b" * 16, "method": "fixed", "seed": 0, "priority_depth": None},
    ]
    config = joined(settings)
    assert config["method"] == "lsb, fixed"
    assert (config["seed"], config["priority_depth"]) == (0, "0.25, None")
    assert members(config) == ["a" * 16, "b" * 16]
    assert joined(settings[:1]) == settings[0]


@pytest.mark.parametrize(
    ("rates", "number"),
    [
        ({}, 1), ({1: 10.0}, 1), ({1: 10.0, 2: 10.4}, 1), ({1: 10.0, 2: 15.0, 4: 15.5}, 2),
        ({1: 10.0, 2: 15.0, 4: 20.0, 8: 19.0}, 4), ({1: 10.0, 2: 9.0, 4: 30.0}, 1),
        ({1: 100.0, 2: 101.0, 4: 106.0}, 1),
    ],
)  # fmt: skip
def test_packs_grow_as_long_as_that_is_faster(rates, number):
    assert fastest(rates) == number


def test_what_is_said_of_packs():
    assert pack_notes(1, True) == ()
    assert "one by one" in pack_notes("auto", False)[0]
    assert "not faster" in pack_notes(2, False)[0]
    assert "no gain" in pack_notes(2, None)[0]
    assert "is measured" in pack_notes("auto", True)[0]
    assert at_a_time(2) == "2 runs at a time"
    assert at_a_time(1, 4) == "1 pack of up to 4 runs at a time"
    assert at_a_time(2, "auto") == "2 packs at a time"
    assert "2 at once 1.50 x; 2 runs a pack" in rates_text({1: 10.0, 2: 15.0})
    assert "no room" in rates_text({})
