"""What a sweep varies, compared: values by hand from small made stores."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.compute.inference import seed_difference_test
from analysis.compute.settings import EPOCH_SECONDS, SettingsComparison
from analysis.load.groups import families_of, groups_of_stores
from analysis.reports import _compared
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec
from mtl.spec.sections import DataSpec, NetworkSpec, OptimizerSpec
from mtl.store import Store
from tests.analysis.conftest import make_spec

SEEDS = (0, 1, 2)
Value = Callable[[RunSpec], float]


def run(method: str = "equal", seed: int = 0, rate: float = 1e-3, num: int = 100, **changes):
    data = DataSpec(**{"variant": "simple", "num_train": num, **changes.pop("data", {})})
    optimizer = OptimizerSpec(learning_rate=rate)
    priority = 0.5 if method in ("lsb", "fixed") else None
    priority = changes.pop("priority", priority)
    return make_spec(method, priority, seed, data=data, optimizer=optimizer, **changes)


def done(store: Store, spec: RunSpec, test: float, validation: float | None = None, **manifest):
    """Write a finished run whose delta1 and miou are `test`, on validation `validation`."""

    def metrics(value: float) -> dict:
        held = {
            "depth": {"delta1": value, "rmse": 2 - value},
            "segmentation": {"miou": value, "pixel_accuracy": value},
            "normal": {"within_30": value, "mean_angle": 30 * (1 - value)},
        }
        return {task: held[task] for task in spec.tasks}

    splits = {
        "validation": metrics(test if validation is None else validation), "test": metrics(test),
    }  # fmt: skip
    run_id = store.write_spec(spec)
    store.write_manifest(run_id, manifest)
    store.write_result(Result(run_id, "done", spec.epochs, "last", spec.epochs, splits, splits))
    return run_id


def compared(store: Store) -> list[SettingsComparison]:
    groups = groups_of_stores([store])
    return [_compared([store], family, groups, {}, False) for family in families_of(groups)]


def fill(store: Store, value: Value, validation: Value | None = None, **changes) -> None:
    """Finish two learning rates x two image counts x two methods x three seeds."""
    for rate in (1e-3, 3e-4):
        for num in (100, 200):
            for method in ("lsb", "equal"):
                for seed in SEEDS:
                    spec = run(method, seed, rate, num, **changes)
                    done(store, spec, value(spec), validation(spec) if validation else None)


def by_hand(spec: RunSpec) -> float:
    is_slow, is_lsb = spec.optimizer.learning_rate < 1e-3, spec.method == "lsb"
    return (
        0.5 + 0.1 * is_slow + 0.04 * is_lsb + 0.02 * (spec.data.num_train == 200) + spec.seed / 1e3
    )


def test_rows_hold_means_spread_and_ranks(store):
    fill(store, by_hand)
    (made,) = compared(store)
    assert set(made.family.fields) == {"optimizer.learning_rate", "data.num_train"}
    assert (len(made.rows), made.num_done, made.num_asked) == (8, 24, 24)
    rates = made.family.fields.index("optimizer.learning_rate")
    images = made.family.fields.index("data.num_train")
    for row in made.rows:
        rate, num = made.value_of(row, rates), made.value_of(row, images)
        mean = by_hand(run(row.arm, 1, rate, num))
        assert row.means["depth_delta1"] == pytest.approx(mean)
        assert row.sds["segmentation_miou"] == pytest.approx(0.001)
        assert row.priorities == ((0.5, 0.5) if row.arm == "lsb" else None)
        assert row.seeds == SEEDS
    # Every metric has the same order, so that a row's rank is its place.
    order = sorted(made.rows, key=lambda row: -row.means["depth_delta1"])
    assert [row.average_rank for row in order] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_best_setting_is_chosen_on_validation_and_shown_on_test(store):
    def misleading(spec: RunSpec) -> float:
        return by_hand(replace(spec, optimizer=OptimizerSpec(learning_rate=1.3e-3 - rate(spec))))

    def rate(spec: RunSpec) -> float:
        return spec.optimizer.learning_rate

    fill(store, by_hand, misleading)
    (made,) = compared(store)
    assert {made.rows[best.row].arm for best in made.best} == {"lsb", "equal"}
    for best in made.best:
        row = made.rows[best.row]
        assert set(made.family.settings[row.settings[0]]) == {1e-3, 200}
        assert row.means["depth_delta1"] == pytest.approx(by_hand(run(row.arm, 1, 1e-3, 200)))
        assert best.num_tried == 4


def test_every_method_has_the_same_settings_to_choose_from(store):
    fill(store, by_hand)
    # One more setting of lsb alone, better than all: it is not tried for the other.
    for seed in SEEDS:
        done(store, run("lsb", seed, 1e-5), 0.99)
    (made,) = compared(store)
    assert {best.num_tried for best in made.best} == {4}
    assert all(made.rows[best.row].means["depth_delta1"] < 0.9 for best in made.best)


def test_no_best_without_validation_or_shared_settings(store):
    for seed in SEEDS:
        done(store, run("lsb", seed, 1e-3), 0.5)
        done(store, run("equal", seed, 1e-4), 0.5)
    (made,) = compared(store)
    assert made.best == ()
    assert any("fewer than two settings have runs of every method" in note for note in made.notes)


def test_pairs_share_seeds_and_differ_in_one_thing(store):
    fill(store, by_hand)
    (made,) = compared(store)
    # Per image count: 2 methods x 1 pair of rates, 2 rates x 1 pair of methods; 2 axes each.
    assert len(made.differences) == 2 * (2 + 2) * 2
    assert {d.varied for d in made.differences} == {"method", "optimizer.learning_rate"}
    for d in made.differences:
        size = 0.04 if d.varied == "method" else 0.1
        assert abs(d.difference) == pytest.approx(size)
        # Three seeds of one sign: 2 of 8 permutations are as far.
        assert (d.p, d.minimum_p, d.seeds) == (0.25, 0.25, SEEDS)
        assert d.p_adjusted == 1.0


def test_settings_stand_in_the_order_of_their_fields(store):
    fill(store, by_hand)
    (made,) = compared(store)
    assert made.family.fields == ("data.num_train", "optimizer.learning_rate")
    first, second = (
        list(dict.fromkeys(values)) for values in zip(*made.family.settings, strict=True)
    )
    assert made.family.settings == tuple(itertools.product(first, second))


def test_rows_without_two_common_seeds_are_not_paired(store):
    for seed in SEEDS:
        done(store, run("lsb", seed), 0.6)
        done(store, run("equal", seed + 2), 0.5)
    done(store, run("equal", 9, 1e-4), 0.5)
    (made,) = compared(store)
    assert made.differences == ()


def test_seed_difference_test_is_exact():
    assert seed_difference_test(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == (2 / 64, 2 / 64)
    assert seed_difference_test(np.zeros(3)) == (1.0, 0.25)
    # |mean| of (3, -1) is 1; of (3, 1) it is 2: all four are at least as far.
    assert seed_difference_test(np.array([3.0, -1.0]))[0] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"num_test": 50}},
        {"data": {"variant": "rooms"}},
        {"data": {"seed": 1}},
        {"data": {"height": 96}},
        {"tasks": ("depth", "normal")},
    ],
)
def test_other_test_images_or_tasks_stay_apart(store, changes):
    done(store, run(), 0.5)
    done(store, run(rate=1e-4), 0.6)
    done(store, run(**changes), 0.7)
    other, one = sorted(compared(store), key=lambda made: len(made.rows))
    assert [len(made.rows) for made in (one, other)] == [2, 1]
    assert one.family.fields == ("optimizer.learning_rate",)
    assert all(made.family.title for made in (one, other))


def test_delta_m_is_relative_to_single_task_networks_of_the_setting(store):
    for encoder, base in (("mobilenetv2_100", 0.5), ("test_efficientnet", 0.4)):
        for seed in SEEDS:
            for tasks, name in (
                (("depth", "segmentation"), "full_sharing"),
                (("depth",), "single_task"),
                (("segmentation",), "single_task"),
            ):
                network = NetworkSpec(encoder=encoder, architecture=name)
                value = base if len(tasks) == 1 else 0.6
                sizes = {"num_parameters": 100, "forward_flops": 7, "peak_memory_bytes": 3}
                run_id = done(
                    store, run("equal", seed, tasks=tasks, network=network), value, **sizes
                )
                record = EpochRecord(1, [1.0] * len(tasks), None, None, None, 1e-3, {}, 2.0)
                store.append_epoch(run_id, record)
    (made,) = compared(store)
    assert made.family.fields == ("network.encoder",)
    joint = [row for row in made.rows if row.arm]
    singles = [row for row in made.rows if not row.arm]
    bases = {"mobilenetv2_100": 0.5, "test_efficientnet": 0.4}
    for row in joint:
        base = bases[made.value_of(row, 0)]
        gain, of_rmse = 100 * (0.6 - base) / base, 100 * (0.6 - base) / (2 - base)
        # Of depth delta1 and rmse, of segmentation two metrics of one value.
        assert row.delta_m[0] == pytest.approx(((gain + of_rmse) / 2 + gain) / 2)
        assert row.delta_m[1] == pytest.approx((3 * gain + of_rmse) / 4)
        assert row.costs["num_parameters"] == 100
        assert row.costs[EPOCH_SECONDS] == 2.0
        assert row.costs["peak_device_bytes"] is None
    assert {made.value_of(row, 0) for row in singles} == {*bases}
    for row in singles:
        assert row.means["depth_delta1"] == pytest.approx(bases[made.value_of(row, 0)])
        # Two networks, trained one after another.
        assert (row.costs["num_parameters"], row.costs[EPOCH_SECONDS]) == (200, 4.0)
        assert row.costs["peak_memory_bytes"] == 3


def test_hypervolumes_need_the_same_priorities_everywhere(store):
    for rate in (1e-3, 1e-4):
        for priority in (0.25, 0.5, 0.75):
            for seed in SEEDS:
                done(store, run("lsb", seed, rate, priority=priority), 0.5 + rate * 100 + seed / 99)
    (made,) = compared(store)
    volumes = {made.value_of(row, 0): row.hypervolume for row in made.rows}
    assert volumes[1e-3] > volumes[1e-4] > 0
    assert "hypervolume" in {d.column for d in made.differences}
    done(store, run("lsb", 0, 1e-4, priority=0.9), 0.5)
    (made,) = compared(store)
    assert [row.hypervolume for row in made.rows] == [None, None]
    assert any(note.startswith("No hypervolume") for note in made.notes)


def test_family_without_results_says_so(store):
    store.write_spec(run())
    store.write_spec(run(rate=1e-4))
    (made,) = compared(store)
    assert (made.rows, made.num_done, made.num_asked) == ((), 0, 2)
