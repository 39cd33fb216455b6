"""Parts from outside train, resume and plan as the package's own; docs/extending.md holds them."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl import tasks
from mtl.data import show
from mtl.data.batches import MappedSplit
from mtl.data.prepare.__main__ import main
from mtl.data.prepared import prepare
from mtl.errors import PreflightError, PreparedDataError, RunFailedError
from mtl.networks import build_network
from mtl.records import Result
from mtl.spec import RunSpec, Runtime, code
from mtl.spec.methods import needs_of
from mtl.spec.tasks import declared_task
from mtl.store import Store
from mtl.tasks import derivations
from mtl.training import fit
from mtl.training.manifest import weights_hash
from mtl.weighting import build_weighting
from sweeps.launch.preflight import check_networks, check_tasks
from sweeps.plan import Grid, grid_specs, make_plan
from sweeps.plan.datasets import dataset_axes
from sweeps.plan.refine import decide
from sweeps.search.study import Trials
from tests.data.prepare.commands import command, prepared
from tests.sweeps.search.conftest import make_options
from tests.test_docs import own_modules, write_drive
from tests.training.runs import assert_resumes, tiny

MAX_LINES = 40


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, on Python's path, with the modules of docs/extending.md."""
    forget_modules()
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in own_modules().items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", data_root=data_root, num_samples=1)


def forget_modules() -> None:
    """Forget what was imported from outside, as another process has not imported it."""
    for module in [*code._LOADED]:
        del sys.modules[module]
    code._LOADED.clear()
    tasks._from_outside.cache_clear()
    importlib.invalidate_caches()


def written(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize("name", own_modules())
def test_module_of_the_docs_is_short(name):
    assert len([line for line in own_modules()[name].splitlines() if line.strip()]) <= MAX_LINES


# A method.


def test_own_method_trains_and_resumes_bit_for_bit(modules, runtime, tmp_path):
    spec = tiny(method="focal:Focal", priorities=[0.25, 0.75])
    assert spec.method_options == {"power": 0.5}
    assert set(spec.code) == {"focal"}
    records = assert_resumes(spec, runtime, tmp_path)
    weights = [record.weights for record in records]
    assert weights[0] == [0.25, 0.75]
    means = records[0].losses
    assert weights[1] == pytest.approx([0.25 * means[0] ** 0.5, 0.75 * means[1] ** 0.5])


def test_own_method_in_a_loop_of_ones_own(modules):
    weighting = build_weighting("focal:Focal", tasks=("a", "b"), power=1.0)
    assert weighting.weights.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="Unknown option 'powr' of method 'focal:Focal'"):
        build_weighting("focal:Focal", tasks=("a", "b"), powr=1.0)


def test_edit_makes_a_new_run_and_undoing_it_the_old_one(modules):
    source = (modules / "focal.py").read_text()
    before = tiny(method="focal:Focal").run_id()
    written(modules, "focal", source.replace("hard tasks", "difficult tasks"))
    with pytest.raises(ValueError, match="Restart Python"):
        tiny(method="focal:Focal")
    forget_modules()
    assert tiny(method="focal:Focal").run_id() != before
    written(modules, "focal", source)
    forget_modules()
    assert tiny(method="focal:Focal").run_id() == before


def test_worker_with_other_code_refuses_and_nothing_is_written(modules, runtime, tmp_path):
    spec = tiny(method="focal:Focal")
    written(modules, "focal", (modules / "focal.py").read_text() + "\n# edited\n")
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="Expected the source of 'focal' with hash .* plan again"):
        fit(spec, store, runtime)
    assert store.run_ids() == []


def test_reading_a_spec_does_not_need_the_module():
    spec = RunSpec(method="gone:Lost", code={"gone": "0123456789abcdef"}, priorities=(0.3, 0.7))
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert spec.method_settings == {}
    assert "gone" not in sys.modules


def test_method_that_does_not_say_what_it_needs_is_one_sentence(modules):
    written(modules, "needless", "class Mine:\n    pass\n")
    with pytest.raises(ValueError, match="Expected a Weighting with `needs = MethodNeeds"):
        needs_of("needless:Mine")
    with pytest.raises(ValueError, match="Unknown method 'Fokal' in focal. .*has: Focal, Meth"):
        tiny(method="focal:Fokal")


