"""The runs of a sweep as a user of Ray Tune and PyTorch writes them, with none of this project.

Network, losses and metrics are the project's, so that the same is trained. All else is as in the
tutorials: a `DataLoader` with one worker, images in PyTorch's own layout, `tune.grid_search`, an
evaluation and a report each epoch, a checkpoint at the end.

    python -m tests.benchmarks.plain_tune SPECS.json DATA_FOLDER RESULTS
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch.utils.data import DataLoader, TensorDataset

from mtl.data.batches import MappedSplit
from mtl.data.manifest import data_info
from mtl.spec import RunSpec
from mtl.tasks import task_of
from mtl.training.evaluation import new_network


def dataset(folder: str, split: str, tasks: tuple[str, ...]) -> TensorDataset:
    """Return images and each task's targets and masks."""
    stored = MappedSplit(Path(folder), split, tasks)
    images = torch.from_numpy(stored._arrays["image"].copy()).permute(0, 3, 1, 2).float() / 255
    labels = [part for task in tasks for part in stored.labels(task)]
    return TensorDataset(images.contiguous(), *(part.contiguous() for part in labels))


def train(config: dict[str, Any], folder: str) -> None:
    """Train one run."""
    spec = RunSpec.from_dict(config["spec"])
    info = data_info(Path(folder))
    torch.manual_seed(spec.seed)
    network = new_network(spec, info)
    optimizer = torch.optim.AdamW(network.parameters(), lr=spec.optimizer.learning_rate)
    loader = DataLoader(
        dataset(folder, "train", spec.tasks), spec.batch_size, shuffle=True, num_workers=1
    )
    held_out = {split: dataset(folder, split, spec.tasks) for split in ("validation", "test")}
    for epoch in range(spec.epochs):
        network.train()
        for images, *labels in loader:
            predictions = network(images)
            loss = torch.zeros(())
            for i, task in enumerate(spec.tasks):
                weight = spec.priorities[i] if spec.priorities else 1.0
                target, valid = labels[2 * i : 2 * i + 2]
                loss = loss + weight * task_of(task).loss(predictions[task], target, valid, info)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        report: dict[str, Any] = {"loss": loss.item()}
        last = epoch == spec.epochs - 1
        for split in ("validation", "test") if last else ("validation",):
            metrics = {task: task_of(task).metrics(info) for task in spec.tasks}
            with torch.no_grad():
                for images, *labels in DataLoader(held_out[split], 32, num_workers=1):
                    predictions = network(images)
                    for i, task in enumerate(spec.tasks):
                        metrics[task].update(predictions[task], *labels[2 * i : 2 * i + 2])
            for task, pooled in metrics.items():
                report |= {f"{split}_{task}_{k}": v for k, v in pooled.compute().items()}
        if not last:
            tune.report(report)
            continue
        with tempfile.TemporaryDirectory() as kept:
            torch.save(network.state_dict(), os.path.join(kept, "network.pt"))
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(kept))


def main(specs: str, folder: str, results: str) -> None:
    """Train all runs."""
    runs = json.loads(Path(specs).read_text())
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, folder=folder), {"cpu": 1}),
        param_space={"spec": tune.grid_search(runs)},
        run_config=tune.RunConfig(name="plain", storage_path=results),
    )
    tuner.fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
