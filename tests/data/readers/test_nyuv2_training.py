"""The official NYUv2 layout, from real frames to a trained network, by the commands of a user."""

import numpy as np
import pytest

from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from tests.data.prepare.commands import prepared
from tests.data.readers.nyuv2_formats import real_frames, write_official

LABELLED = (1, 2, 9, 14, 15, 16, 17, 18)
"""Official indices of the frames at hand that have labels."""


@pytest.mark.slow
@pytest.mark.parametrize("depth", ["filled", "raw"])
def test_depth_normal_and_segmentation_overfit_on_real_frames(depth, real_data, tmp_path):
    # About two minutes each. Six frames to train on, one held out; that the losses fall to a
    # fraction shows that images, depths, normals and labels belong together pixel by pixel.
    frames = real_frames(real_data, LABELLED)
    if depth == "raw":  # holes as a Kinect leaves them
        generator = np.random.default_rng(2)
        print("hole seed 2")
        blobs = np.kron(generator.random((len(LABELLED), 48, 64)) < 0.1, np.ones((1, 10, 10), bool))
        frames.raw_depths[blobs] = 0
    (tmp_path / "nyu").mkdir()
    source = write_official(tmp_path / "nyu", frames, train=(1, 2, 3, 4, 5, 6, 7), test=(8,))
    manifest = prepared(
        "nyuv2", source, tmp_path / "data", "--size", "48x64", "--option", f"depth={depth}",
        "--tasks", "depth", "normal", "segmentation",
    )  # fmt: skip
    assert manifest["counts"] == {"train": 6, "validation": 1, "test": 1}
    statistics = manifest["statistics"]["depth"]
    if depth == "raw":  # cells half covered count
        assert statistics["share_measured"] < statistics["share_valid"] - 0.02
    spec = RunSpec.from_dict(
        {
            "tasks": ["depth", "normal", "segmentation"], "method": "lsb", "epochs": 900,
            "batch_size": 6, "horizontal_flips": False,
            "data": {
                "name": "nyuv2", "prepared": manifest["folder_hash"], "height": 48, "width": 64,
                "num_train": 6, "num_validation": 1, "num_test": 1,
            },
            "network": {
                "architecture": "multi_decoder", "encoder": "test_efficientnet",
                "encoder_stride": 4, "decoder_widths": [64, 64, 48, 48, 32, 32],
            },
            "optimizer": {"learning_rate": 2.5e-3, "schedule": "linear", "warmup_share": 0.1},
        }
    )  # fmt: skip
    store = Store(tmp_path / "store")
    runtime = Runtime(device="cpu", data_root=str(tmp_path / "data"), num_samples=0)
    result = fit(spec, store, runtime)
    records = store.epochs(spec.run_id())
    for task, first, last in zip(spec.tasks, records[0].losses, records[-1].losses, strict=True):
        print(f"{task}: {first:.3f} -> {last:.4f}")
        assert last < 0.2 * first
    assert set(result.final_metrics["test"]) == set(spec.tasks)
