"""One run of somebody's own training function: identity, strictness, and what the function gets."""

from dataclasses import replace

import pytest

from mtl.spec import OwnSpec, RunSpec, read_spec
from mtl.spec.tasks import DeclaredTask, Metric
from mtl.weighting import build_weighting

MAE = Metric("mae", "degrees", "min")
AUROC = Metric("auroc", "share", "max", low=0.0, high=1.0)
SPEC = OwnSpec(
    train="my_training:train",
    code={"my_training": "0123456789abcdef"},
    tasks=("steering", "drowsiness"),
    metrics={
        "steering": DeclaredTask(metrics=(MAE,), plotted="mae"),
        "drowsiness": DeclaredTask(metrics=(AUROC,), plotted="auroc"),
    },
    priorities=(0.3, 0.7),
    params={"lr": 1e-3, "widths": (64, 32), "augment": {"flip": True, "name": None}},
)


def test_spec_survives_its_file():
    assert read_spec(SPEC.to_dict()) == SPEC
    assert read_spec(RunSpec().to_dict()) == RunSpec()


def test_identity_stands():
    # By NUMERICS_VERSION, from 1; those of earlier versions stay what they were.
    run_ids = ("012344129848b651", "798d3df30bf3ca78")
    found = [replace(SPEC, numerics_version=version).run_id() for version in (1, 2)]
    assert (*found, SPEC.run_id()) == (*run_ids, run_ids[-1])


@pytest.mark.parametrize(
    "changed",
    [
        {"code": {"my_training": "fedcba9876543210"}},
        {"train": "my_training:other"},
        {"params": {**SPEC.params, "lr": 2e-3}},
        {"seed": 1},
        {"method_options": {"increase_rate": 0.05}},
        {"metrics": {**SPEC.metrics, "steering": DeclaredTask(
            metrics=(replace(MAE, unit="radians"),), plotted="mae")}},
    ],
)  # fmt: skip
def test_what_changes_a_result_changes_the_identity(changed):
    assert replace(SPEC, **changed).run_id() != SPEC.run_id()


def test_how_a_metric_is_shown_is_not_its_identity():
    shown = DeclaredTask(metrics=(replace(MAE, decimals=1, meaning="of the wheel"),), plotted="mae")
    assert replace(SPEC, metrics={**SPEC.metrics, "steering": shown}).run_id() == SPEC.run_id()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"params": {"model": object()}}, "Expected finite numbers, texts, lists"),
        ({"params": {"lr": float("nan")}}, "for the param lr, got nan"),
        ({"params": {"seed": 3}}, "other than method, priorities, seed, weighting"),
        ({"train": "train"}, "as module:name, got 'train'"),
        ({"tasks": ("steering",)}, "Expected metrics of steering, got those of"),
        ({"tasks": ()}, "Expected distinct tasks, at least one"),
        ({"method": "equal"}, "Expected no priorities for method 'equal'"),
        ({"method": "lbs"}, "Did you mean"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        replace(SPEC, **changed)


def test_config_builds_the_weighting():
    config = SPEC.config
    assert build_weighting(**config["weighting"]).weights.tolist() == [0.3, 0.7]
    assert config["priorities"] == {"steering": 0.3, "drowsiness": 0.7}
    assert (config["method"], config["seed"], config["lr"]) == ("lsb", 0, 1e-3)
    config["augment"]["flip"] = False  # a function may change what it is given
    assert SPEC.config["augment"]["flip"] is True


def test_param_epochs_tells_how_many_reports_come():
    assert SPEC.epochs is None
    assert replace(SPEC, params={"epochs": 20}).epochs == 20
