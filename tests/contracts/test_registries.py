"""The names in `mtl.spec`, known without torch, are those of the registries."""

import inspect

import pytest

from mtl import spec
from mtl.data.scenes import SCENES_VERSION, VARIANTS
from mtl.data.sources import SOURCES
from mtl.networks import ARCHITECTURES
from mtl.records import METRIC_ALIASES, METRICS, PLOTTED_METRIC, TASK_METRICS, task_metric
from mtl.tasks import TASKS
from mtl.weighting import WEIGHTINGS, build_weighting


def test_names_agree() -> None:
    assert set(spec.METHODS) == set(WEIGHTINGS)
    assert set(spec.TASKS) == set(TASKS) == set(TASK_METRICS) == set(PLOTTED_METRIC)
    assert set(spec.ARCHITECTURES) == set(ARCHITECTURES)
    assert set(spec.DATASETS) == set(SOURCES)
    assert set(spec.SCENE_VARIANTS) == set(VARIANTS)
    assert spec.SCENES_VERSION == SCENES_VERSION


@pytest.mark.parametrize("method", sorted(WEIGHTINGS))
def test_methods_take_what_the_spec_says(method: str) -> None:
    needs = spec.METHODS[method]
    parameters = inspect.signature(WEIGHTINGS[method]).parameters
    named = {name: p.default for name, p in parameters.items() if name != "tasks"}
    assert (named.pop("priorities", "absent") is None) == needs.takes_priorities
    assert named == needs.options  # the same options with the same defaults
    build_weighting(method, ("a", "b"), **needs.options)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_tasks_measure_what_the_records_name(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    from mtl.data.sources import DataInfo

    info = DataInfo(classes=("a", "b"), depth_range_m=(1.0, 10.0))
    measured = task.metrics(info).compute()
    assert tuple(measured) == TASK_METRICS[name]
    assert set(measured.values()) == {None}  # nothing was added yet
    assert METRICS[PLOTTED_METRIC[name]].direction == "max"


def test_metric_names_and_aliases() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())
    assert set(METRIC_ALIASES.values()) <= set(METRICS)
    assert task_metric("segmentation", "acc").name == "pixel_accuracy"
    with pytest.raises(ValueError, match="Unknown metric of task 'depth' 'miou'.*delta1"):
        task_metric("depth", "miou")
    assert METRICS["delta1"].shown(0.8126) == "81.3%"
    assert METRICS["rmse"].shown(0.54) == "0.540 m"
    assert METRICS["rmse"].shown(None) == "none"
