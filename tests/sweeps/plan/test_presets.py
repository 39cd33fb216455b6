"""The supplement's settings: full size builds and steps, quick versions train."""

import dataclasses
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from mtl.data.sample import DataInfo
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from sweeps.options import Command, parse_command
from sweeps.plan import grid_specs
from sweeps.plan.fields import nested
from sweeps.plan.presets import PRESETS, check_size
from sweeps.priority_grid import GRID, main

PRESET = pytest.mark.parametrize("name", sorted(PRESETS))


def full_spec(name: str, **changes: object) -> RunSpec:
    preset = PRESETS[name]
    fields = {**preset.fields, "tasks": preset.tasks, "method": "lsb", **changes}
    return RunSpec.from_dict(nested(fields))


# Supplement, sections 1 and 3, by hand:
# epochs, increase rate, image size, timm's encoder, tasks, alpha_ii of the cross-stitch units
SUPPLEMENT = {
    "nyuv2_mobilenet": (1000, 0.02, (288, 384), "mobilenetv2_100", 3, 0.9),
    "nyuv2_pnasnet": (50, 0.05, (288, 384), "pnasnet5large", 3, None),
    "taskonomy_4": (200, 0.5, (256, 256), "mobilenetv2_100", 4, 1 / 4),
    "taskonomy_8": (200, 0.5, (256, 256), "mobilenetv2_100", 8, 1 / 8),
}


@PRESET
def test_presets_are_those_of_the_supplement(name):
    epochs, rate, size, encoder, num_tasks, own_share = SUPPLEMENT[name]
    spec = full_spec(name)
    assert spec.epochs == epochs
    assert spec.method_options["increase_rate"] == rate
    assert (spec.data.height, spec.data.width) == size
    assert spec.network.encoder == encoder
    assert spec.network.encoder_stride == 32
    assert len(spec.tasks) == num_tasks
    assert spec.priorities == pytest.approx([1 / num_tasks] * num_tasks)
    if own_share is not None:
        assert spec.network.architecture == "multi_column"
        assert spec.network.cross_stitch_own_share == own_share
    optimizer = spec.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay) == (1e-4, 0.01)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.999, 1e-8)
    assert (optimizer.schedule, optimizer.warmup_share) == ("constant", 0)
    assert spec.horizontal_flips
    assert (spec.period_epochs, spec.period_steps) == (1, None)
    assert spec.network.encoder_weights == "imagenet"
    images = spec.data.num_train + spec.data.num_validation
    # NYUv2: 795 training and 654 test images; the mini Taskonomy: 2,762 and 548.
    assert (images, spec.data.num_test) == ((795, 654) if "nyuv2" in name else (2762, 548))


@pytest.mark.slow
@PRESET
def test_full_size_spec_builds_and_takes_a_step(name):
    # The smallest batch, and an encoder that needs no download: all else as the supplement says.
    from mtl.training.probe import probe

    spec = full_spec(name, **{"network.encoder_weights": "random", "batch_size": 1})
    info = DataInfo(classes=tuple(map(str, range(13))), depth_range_m=(0.7, 10.0))
    result = probe(spec, info, num_steps=1)
    print(name, result)
    assert result.num_parameters > 4e6
    assert result.seconds_per_step > 0


def asked(*argv: str) -> Command:
    return parse_command("priority_grid", "", argv, GRID)


def specs_of(*argv: str) -> list[RunSpec]:
    return grid_specs(asked(*argv).grid)


def ids_of(*argv: str) -> set[str]:
    return {spec.run_id() for spec in specs_of(*argv)}


@PRESET
def test_quick_version_keeps_network_and_image_size(name):
    full = full_spec(name)
    quick = specs_of("--preset", name, "--quick")
    assert {spec.method for spec in quick} == {"lsb", "fixed"}
    for spec in quick:
        assert (spec.data.height, spec.data.width) == (full.data.height, full.data.width)
        assert dataclasses.replace(spec.network, encoder_weights="imagenet") == full.network
        assert spec.tasks == full.tasks
        assert spec.network.encoder_weights == "random"  # nothing is downloaded
        assert spec.epochs * spec.data.num_train <= 16