# An architecture.


def trained(spec: RunSpec, runtime: Runtime, folder: Path) -> Result:
    return fit(spec, Store(folder), runtime)


@pytest.mark.parametrize("name", ["small_net:SmallNet", "gated:Gated"])
def test_own_architecture_trains_and_resumes_bit_for_bit(modules, runtime, tmp_path, name):
    spec = tiny(network={"architecture": name}, epochs=2)
    assert_resumes(spec, runtime, tmp_path)


def test_who_shares_parameters_of_a_plain_module_is_seen(modules):
    parts = tiny(network={"architecture": "small_net:SmallNet"}).network
    network = build_network(parts, {"a": 2, "b": 1}, 0, image_size=(8, 8))
    shared = {id(p) for p in network.shared_parameters()}
    assert shared == {id(p) for p in network.module.shared.parameters()}
    assert [[p.shape[0] for p in own] for own in network.task_parameters()] == [[2, 2], [1, 1]]
    again = build_network(parts, {"a": 2, "b": 1}, 0, image_size=(8, 8))
    other = build_network(parts, {"a": 2, "b": 1}, 1, image_size=(8, 8))
    assert weights_hash(again) == weights_hash(network) != weights_hash(other)


@pytest.mark.parametrize("method", ["gradnorm", "torchjd:UPGrad"])
def test_methods_that_look_at_gradients_train_a_plain_module(modules, runtime, tmp_path, method):
    spec = tiny(network={"architecture": "small_net:SmallNet"}, method=method, epochs=1)
    assert trained(spec, runtime, tmp_path / "store").status == "done"


BAD_NETWORKS = {
    "Lost": ("", "Unknown architecture 'Lost' in bad_net. The module has: .*torch"),
    "few": ("few = lambda: 1", "few.out_channels. to build a network, got TypeError"),
    "seven": ("seven = lambda out_channels: 7", "to return a torch module, got int"),
    "Identity": (
        "class Identity(torch.nn.Module):\n"
        "    def __init__(self, out_channels):\n        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(3, 1, 1)\n"
        "    def forward(self, images):\n        return {'depth': self.layer(images)}\n",
        r"Expected predictions of \['depth', 'segmentation'\] as a dict from bad_net:Identity",
    ),
}


@pytest.mark.parametrize("name", BAD_NETWORKS)
def test_bad_network_is_one_sentence(modules, name):
    source, message = BAD_NETWORKS[name]
    written(modules, "bad_net", f"import torch\n{source}\n")
    spec = tiny(network={"architecture": f"bad_net:{name}"})
    with pytest.raises(PreflightError, match=message) as caught:
        check_networks([spec], None)
    assert "\n" not in str(caught.value)


# An encoder.


def test_own_encoder_trains_under_the_packages_architectures(modules, runtime, tmp_path):
    network = {"encoder": "narrow_resnet:narrow_resnet", "architecture": "multi_decoder"}
    spec = tiny(network=network, epochs=1)
    assert set(spec.code) == {"narrow_resnet"}
    assert trained(spec, runtime, tmp_path / "store").status == "done"
    written(modules, "unregistered", "def plain(): pass\n")
    spec = tiny(network={"encoder": "unregistered:plain"})
    with pytest.raises(PreflightError, match="registered with timm at 'unregistered:plain', got"):
        check_networks([spec], None)


# A task.


def test_own_task_trains_and_resumes_bit_for_bit(modules, runtime, tmp_path):
    spec = tiny(tasks=["depth", "distance:Distance"], horizontal_flips=False, epochs=2)
    assert_resumes(spec, runtime, tmp_path)
    store = Store(tmp_path / "a")
    result = store.result(spec.run_id())
    assert 0 < result.final_metrics["test"]["distance:Distance"]["mae"] < 50
    assert result.declared["distance:Distance"].metrics[0].unit == "m"
    prior = store.manifest(spec.run_id())["per_pixel_prior"]
    assert prior["test"]["distance:Distance"]["mae"] > 0


