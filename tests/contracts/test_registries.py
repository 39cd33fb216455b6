"""The names in `mtl.spec`, known without torch, are those of the registries."""

import inspect

import pytest
import torchjd.aggregation
import torchjd.scalarization

from analysis.load.metrics import metric_of
from mtl.data.readers.registry import READERS
from mtl.data.sample import DataInfo
from mtl.data.scenes.records import VARIANTS
from mtl.records import METRIC_ALIASES
from mtl.spec import sections
from mtl.spec.methods import METHODS, OWN_METHODS, TORCHJD_METHODS
from mtl.spec.tasks import DECLARED_TASKS
from mtl.tasks import TASKS
from mtl.weighting import WEIGHTINGS, build_weighting
from tests.metrics import LOSS_METRIC, METRICS, PLOTTED_METRIC, TASK_METRICS


def test_names_agree():
    assert set(METHODS) == set(WEIGHTINGS)
    assert set(sections.DATASETS) == {"scenes", *READERS}
    assert set(sections.SCENE_VARIANTS) == set(VARIANTS)


@pytest.mark.parametrize("method", sorted(OWN_METHODS))
def test_methods_take_what_the_spec_says(method):
    needs = METHODS[method]
    parameters = inspect.signature(WEIGHTINGS[method]).parameters
    not_options = ("tasks", "seed", "loss_kinds")
    named = {name: p.default for name, p in parameters.items() if name not in not_options}
    assert (named.pop("priorities", "absent") is None) == needs.takes_priorities
    assert named == needs.options  # the same options with the same defaults
    assert needs.positive_options <= set(needs.options)
    kinds = {"a": "regression", "b": "classification"}
    build_weighting(method, ("a", "b"), loss_kinds=kinds, **needs.options)


FILLED_IN = {"shape", "n_tasks", "weights"}
"""What the adapters give to TorchJD themselves; `weights` only where it must be given."""
NOT_OFFERED = {
    "FAMO": {"min_losses"},
    "AlignedMTL": {"pref_vector", "scale_mode"},
    "ConFIG": {"pref_vector"},
    "DualProj": {"pref_vector", "projector"},
    "FairGrad": {"max_iters"},
    "GradDrop": {"f", "leak"},
    "UPGrad": {"pref_vector", "projector"},
}
"""Parameters that are no numbers, or whose default needs none."""
WITHOUT_DEFAULT = {
    ("CAGrad", "c"), ("FairGrad", "alpha"), ("Krum", "n_byzantine"),
    ("TrimmedMean", "trim_number"),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHJD_METHODS)
def test_torchjd_takes_what_the_spec_says(name):
    needs = TORCHJD_METHODS[name]
    library = torchjd.aggregation if needs.needs_gradients else torchjd.scalarization
    theirs = inspect.signature(getattr(library, name)).parameters
    assert set(theirs) - FILLED_IN - NOT_OFFERED.get(name, set()) == set(needs.options)
    for key, value in needs.options.items():
        if (name, key) in WITHOUT_DEFAULT:
            assert theirs[key].default is inspect.Parameter.empty
        else:
            assert theirs[key].default == value
            assert type(theirs[key].default) is type(value)
    # The library's own bounds: its default and what the spec lets through are accepted.
    build_weighting(f"torchjd:{name}", ("a", "b", "c"), **needs.options)


def test_every_aggregator_of_torchjd_is_offered():
    kinds = {name: getattr(torchjd.aggregation, name) for name in torchjd.aggregation.__all__}
    aggregators = {
        name
        for name, kind in kinds.items()
        if issubclass(kind, torchjd.aggregation.Aggregator) and not name.endswith("Aggregator")
    }
    # Those left out are weights that no priority steers.
    assert aggregators - set(TORCHJD_METHODS) == {"Constant", "Mean", "Random", "Sum"}
    assert set(TORCHJD_METHODS) - aggregators == {"FAMO"}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_tasks_measure_what_the_records_name(name):
    task = TASKS[name]
    assert task.name == name
    info = DataInfo(classes=("a", "b"), depth_range_m=(1.0, 10.0))
    measured = task.metrics(info).compute()
    assert tuple(measured) == TASK_METRICS[name]
    assert set(measured.values()) == {None}  # nothing was added yet
    assert {PLOTTED_METRIC[name], LOSS_METRIC[name]} <= set(measured)
    assert METRICS[LOSS_METRIC[name]].direction == "min"


def test_what_a_task_was_measured_by_stays_first():
    # Tables and CSV files have these columns in this order; new metrics come after them.
    assert TASK_METRICS["depth"][:4] == ("delta1", "rmse", "abs", "rel")
    assert TASK_METRICS["normal"][:3] == ("mean_angle", "median_angle", "within_11_25")
    assert TASK_METRICS["segmentation"][:2] == ("miou", "pixel_accuracy")
    plotted = [PLOTTED_METRIC[task] for task in ("depth", "normal", "segmentation")]
    assert plotted == ["delta1", "within_30", "miou"]


def test_metric_names_and_aliases():
    assert all(metric.name == name for name, metric in METRICS.items())
    assert set(METRIC_ALIASES.values()) <= set(METRICS)
    assert metric_of(DECLARED_TASKS, "segmentation", "acc").name == "pixel_accuracy"
    with pytest.raises(ValueError, match="Unknown metric 'miou' of task 'depth'.*delta1"):
        metric_of(DECLARED_TASKS, "depth", "miou")
    assert METRICS["delta1"].shown(0.8126) == "81.3%"
    assert METRICS["rmse"].shown(0.54) == "0.540 m"
    assert METRICS["rmse"].shown(None) == "none"
    assert METRICS["l1"].shown(0.000912) == "0.00091 value"
