"""What a run tells Ray's metrics: every number of its newest epoch; no Ray is started."""

from mtl.records import EpochRecord
from mtl.spec import RunSpec
from sweeps.launch import worker


def test_every_number_is_told_with_its_tags_and_what_is_absent_is_not(make_tiny):
    spec = RunSpec.from_dict(make_tiny(tasks=["depth", "segmentation"]))
    metrics = {
        "validation": {"depth": {"rmse": 0.5, "delta1": None}, "segmentation": {"miou": 0.25}}
    }
    record = EpochRecord(2, [0.5, None], [1.5, None], [0.75, None], None, 0.1, metrics, 1.0)
    run = {"run": spec.run_id(), "method": spec.method}
    depth, segmentation = {**run, "task": "depth"}, {**run, "task": "segmentation"}
    assert worker.values_of(spec, record) == [
        ("mtl_epoch", run, 2.0),
        ("mtl_epochs_planned", run, 3.0),
        ("mtl_loss", depth, 0.5),
        ("mtl_weight", depth, 1.5),
        ("mtl_loss_scale", depth, 0.75),
        ("mtl_metric", {**depth, "metric": "rmse"}, 0.5),
        ("mtl_metric", {**segmentation, "metric": "miou"}, 0.25),
    ]


def test_tags_are_those_that_the_gauges_declare(make_tiny):
    spec = RunSpec.from_dict(make_tiny())
    tasks = len(spec.tasks)
    metrics = {"validation": {task: {"rmse": 1.0} for task in spec.tasks}}
    record = EpochRecord(1, [1.0] * tasks, [1.0] * tasks, [1.0] * tasks, None, 0.1, metrics, 1.0)
    told = worker.values_of(spec, record)
    assert {name for name, *_ in told} == set(worker.GAUGES)
    for name, tags, _ in told:
        assert tuple(tags) == worker.GAUGES[name][1]


def test_a_method_without_weights_tells_none(make_tiny):
    spec = RunSpec.from_dict(make_tiny())
    record = EpochRecord(1, [1.0, 1.0], None, None, None, 0.1, {"validation": {}}, 1.0)
    names = [name for name, *_ in worker.values_of(spec, record)]
    assert names == ["mtl_epoch", "mtl_epochs_planned", "mtl_loss", "mtl_loss"]