def test_own_task_is_an_axis_of_refinement_and_search(modules, tmp_path):
    task = "distance:Distance"
    grid = Grid(
        task_sets=(("depth", task),), methods=("lsb",), divisions=3, seeds=1,
        fields={"data.variant": "simple"},
    )  # fmt: skip
    plan = make_plan("n", "priority_grid", grid_specs(grid))
    store = Store(tmp_path / "store")
    for spec in plan.specs:
        split = {"depth": {"delta1": spec.priorities[0]}, task: {"mae": spec.priorities[0]}}
        metrics = {"validation": split, "test": split}
        told = {name: declared_task(name) for name in spec.tasks}
        last = (spec.epochs, "last", spec.epochs, metrics, metrics)
        store.write_result(Result(store.write_spec(spec), "done", *last, declared=told))
    (decision,) = decide(plan, grid, 1, store)
    assert decision.record["metrics"] == ["depth_delta1", f"{task}_mae"]
    assert decision.record["priorities"] == [[0.5, 0.5]]
    trials = Trials({"lsb": plan.specs[0]}, make_options(), store, tmp_path, lambda *_: None)
    assert [axis.column for axis in trials.axes] == ["depth_delta1", f"{task}_mae"]


def test_derived_target_is_what_the_task_says(modules, runtime):
    spec = tiny(tasks=["depth", "distance:Distance"])
    folder = prepare(spec.data, runtime.data_root)
    split = MappedSplit(folder, "test", spec.tasks, derived=derivations(spec.tasks))
    batch = split.batch(np.arange(2), torch.device("cpu"))
    depth, mask = batch.targets["depth"][0, 0, :, :16], batch.valid["depth"][0, :, :16]
    assert batch.targets["distance:Distance"][0, 0] == pytest.approx(float(depth[mask].mean()))
    assert batch.valid["distance:Distance"].shape == (2,)


CLASSES = """
import torch
from mtl.spec.tasks import DeclaredTask, Metric
from mtl.tasks import Task

def classified(num_channels):
    accuracy = Metric("accuracy", "share", "max", 1, "right answers", low=0.0, high=1.0)
    return DeclaredTask(
        loss_kind="classification", num_channels=num_channels, metrics=(accuracy,),
        plotted="accuracy",
    )

class Classes(Task):
    def error_map(self, prediction, target, info):
        return torch.nn.functional.cross_entropy(prediction, target, reduction="none")

    def sums(self, prediction, target, valid, info):
        right = (prediction.argmax(1) == target)[valid]
        return [torch.stack([right.sum(), valid.sum()]).double()]

    def ratios(self, totals):
        return {"accuracy": float(totals[0] / totals[1])}
"""
NEAR = """
class Near(Classes):
    declared = classified(2)
    is_map = False
    sources = ("depth",)

    def derive(self, targets, valid):
        return (targets["depth"].mean((1, 2, 3)) < 4).long(), valid["depth"].any(2).any(1)
"""


def test_class_of_an_image_trains_in_a_package_with_every_part_from_outside(
    modules, runtime, tmp_path
):
    package = modules / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(CLASSES + NEAR)
    spec = tiny(
        tasks=["depth", "own_package.tasks:Near"], method="uncertainty", selection="validation",
        network={"architecture": "gated:Gated"}, epochs=2, loss_units={"own_package.tasks:Near": 2},
    )  # fmt: skip
    assert set(spec.code) == {"gated", "own_package"}
    metrics = trained(spec, runtime, tmp_path / "store").final_metrics["test"]
    assert 0 <= metrics["own_package.tasks:Near"]["accuracy"] <= 1


