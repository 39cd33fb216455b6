"""The samples that a report shows: one run a method, a few epochs, the same images for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.chosen_runs import ChosenRuns
from analysis.qualitative import (
    ErrorMaps,
    Estimates,
    array_names,
    error_maps,
    estimates,
    even_weights,
    image_numbers,
)
from analysis.run_files import RunFiles
from analysis.thinning import evenly
from analysis.trends import check_records
from analysis.words import listed

MOST_EPOCHS = 3
"""Columns of the error maps, as in Figure S-5."""
MOST_IMAGES = 2
"""In the panels of predictions; the error maps show the first."""


@dataclass(frozen=True)
class ShownSamples:
    """What one method's run shows; filled while its samples are read."""

    arm: str
    run_id: str
    maps: dict[int, dict[int, ErrorMaps]]
    """Epoch -> number of an image -> error maps; all images only at the last epoch."""
    weights: dict[int, dict[str, float] | None]
    """Epoch -> task -> loss weight, brought to a mean of 1."""
    estimates: dict[str, dict[int, Estimates]]
    """Task -> image -> target and prediction at the last epoch; empty where it is not read."""

    def first_map(self, epoch: int) -> ErrorMaps | None:
        """Return the error maps of the first image after an epoch, if there are any."""
        of_images = self.maps.get(epoch)
        return None if of_images is None else next(iter(of_images.values()))


def chosen_epochs(epochs: Sequence[int]) -> tuple[int, ...]:
    """Return up to `MOST_EPOCHS` epochs: first, last, and those evenly between in order."""
    return tuple(evenly(sorted(set(epochs)), MOST_EPOCHS))


def agreed_images(
    chosen: Sequence[ChosenRuns],
    listings: Mapping[str, Sequence[int]],
    files: RunFiles,
    most: int = MOST_IMAGES,
) -> dict[int, np.ndarray]:
    """Return number -> picture of at most `most` images: those all runs show, or the first."""
    of_runs = []
    for runs in chosen:
        for epoch in reversed(listings[runs.arm]):
            arrays = files.samples(runs.runs[0][1], epoch, array_names((), ()))
            try:
                numbers = image_numbers(arrays or {})
            except ValueError:
                continue
            of_runs.append(dict(zip(numbers, (arrays or {})["image"], strict=True)))
            break
    if not of_runs:
        return {}
    common = [number for number in of_runs[0] if all(number in other for other in of_runs)]
    return {number: of_runs[0][number] for number in (common or [*of_runs[0]])[:most]}


def read_samples(
    chosen: Sequence[ChosenRuns],
    listings: Mapping[str, Sequence[int]],
    epochs: Sequence[int],
    files: RunFiles,
    tasks: Sequence[str],
    images: Mapping[int, np.ndarray],
) -> tuple[list[ShownSamples], list[str]]:
    """Return what each method shows, and why others show less."""
    shown: list[ShownSamples] = []
    targets: dict[tuple[str, int], np.ndarray] = {}
    notes = []
    for runs in chosen:
        run_id = runs.runs[0][1]
        if not listings[runs.arm]:
            notes.append(f"{runs.arm}: run {run_id} has no samples.")
            continue
        read = ShownSamples(runs.arm, run_id, {}, {}, {task: {} for task in tasks})
        refused = []
        for epoch in epochs:
            try:
                _read(read, epoch, files, images, targets, is_last=epoch == epochs[-1])
            except ValueError as error:
                refused.append(f"epoch {epoch} ({error})")
        if refused:
            notes.append(f"{runs.arm}: samples of run {run_id} are not shown: {listed(refused)}.")
        if read.maps:
            read.weights.update(_weights(read, files))
            shown.append(read)
    return shown, notes


def _read(
    into: ShownSamples,
    epoch: int,
    files: RunFiles,
    images: Mapping[int, np.ndarray],
    targets: dict[tuple[str, int], np.ndarray],
    *,
    is_last: bool,
) -> None:
    """Read the samples of an epoch; at the last one predictions too, and of all images.

    `targets` are those of the runs read before, and take up those of the first.
    """
    tasks = list(into.estimates)
    kinds = ("error", "valid", *(("target", "prediction") if is_last else ()))
    arrays = files.samples(into.run_id, epoch, array_names(tasks, kinds))
    if arrays is None or not images:
        raise ValueError("there are none that can be read")
    maps = {}
    found: dict[tuple[str, int], Estimates] = {}
    for number in images if is_last else list(images)[:1]:
        maps[number] = error_maps(arrays, tasks, number)
        if not np.array_equal(maps[number].image, images[number]):
            raise ValueError(f"image {number} is another picture than in the run before")
        for task in tasks if is_last else ():
            found[task, number] = estimates(arrays, task, number)
            target = found[task, number].target
            if not np.array_equal(target, targets.get((task, number), target), equal_nan=True):
                raise ValueError(f"the {task} target of image {number} is another one")
    for (task, number), estimate in found.items():
        targets.setdefault((task, number), estimate.target)
        into.estimates[task][number] = estimate
    into.maps[epoch] = maps


def _weights(shown: ShownSamples, files: RunFiles) -> dict[int, dict[str, float] | None]:
    records = files.epochs(shown.run_id)
    tasks = list(shown.estimates)
    try:
        check_records(records, len(tasks))
    except ValueError:
        return dict.fromkeys(shown.maps)
    held = {record.epoch: record.weights for record in records}
    return {epoch: even_weights(tasks, held.get(epoch)) for epoch in shown.maps}
