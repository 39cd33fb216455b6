"""What the scenes promise to whoever trains on them; slow, about fifteen minutes on two cores.

Budgets are small and equal for all that is compared; numbers are printed for the record.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl.data.manifest import data_info
from mtl.data.prepared import prepare
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.tasks import TASKS
from mtl.training import fit
from tests.metrics import PLOTTED_METRIC

pytestmark = pytest.mark.slow

VARIANTS = pytest.mark.parametrize("variant", ["simple", "rooms"])
ALL_THREE = ("depth", "normal", "segmentation")
COLOUR_BINS = 8
"""Bins a channel of the colour-only classifier: 512 colours."""


def scenes_spec(variant: str, tasks: tuple[str, ...], seed: int = 0) -> RunSpec:
    """Return a training of a minute or two with equal weights; only tasks and seed differ."""
    return RunSpec.from_dict(
        {
            "tasks": tasks,
            "method": "equal",
            "seed": seed,
            "epochs": 14 if variant == "simple" else 10,
            "batch_size": 8,
            "data": {
                "variant": variant, "height": 48, "width": 64,
                "num_train": 400 if variant == "simple" else 2000,
                "num_validation": 20, "num_test": 200,
            },
            "network": {
                "encoder": "test_efficientnet",
                "encoder_stride": 4,
                "decoder_widths": [64, 48, 32, 24, 16, 16],
            },
            "optimizer": {"learning_rate": 4e-3, "schedule": "linear", "warmup_share": 0.05},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> "Workshop":
    folder = tmp_path_factory.mktemp("promises")
    runtime = Runtime(device="cpu", num_threads=1, data_root=str(folder / "data"))
    return Workshop(Store(folder / "store"), runtime)


def _train(job: tuple[dict, str, Runtime]) -> None:
    fields, root, runtime = job
    fit(RunSpec.from_dict(fields), Store(root), runtime)


@dataclass(frozen=True)
class Workshop:
    """A store and data shared by the tests of this module, so that no run is trained twice."""

    store: Store
    runtime: Runtime

    def train(self, specs: Sequence[RunSpec]) -> None:
        """Train runs two side by side, one thread each."""
        self.folder(specs[0])
        jobs = [(spec.to_dict(), str(self.store.root), self.runtime) for spec in specs]
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            list(pool.map(_train, jobs))

    def metric(self, spec: RunSpec, task: str) -> float:
        """Return the test metric of a task that its axis shows; higher is better for all."""
        result = fit(spec, self.store, self.runtime)
        value = result.final_metrics["test"][task][PLOTTED_METRIC[task]]
        assert value is not None
        return value

    def folder(self, spec: RunSpec) -> Path:
        return prepare(spec.data, self.runtime.data_root, num_workers=2)


def test_rooms_are_neither_learnt_from_place_nor_from_colour(workshop: Workshop) -> None:
    spec = scenes_spec("rooms", ("segmentation",))
    folder = workshop.folder(spec)
    trained = workshop.metric(spec, "segmentation")
    manifest = workshop.store.manifest(spec.run_id())
    assert manifest is not None
    prior = manifest["per_pixel_prior"]["test"]["segmentation"]["miou"]
    colour = colour_only_miou(folder)
    print(f"miou: trained {trained:.3f}, baseline {prior:.3f}, colour only {colour:.3f}")
    assert prior < 0.6 * trained
    assert colour < 0.6 * trained


def colour_only_miou(folder: Path) -> float:
    """Return the miou of the most frequent training class of each of 512 colours."""
    info = data_info(folder)

    def read(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        names = ("image", "segmentation", "segmentation_valid")
        image, label, valid = (np.load(folder / split / f"{name}.npy") for name in names)
        bins = (image.astype(int) * COLOUR_BINS) // 256
        return (bins @ [COLOUR_BINS**2, COLOUR_BINS, 1]), label, valid

    code, label, valid = read("train")
    counts = np.zeros((COLOUR_BINS**3, len(info.classes)), int)
    np.add.at(counts, (code[valid], label[valid]), 1)
    code, label, valid = read("test")
    scores = torch.from_numpy(counts[code]).movedim(-1, 1).float()
    metrics = TASKS["segmentation"].metrics(info)
    metrics.update(scores, torch.from_numpy(label).long(), torch.from_numpy(valid))
    miou = metrics.compute()["miou"]
    assert miou is not None
    return miou


@VARIANTS
def test_joint_training_loses_to_single_task_on_task(variant: str, workshop: Workshop) -> None:
    seeds = (0, 1)
    compared = ("depth", "normal")
    joint = [scenes_spec(variant, ALL_THREE, seed) for seed in seeds]
    single = {task: [scenes_spec(variant, (task,), seed) for seed in seeds] for task in compared}
    workshop.train([*joint, *(spec for specs in single.values() for spec in specs)])
    lost = {}
    for task in compared:
        alone = [workshop.metric(spec, task) for spec in single[task]]
        together = [workshop.metric(spec, task) for spec in joint]
        print(f"{variant} {task}: single {alone}, joint {together}")
        lost[task] = min(alone) > max(together)  # beyond what seeds explain
    assert any(lost.values())