@pytest.mark.slow
@PRESET
def test_quick_version_trains(name, data_root, tmp_path):
    from mtl.training import fit

    (spec, *_) = specs_of("--preset", name, "--quick", "--methods", "lsb")
    result = fit(spec, Store(tmp_path / "store"), Runtime(device="cpu", data_root=data_root))
    assert set(result.final_metrics["test"]) == set(spec.tasks)


def write_manifest(root: Path, height: int, width: int, digits: str = "0123456789abcdef") -> None:
    """Write what a prepared NYUv2 says of itself; plans read no more."""
    folder = root / f"nyuv2-{digits}"
    folder.mkdir(parents=True)
    manifest = {
        "schema": 1, "name": "nyuv2", "source": "/x", "tasks": ["depth", "normal", "segmentation"],
        "size": {"height": height, "width": width}, "folder_hash": digits, "arrays": {},
        "counts": {"train": 716, "validation": 79, "test": 654}, "skipped": {},
        "info": {"depth_range_m": [0.5, 10.0], "classes": ["wall", "floor"]},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_prepared_data_are_trained_on_only_when_named(tmp_path):
    preset = ("--preset", "nyuv2_mobilenet")
    (note,) = asked(*preset).notes
    assert "rendered scenes stand in for NYUv2. `--dataset nyuv2` trains on the data itself" in note
    assert "once `python -m mtl.data.prepare nyuv2 --source PATH --size 288x384` has run" in note
    # What lies in the folder changes no run.
    scenes = ids_of(*preset)
    write_manifest(tmp_path, 288, 384)
    argv = (*preset, "--data-root", str(tmp_path))
    assert ids_of(*argv) == ids_of(*argv, "--dataset", "scenes") == scenes
    assert asked(*argv, "--dataset", "scenes").notes == ()
    for spec in specs_of(*argv, "--dataset", "nyuv2"):
        assert (spec.data.name, spec.data.prepared) == ("nyuv2", "0123456789abcdef")
        assert (spec.data.num_train, spec.epochs) == (716, 1000)


def test_prepared_data_of_another_size_are_refused(tmp_path):
    write_manifest(tmp_path, 96, 128)
    argv = ("--preset", "nyuv2_mobilenet", "--data-root", str(tmp_path), "--dataset", "nyuv2")
    with pytest.raises(ValueError, match="nyuv2 prepared at 288x384 .* got 96x128. Run `python -m"):
        asked(*argv)
    # Both there: the right one is chosen by its hash.
    write_manifest(tmp_path, 288, 384, "fedcba9876543210")
    specs = specs_of(*argv, "--set", "data.prepared=fedcba9876543210")
    assert {spec.data.height for spec in specs} == {288}
    # Data of one's own have any size.
    check_size(PRESETS["taskonomy_4"], "folder", 10, 10)


def test_flags_win_over_a_preset():
    specs = specs_of("--preset", "taskonomy_4", "--epochs", "3", "--set", "batch_size=2,4")
    assert {spec.epochs for spec in specs} == {3}
    assert {spec.batch_size for spec in specs} == {2, 4}


def test_axis_without_meaning_for_a_run_does_not_repeat_it():
    specs = specs_of(
        "--methods", "lsb", "equal", "--architectures", "full_sharing", "multi_column",
        "--set", "network.cross_stitch_own_share=0.9,0.5", "period_epochs=1,2", "--seeds", "1",
        "--divisions", "2",
    )  # fmt: skip
    distinct = {spec.run_id(): spec for spec in specs}.values()
    # lsb knows periods (2), multi-column the share (2); equal and full sharing neither.
    assert Counter((spec.method, spec.network.architecture) for spec in distinct) == {
        ("lsb", "full_sharing"): 2,
        ("lsb", "multi_column"): 4,
        ("equal", "full_sharing"): 1,
        ("equal", "multi_column"): 2,
    }


def test_pairs_that_cannot_be_trained_are_left_out_with_a_note(tmp_path, capsys):
    # The single-task baseline belongs into the sweep of the methods that compare gradients.
    argv = ["--plan", "--store", str(tmp_path / "s"), "--methods", "lsb", "gradnorm"]
    assert main([*argv, "--architectures", "single_task", "full_sharing", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "gradnorm is left out for single_task: it compares the tasks' gradients" in out
    assert out.count(" gradnorm ") == 1  # one run
    assert "11 runs" in out  # 2 x 5 of lsb, 1 of gradnorm


def test_probe_prints_each_network_once(tmp_path, capsys, monkeypatch):
    from mtl.training.probe import probe

    monkeypatch.setattr("sweeps.launch.probing.probe_alone", partial(probe, num_steps=1))
    argv = ["--plan", "--probe", "--store", str(tmp_path / "s"), "--quick"]
    assert main([*argv, "--architectures", "full_sharing", "multi_decoder"]) == 0
    out = capsys.readouterr().out
    assert out.count("M parameters") == 2
    assert out.count("GFLOP forward an image") == 2
    assert out.count("of activations kept") == 2
    assert out.count("of memory at a run's peak") == 2
    assert not (tmp_path / "s").exists()


def test_gradient_methods_note_that_they_see_micro_batches(tmp_path, capsys):
    argv = ["--plan", "--store", str(tmp_path / "s"), "--methods", "gradnorm", "lsb"]
    assert main([*argv, "--set", "micro_batches=2"]) == 0
    out = capsys.readouterr().out
    assert "gradnorm compares the gradients of each micro-batch" in out
    assert "lsb compares" not in out


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("network.encoder_weights=imagenet", "--encoder-weights FILE that holds a state dict"),
        ("network.encoder=test_vit", "encoder_stride of 'test_vit' to be one of [16], got 4"),
    ],
)
def test_network_that_cannot_be_built_stops_a_sweep_at_once(
    setting, says, tmp_path, capsys, monkeypatch
):
    import timm

    from mtl.training.probe import probe

    create = timm.create_model

    def no_network(name: str, pretrained: bool = False, **options: object) -> object:
        if pretrained:
            raise OSError("no network")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", no_network)
    monkeypatch.setattr("sweeps.launch.probing.probe_alone", partial(probe, num_steps=1))
    store, data_root = tmp_path / "store", tmp_path / "data"
    argv = ["--quick", "--set", setting, "--data-root", str(data_root), "--store", str(store)]
    # Probing downloads nothing.
    for more in ([],) if "imagenet" in setting else (["--plan", "--probe"], []):
        assert main([*argv, *more]) in (1, 2)
        error = capsys.readouterr().err
        assert says in error
        assert len(error.strip().splitlines()) == 1
    assert not data_root.exists()
    assert not list((store / "runs").iterdir())


def test_weights_file_is_named_by_its_hash_and_checked_first(tmp_path, capsys):
    import timm
    import torch

    own, other = tmp_path / "own.pth", tmp_path / "other.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), own)
    torch.save(timm.create_model("test_resnet").state_dict(), other)
    both = ["--encoder-weights", str(own), "--set", "network.encoder_weights=random"]
    with pytest.raises(ValueError, match="once, got it by --encoder-weights and by --set"):
        parse_command("priority_grid", "", both, GRID)
    command = parse_command("priority_grid", "", ["--encoder-weights", str(own)], GRID)
    (weights,) = {spec.network.encoder_weights for spec in grid_specs(command.grid)}
    assert re.fullmatch("sha256:[0-9a-f]{16}", weights)
    assert command.runtime.encoder_weights_file == str(own)
    argv = ["--quick", "--store", str(tmp_path / "s"), "--encoder-weights", str(other)]
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert re.search(r"another model: .*is missing.* and \d+ more", error), error
    assert len(error.strip().splitlines()) == 1