BAD_TASKS = {
    "Undeclared": ("class Undeclared(Task): pass", "Expected a Task with `declared = DeclaredTask"),
    "NoMetrics": (
        "class NoMetrics(Task):\n    declared = DeclaredTask(metrics=(), plotted='a')",
        r"to import, got UsageError: Expected at least one metric of a task, got none",
    ),
    "NoDirection": (
        "class NoDirection(Task):\n"
        "    declared = DeclaredTask(metrics=(Metric('a', 'm'),), plotted='a')",
        "to import, got TypeError: .*direction",
    ),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_bad_task_is_one_sentence(modules, name):
    source, message = BAD_TASKS[name]
    imports = "from mtl.spec.tasks import DeclaredTask, Metric\nfrom mtl.tasks import Task\n"
    written(modules, f"bad_{name.lower()}", f"{imports}\n{source}\n")
    with pytest.raises(ValueError, match=message) as caught:
        declared_task(f"bad_{name.lower()}:{name}")
    assert "\n" not in str(caught.value)


ERROR_MAP = "return (prediction - target).abs().mean(dim=1)"
BROKEN_TASKS = {
    "another metric": ('{"mae": error / count}', '{"mse": error / count}',
                       "Expected mae from ratios of task broken:Distance, the metrics .* got mse"),
    "no number": ('{"mae": error / count}', '{"mae": "low"}',
                  "Expected a number or None as mae from ratios of task broken:.* got 'low'"),
    "a mistake": (ERROR_MAP, "return info['oops']",
                  "Expected error_map of task broken:Distance to compute, got TypeError: .* in "
                  "broken.py, line 24.$"),
    "a mistake within torch": (ERROR_MAP, "return prediction @ target",
                               "error_map of task .* got RuntimeError: .* in broken.py, line 24.$"),
    "a map of channels": (ERROR_MAP, "return (prediction - target).abs()",
                          r"Task broken:Distance, .*: Expected error_map .* got .8, 2."),
    "another target": ("return torch.stack(means, dim=1)", "return torch.stack(means, dim=0)",
                       "Task broken:Distance, loss: Expected prediction"),
    "no gradient": (ERROR_MAP, ERROR_MAP + ".detach()", "one number with a gradient, got shape"),
    "no sums": ("def sums", "def summed", "__init__ of task .* got TypeError: .*abstract .*sums"),
    "sums in no list": ("return [torch.stack([errors.double().sum(), valid.sum().double()])]",
                        "return errors.double().sum()",
                        "Expected a list of tensors from sums of task broken:Distance"),
}  # fmt: skip


def broken_task(modules: Path, old: str, new: str) -> RunSpec:
    source = own_modules()["distance.py"]
    assert old in source
    written(modules, "broken", source.replace(old, new))
    return tiny(tasks=["depth", "broken:Distance"], horizontal_flips=False, epochs=1)


@pytest.mark.parametrize("what", BROKEN_TASKS)
def test_broken_task_is_one_sentence_before_the_sweep_starts(modules, runtime, what):
    old, new, message = BROKEN_TASKS[what]
    spec = broken_task(modules, old, new)
    prepare(spec.data, runtime.data_root)
    with pytest.raises(PreflightError, match=message) as caught:
        check_tasks([spec], runtime.data_root)
    assert "\n" not in str(caught.value)


def test_sound_tasks_are_tried_without_a_word(modules, runtime):
    spec = tiny(tasks=["depth", "distance:Distance"])
    prepare(spec.data, runtime.data_root)
    check_tasks([spec], runtime.data_root)


@pytest.mark.parametrize("what", ["another metric", "a mistake"])
def test_broken_task_is_a_failed_run_with_a_sentence(modules, runtime, tmp_path, what):
    old, new, message = BROKEN_TASKS[what]
    spec, store = broken_task(modules, old, new), Store(tmp_path / "store")
    with pytest.raises(RunFailedError, match=message):
        fit(spec, store, runtime)
    assert "RunFailedError" in store.error(spec.run_id()).splitlines()[-1]


def test_metric_that_is_not_finite_is_a_failed_run_that_names_it(modules, runtime, tmp_path):
    spec = broken_task(modules, '{"mae": error / count}', '{"mae": torch.tensor(error) / 0}')
    prepare(spec.data, runtime.data_root)
    check_tasks([spec], runtime.data_root)  # a few images may well give no value
    with pytest.raises(RunFailedError, match="finite mae of task 'broken:Distance', got inf"):
        fit(spec, Store(tmp_path / "store"), runtime)


# A data set.


@pytest.fixture
def drive(modules: Path, tmp_path: Path) -> Path:
    write_drive(tmp_path / "drive")
    return tmp_path / "drive"


def on_own_data(root: Path, name: str, tasks: list[str], **changes: object) -> RunSpec:
    """Return a tiny run on the data set that `--dataset name` stands for."""
    axes, _ = dataset_axes({"data.name": (name,)}, str(root))
    data = {field.removeprefix("data."): value for field, (value,) in axes.items()}
    return tiny(data=data, tasks=tasks, **changes)


def test_own_data_set_is_prepared_and_trains_bit_for_bit(drive, tmp_path):
    root, tasks = tmp_path / "root", ["driving:Steering", "edge2d"]
    manifest = prepared("driving:open_log", drive, root, "--tasks", *tasks)
    assert manifest["counts"] == {"train": 24, "validation": 12, "test": 12}
    angles = [number - 24 for number in range(24)]
    stored = np.load(manifest["folder"] / "train" / "driving:Steering.npy")
    assert stored.dtype == np.float32
    assert stored.tolist() == [[angle] for angle in angles]
    assert manifest["statistics"]["driving:Steering"] == {
        "share_valid": 1.0, "share_measured": 1.0,
        "mean": [np.mean(angles)], "std": [pytest.approx(np.std(angles))],
    }  # fmt: skip
    bytes_held = sum(entry["bytes"] for entry in manifest["arrays"].values())
    maps = 48 * 24 * 24 * (3 + 4 + 2)  # images, edge2d and its two masks
    assert 0 < bytes_held - maps < 48 * 6 + 128 * len(manifest["arrays"]) + 1
    assert_resumes(
        on_own_data(root, "driving:open_log", tasks, epochs=2),
        Runtime(device="cpu", data_root=str(root)),
        tmp_path,
    )


def test_edited_reader_is_asked_to_prepare_again_and_equal_arrays_are_equal_runs(drive, tmp_path):
    root, name, source = tmp_path / "root", "driving:open_log", drive.parent / "mine/driving.py"
    before = source.read_text()
    prepared(name, drive, root)
    run_id = on_own_data(root, name, ["edge2d", "keypoint2d"]).run_id()
    written(source.parent, "driving", before + "\n# edited\n")
    forget_modules()
    again = f"prepare {name} --source {drive} --size 24x24 --data-root {root}`"
    with pytest.raises(PreparedDataError, match=re.escape(again)):
        on_own_data(root, name, ["edge2d", "keypoint2d"])
    prepared(name, drive, root)
    assert on_own_data(root, name, ["edge2d", "keypoint2d"]).run_id() == run_id
    written(source.parent, "driving", before)
    forget_modules()
    spec = on_own_data(root, name, ["edge2d", "keypoint2d"], epochs=1)
    source.unlink()  # training needs the arrays alone
    assert fit(spec, Store(tmp_path / "s"), Runtime(device="cpu", data_root=str(root)))


OWN_KINDS = """
import numpy as np
from mtl.data.sample import RawDataset, RawSample

def pictures(source, number=8):
    ids = {s: tuple(f"{s}{i}" for i in range(number)) for s in ("train", "validation", "test")}
    return RawDataset(
        name="pictures", tasks=("kinds:Weather", "kinds:Zones", "kinds:Heat"), samples=ids,
        files={i: {} for of_split in ids.values() for i in of_split}, decode=drawn, licence="own",
    )

def drawn(sample_id, files):
    rng = np.random.default_rng(list(sample_id.encode()))
    image = rng.integers(0, 256, (48, 48, 3), np.uint8)
    return RawSample(
        image=image,
        targets={"kinds:Weather": np.array(rng.integers(3)), "kinds:Zones": image[..., 0] // 64,
                 "kinds:Heat": image[..., :2] / 255},
        valid={"kinds:Weather": np.array(not sample_id.endswith("0")),
               "kinds:Zones": image[..., 1] > 9, "kinds:Heat": image[..., 1] > 99},
    )

class Weather(Classes):
    declared = classified(3)
    is_map = False

class Zones(Classes):
    declared = classified(4)

class Heat(Task):
    declared = DeclaredTask(num_channels=2, metrics=(Metric("mae", "K", "min"),), plotted="mae")

    def error_map(self, prediction, target, info):
        return (prediction - target).abs().mean(dim=1)

    def sums(self, prediction, target, valid, info):
        errors = self.error_map(prediction, target, info)[valid]
        return [torch.stack([errors.double().sum(), valid.sum().double()])]

    def ratios(self, totals):
        return {"mae": float(totals[0] / totals[1])}
"""


def test_every_shape_of_own_target_is_prepared_shown_and_trained(modules, tmp_path):
    written(modules, "kinds", CLASSES + OWN_KINDS)
    root, tasks = tmp_path / "root", ["kinds:Weather", "kinds:Zones", "kinds:Heat"]
    folder = prepared("kinds:pictures", tmp_path, root, "--tasks", *tasks)["folder"]
    shapes = {task: np.load(folder / "test" / f"{task}.npy").shape for task in tasks}
    assert list(shapes.values()) == [(8,), (8, 24, 24), (8, 24, 24, 2)]
    assert show.main([str(folder), "--out", str(tmp_path / "sheet.png")]) == 0
    spec = on_own_data(root, "kinds:pictures", tasks, epochs=1)
    result = fit(spec, Store(tmp_path / "s"), Runtime(device="cpu", data_root=str(root)))
    assert {task: set(found) for task, found in result.final_metrics["test"].items()} == {
        "kinds:Weather": {"accuracy"}, "kinds:Zones": {"accuracy"}, "kinds:Heat": {"mae"},
    }  # fmt: skip


BAD_DATA = {
    "pass": ("to return a mtl.data.sample.RawDataset, got None",),
    "raise KeyError('x')": ("bad_data:opened", "to open", "KeyError"),
    "return made(lambda i, f: 0)": ("to be picklable", "decode be a function of the module"),
    "return made(fails)": ("bad_data:opened to read sample 'b', got ZeroDivisionError",),
    "return made(nothing)": ("to read sample 'b', got", "NoneType in place of a RawSample"),
    "return made(nan)": ("finite values of edge2d where it is valid in sample 'a' of train",),
    "return made(mixed)": (
        "edge2d of the image's pixels with 1 channels in sample 'b' of train, as in others",
        "got float64 (8, 8, 2)",
    ),
    "return made(lacking)": ("a target of edge2d in sample 'b' of train, as in others, got none",),
    "return made(floats)": ("class indices as integers, got float64 (8, 8)",),
    "return made(maskless)": ("valid['edge2d'] as bool (8, 8), got none",),
    "return made(grey)": ("image as uint8 (height, width, 3), got uint8 (8, 8)",),
    "return made(fails, tasks=('edge4d',))": ("Unknown task 'edge4d'",),
    "return made(fails, samples={'train': ('a',)})": ("samples of train, validation, test",),
    "return made(fails, files={})": ("files of each sample", "got none of 'a'"),
}


@pytest.mark.parametrize("body", BAD_DATA)
def test_bad_data_set_is_one_sentence(modules, tmp_path, capsys, body):
    source = """
import numpy as np
from mtl.data.sample import RawDataset, RawSample

def made(decode, **changes):
    ids = dict.fromkeys(("train", "validation", "test"), ("a", "b"))
    files = dict.fromkeys("ab", {})
    fields = {"tasks": ("edge2d",), "samples": ids, "files": files, "licence": "own"}
    return RawDataset(name="bad", decode=decode, **{**fields, **changes})

def sample(target, valid, image=np.zeros((8, 8, 3), np.uint8)):
    return RawSample(image=image, targets={"edge2d": target}, valid=valid)

OK = {"edge2d": np.ones((8, 8), bool)}

def fails(i, files): return 1 / 0
def nothing(i, files): return None
def nan(i, files): return sample(np.full((8, 8, 1), np.nan), OK)
def mixed(i, files): return sample(np.zeros((8, 8, 1 if i == "a" else 2)), OK)
def lacking(i, files):
    if i == "a": return sample(np.zeros((8, 8, 1)), OK)
    return RawSample(image=np.zeros((8, 8, 3), np.uint8), targets={}, valid={})
def floats(i, files): return sample(np.zeros((8, 8)), {"edge2d": np.ones((8, 8), bool)})
def maskless(i, files): return sample(np.zeros((8, 8, 1)), {})
def grey(i, files): return sample(np.zeros((8, 8, 1)), {}, np.zeros((8, 8), np.uint8))

def opened(source):
    """
    written(modules, "bad_data", source + body)
    argv = command("bad_data:opened", tmp_path, tmp_path / "root")
    status = main(argv)
    error = capsys.readouterr().err
    assert status in (1, 2)
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("prepare: ")]
    assert all(word in line for word in BAD_DATA[body]), line
