"""Batches: order, flips and their effect on targets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl.data.batches import (
    Batch,
    Derivation,
    DeviceSplit,
    MappedSplit,
    Mirror,
    epoch_flips,
    epoch_order,
    evaluation_batches,
    training_batches,
)
from mtl.data.prepared import info_of, prepare
from mtl.spec.sections import DataSpec
from mtl.tasks import TASKS

CPU = torch.device("cpu")
DATA = DataSpec(height=16, width=24, num_train=10, num_validation=3, num_test=3)
INFO = info_of(DATA)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> MappedSplit:
    folder: Path = prepare(DATA, str(tmp_path_factory.mktemp("data")))
    return MappedSplit(folder, "train", ("depth", "normal", "segmentation"))


def epoch(split: MappedSplit, number: int, *, flips: bool = True, seed: int = 0) -> list[Batch]:
    signs = {"normal": (-1.0, 1.0, 1.0)}
    return list(
        training_batches(split, seed=seed, epoch=number, batch_size=4, horizontal_flips=flips,
                         mirror_signs=signs, device=CPU)
    )  # fmt: skip


def test_shapes_and_types(split: MappedSplit) -> None:
    batch = split.batch(np.arange(3), CPU)
    assert batch.images.shape == (3, 3, 16, 24)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert batch.targets["depth"].shape == (3, 1, 16, 24)
    assert batch.targets["normal"].shape == (3, 3, 16, 24)
    assert batch.targets["segmentation"].shape == (3, 16, 24)
    assert batch.targets["segmentation"].dtype == torch.int64
    assert {mask.dtype for mask in batch.valid.values()} == {torch.bool}


def test_epoch_holds_every_sample_once(split: MappedSplit) -> None:
    batches = epoch(split, 1, flips=False)
    assert [len(b.images) for b in batches] == [4, 4, 2]
    seen = torch.cat([b.images for b in batches])
    everything = split.batch(np.arange(10), CPU).images
    matches = [[torch.equal(a, b) for b in everything].index(True) for a in seen]
    assert sorted(matches) == list(range(10))
    assert matches == epoch_order(0, 1, 10).tolist()


def test_order_and_flips_are_functions_of_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_order(0, 1, 50), epoch_order(0, 1, 50))
    assert (epoch_order(0, 1, 50) != epoch_order(0, 2, 50)).any()
    assert (epoch_order(0, 1, 50) != epoch_order(1, 1, 50)).any()
    assert (epoch_flips(0, 1, 500) != epoch_flips(0, 2, 500)).any()
    # Binomial(20000, 1/2) has standard deviation 71: four of them.
    assert abs(int(epoch_flips(0, 3, 20_000).sum()) - 10_000) < 300


def random_split(seed: int, count: int, height: int, width: int) -> DeviceSplit:
    """Return a split of all tasks as stored; 2 of 3 pixels are valid, the others hold 0."""
    rng = torch.Generator().manual_seed(seed)
    shape = (count, height, width)
    arrays = {"image": torch.randint(0, 256, (*shape, 3), generator=rng, dtype=torch.uint8)}
    for name, task in TASKS.items():
        mask = torch.rand(shape, generator=rng) < 0.67
        if name == "segmentation":
            classes = torch.randint(0, 13, shape, generator=rng)
            arrays[name] = torch.where(mask, classes, 0).to(torch.uint8)
        else:
            values = torch.randn(*shape, task.num_channels(INFO), generator=rng)
            arrays[name] = torch.where(mask[..., None], values, 0.0).half()
        arrays[f"{name}_valid"] = mask
    return DeviceSplit(arrays, tuple(TASKS))


def flipped_batch(split: DeviceSplit, flips: np.ndarray) -> Batch:
    (stored,) = split.stored([np.arange(len(split))], CPU)
    signs = {
        name: torch.tensor(task.mirror_signs)
        for name, task in TASKS.items()
        if task.mirror_signs is not None
    }
    assert set(signs) == {"normal"}
    return split.assembled(stored, Mirror(torch.from_numpy(flips), signs))


@settings(max_examples=50)
@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.data()
)
def test_flips_move_masks_with_values(count, height, width, seed, data):
    split = random_split(seed, count, height, width)
    batch = split.batch(np.arange(count), CPU)
    flips = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    got = flipped_batch(split, flips)
    for task, mask in got.valid.items():
        target, before = got.targets[task], batch.targets[task]
        for index, flipped in enumerate(flips):
            # By hand, column by column: what stands in column j came from column width - 1 - j.
            for column in range(width):
                source = width - 1 - column if flipped else column
                assert torch.equal(mask[index, :, column], batch.valid[task][index, :, source])
                value, old = target[index, ..., column], before[index, ..., source]
                if task == "normal" and flipped:
                    assert torch.equal(value[0], -old[0])
                    value, old = value[1:], old[1:]
                assert torch.equal(value, old)
        outside = ~mask if target.ndim == 3 else ~mask[:, None].expand_as(target)
        assert not target[outside].any()  # invalid stays 0, negated or not
    for index, flipped in enumerate(flips):
        before = batch.images[index]
        assert torch.equal(got.images[index], before.flip(-1) if flipped else before)


def halved(targets: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return targets["depth"] / 2, valid["depth"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("flips", [True, False])
def test_split_on_the_device_gives_the_batches_of_the_mapped_one(tmp_path, device, flips):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    tasks = ("depth", "normal", "segmentation", "own")
    mapped = MappedSplit(
        prepare(DATA, str(tmp_path)),
        "train",
        tasks,
        derived={"own": Derivation(("depth",), halved)},
    )
    where = torch.device(device)
    signs = {"normal": (-1.0, 1.0, 1.0), "own": (-1.0,)}
    settings = {"seed": 0, "epoch": 1, "batch_size": 4, "mirror_signs": signs}
    # On a GPU the mapped one is streamed.
    plain, streamed, placed = (
        list(training_batches(split, horizontal_flips=flips, device=on, **settings))
        for split, on in ((mapped, CPU), (mapped, where), (DeviceSplit.of(mapped, where), where))
    )
    assert [len(b.images) for b in plain] == [4, 4, 2]
    for expected, *others in zip(plain, streamed, placed, strict=True):
        for got in others:
            assert got.images.device.type == device
            assert got.images.stride() == expected.images.stride()
            assert torch.equal(got.images.cpu(), expected.images)
            for task in tasks:
                assert torch.equal(got.targets[task].cpu(), expected.targets[task])
                assert torch.equal(got.valid[task].cpu(), expected.valid[task])


def test_flips_follow_sample_not_its_place(split: MappedSplit) -> None:
    flips = epoch_flips(0, 1, 10)
    assert flips.any()
    assert not flips.all()
    straight = split.batch(np.arange(10), CPU).images
    for batch, start in zip(epoch(split, 1), (0, 4, 8), strict=True):
        for image, index in zip(batch.images, epoch_order(0, 1, 10)[start:], strict=False):
            expected = straight[index].flip(-1) if flips[index] else straight[index]
            assert torch.equal(image, expected)


def test_evaluation_reads_split_in_order(split: MappedSplit) -> None:
    images = torch.cat([b.images for b in evaluation_batches(split, batch_size=4, device=CPU)])
    assert torch.equal(images, split.batch(np.arange(10), CPU).images)


def test_batches_are_copies_of_map(split: MappedSplit) -> None:
    before = split.batch(np.arange(2), CPU).targets["depth"].clone()
    split.batch(np.arange(2), CPU).targets["depth"].zero_()
    assert torch.equal(split.batch(np.arange(2), CPU).targets["depth"], before)
