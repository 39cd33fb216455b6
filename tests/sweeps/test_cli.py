"""The command line: `--plan`, bad input, configuration files and `--quick`."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mtl.errors import PreparedDataError
from mtl.store import Store, store, write_json
from sweeps import command
from sweeps.options import parse_command
from sweeps.plan import cost, grid_specs
from sweeps.priority_grid import GRID, main
from tests.sweeps.played import PlayedLaunch, finish

pytestmark = pytest.mark.usefixtures("two_cpus")
EPOCHS = GRID.fields["epochs"]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def parsed(*argv):
    return parse_command("priority_grid", "", argv, GRID)


def test_plan_and_help_import_nothing_heavy(tmp_path):
    code = """
import sys
from sweeps.priority_grid import main
heavy = {"torch", "torchvision", "timm", "ray", "scipy", "pandas", "plotly", "optuna", "pyarrow"}
try:
    main(["--help"])
except SystemExit:
    assert not (heavy | {"numpy"}) & set(sys.modules), (heavy | {"numpy"}) & set(sys.modules)
assert main(["--plan", "--store", sys.argv[1]]) == 0
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    argv = [sys.executable, "-c", code, str(tmp_path / "store")]
    out = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (out.returncode, out.stderr) == (0, "")


@pytest.mark.parametrize("address", ["{}/a store", "file://{}/a%20store"])
def test_plan_counts_done_and_failed_runs(address, tmp_path, capsys):
    address = address.format(tmp_path)
    store = Store(tmp_path / "a store")
    specs = grid_specs(GRID)
    done = finish(store, specs[0], seconds=100.0)
    store.write_spec(specs[1])
    store.write_error(specs[1].run_id(), "no")
    before = files_below(store.root)
    assert main(["--plan", "--store", address]) == 0
    out = capsys.readouterr().out
    assert f"20 runs: 1 done, 18 to do ({18 * EPOCHS} epochs), 1 failed earlier" in out
    assert "from earlier runs in the store" in out
    assert main(["--plan", "--store", address, "--retry-failed"]) == 0
    assert "20 runs: 1 done, 19 to do" in capsys.readouterr().out
    assert main(["--plan", "--json", "--store", address]) == 0
    held = json.loads(capsys.readouterr().out)
    assert [run["run_id"] for run in held["runs"] if run["done"]] == [done]
    assert files_below(store.root) == before


def test_plan_says_how_much_a_budget_holds(tmp_path, capsys):
    for hours, says in (("100", "should hold 20 of 20 runs"), ("0.001", "should hold 0 of 20")):
        assert main(["--plan", "--store", str(tmp_path / "s"), "--budget", hours]) == 0
        assert f"A budget of {hours} h {says}" in capsys.readouterr().out


def test_plan_says_what_packs_are_worth(tmp_path, capsys):
    assert main(["--plan", "--store", str(tmp_path / "s"), "--pack", "4"]) == 0
    out = capsys.readouterr().out
    assert "with 2 packs of up to 4 runs at a time" in out
    assert "--pack 4: without a GPU packed runs are not faster" in out
    assert main(["--plan", "--store", str(tmp_path / "s"), "--pack", "auto"]) == 0
    assert "one by one where there is no GPU" in capsys.readouterr().out


def test_plan_says_what_is_compared_and_warns(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text("methods: [lsb, fixed, stch]\nprimary: [lsb, stch]\n")
    argv = ["--plan", "--store", str(tmp_path / "s"), "--config", str(tmp_path / "grid.yaml")]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "Primary comparison: lsb against stch, without correction; significant from 6" in out
    assert "\nWarning: no comparison of methods can be significant with 2 seeds" in out
    assert main([*argv, "--seeds", "6"]) == 0
    assert "Warning" not in capsys.readouterr().out
    assert main([*argv, "--json", "--seeds", "6"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"] == {
        "primary": ["lsb", "stch"],
        "num_others": 2,
        "num_seeds": 6,
        "min_seeds_primary": 6,
        "min_seeds_others": 7,
        "is_attainable": True,
    }


def test_long_plan_is_listed_in_part(tmp_path, capsys):
    assert main(["--plan", "--store", str(tmp_path / "s"), "--divisions", "50"]) == 0
    assert "... and 156 more; --json lists all." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--tasks", "depth", "colour"], "Unknown task 'colour'"),
        (["--methods", "lbs"], "Did you mean lsb"),
        (["--architectures", "mtam"], "Unknown architecture 'mtam'"),
        (["--dataset", "cityscapes"], "Unknown data set 'cityscapes'"),
        (["--set", "network.encoder=resnet5"], "Did you mean resnet"),
        (["--set", "network.encodr=resnet50"], "Did you mean network.encoder"),
        (["--set", "priorities=[0.5,0.6]"], "sum to 1"),
        (["--set", "priorities=[0.2,0.3,0.5]"], "Expected 2 priorities"),
        (["--set", "optimizer.learning_rate=-1"], "to be positive"),
        (["--tasks", "depth", "depth"], "distinct tasks"),
        (["--methods", "lsb", "lsb"], "Expected each method once, got lsb twice"),
        (["--set", "epochs=3,3"], "Expected each value of epochs once, got 3 twice"),
        (["--set", "priorities=[-0.5,1.5]"], "positive priorities"),
        (["--set", "method=lsb"], "set by --methods"),
        (["--set", "epochs=2", "epochs=3"], "got it by --set and by --set"),
        (["--epochs", "20", "--set", "epochs=10"], "epochs once, got it by --epochs and by --set"),
        (["--architectures", "mtan", "--set", "network.architecture=mtan"], "by --architectures"),
        (["--dataset", "nyuv2", "--set", "data.name=scenes"], "data.name once"),
        (["--divisions", "4", "--set", "priorities=[0.5,0.5]"], "priorities once"),
        (["--seeds", "3", "--set", "seed=1"], "set by --seeds"),
        (["--methods", "fixed", "--set", "method_options.increase_rate=0.1"], "or choose lsb"),
        (["--methods", "equal", "--set", "period_epochs=2"], "no period_epochs, which no run"),
        (["--set", "network.cross_stitch_own_share=0.3"], "no network.cross_stitch_own_share"),
        (["--set", "loss_units.normal=0.1"], "no loss_units.normal, which no run"),
        (["--methods", "equal", "--set", "priorities=[0.2,0.8]"], "no priorities, which no run"),
        (["--methods", "torchjd:Up"], "Unknown TorchJD method 'Up'"),
        (["--methods", "torchjd:Krum"], "got none. torchjd:Krum is left out"),
        (
            ["--methods", "gradnorm", "--architectures", "single_task"],
            "gradnorm is left out for single_task: it compares the tasks' gradients at shared",
        ),
        (["--set", "period_epochs=20"], "no longer than the training of 16 epochs"),
        (["--set", "method_options.clamp=0.5"], "clamp"),
        (["--encoder-weights", "/none/x.pth"], "encoder weights at /none/x.pth"),
        (["--num-samples", "-1"], "num_samples to be at least 0"),
        (["--preset", "nyu"], "Unknown preset 'nyu'"),
        (["--preset", "taskonomy_4", "--tasks", "depth", "segmentation"], "that Taskonomy has"),
        (["--probe"], "--probe together with --plan"),
        (["--divisions", "1"], "--divisions 2 or more"),
        (["--seeds", "0"], "at least 1 seed"),
        (["--epochs", "0"], "epochs to be at least 1"),
        (["--pack", "0"], "--pack auto, or a number of runs from 1 on, got '0'"),
        (["--pack", "some"], "got 'some'"),
        (["--pack", "2", "--gpus-per-run", "0.5"], "either --pack or --gpus-per-run 0.5"),
        (["--epochs", "few"], "Argument --epochs: invalid int value"),
        (["--wat"], "Unrecognized arguments: --wat"),
        (["--cpus-per-run", "3"], "at most 2, the CPUs of this machine, got 3"),
        (["--cpus-per-run", "0"], "above 0"),
        (["--gpus-per-run", "1"], "at most 0, the GPUs of this machine"),
        (["--gpus-per-run", "2"], "at most 0, the GPUs of this machine, got 2"),
        (["--gpus-per-run", "1.5"], "share a GPU) or a whole number of GPUs, got 1.5"),
        (["--gpus-per-run", "inf"], "a whole number of GPUs, got inf"),
        (["--concurrency", "0"], "at least 1"),
        (["--budget", "0"], "--budget above 0"),
        (["--budget=-1"], "--budget above 0"),
        (["--budget", "nan"], "--budget above 0"),
        (["--budget", "inf"], "--budget above 0"),
        (["--budget", "1e9"], "at most 8784 hours"),
        (["--config", "absent.yaml"], "absent.yaml (No such file"),
        (["--store", "shelf://bucket/store"], "an address like s3://bucket/prefix"),
        (["--store", ""], "Expected a folder after --store"),
        (["--divisions", "1000000"], "at most 100,000 runs, got 3,999,996"),
        (["--name", "../up"], "Expected a sweep name of letters"),
        (["--keep", "some"], "invalid choice"),
        (["--primary", "lsb", "stch"], "got lsb and stch. Those of this sweep: lsb, fixed."),
        (["--refine", "0"], "at least 1, got 0"),
        (["--refine", "5"], "got 5. Use more --divisions"),
        (["--refine", "1", "--divisions", "2"], "at most 0, the gaps"),
        (["--refine", "1", "--set", "priorities=[0.2,0.8]"], "priorities of your own"),
        (["--refine", "1", "--methods", "equal"], "a method that takes priorities"),
        (["--refine", "1", "--tasks", "depth"], "got 1. Name more --tasks"),
        (["--refine", "1", "--refine-by", "unsure"], "at least 3 seeds"),
        (["--refine", "1", "--refine-by", "sure"], "of --refine-by"),
        (["--refine", "1", "--refine-by", "unsure", "--seeds", "3", "--divisions", "3"], "3 div"),
        (["--refine-by", "unsure"], "together with --refine"),
        (["--tasks", "depth", "normal", "segmentation", "--divisions", "2"], "--divisions 3 or"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(argv, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--plan"]):
        if more and argv[0] == "--probe":
            continue  # it goes with --plan
        assert main([*argv, *more]) in (1, 2)
        captured = capsys.readouterr()
        assert says in captured.err
        assert len(captured.err.strip().splitlines()) == 1
        assert captured.out == ""
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("more", [["--plan"], []])
def test_store_that_cannot_be_used_is_refused(more, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("text")
    assert main(["--store", str(file), *more]) == 1
    assert "got the file" in capsys.readouterr().err
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    write_json(foreign / "store.json", {"schema": 99})
    assert main(["--store", str(foreign), *more]) == 1
    assert "got schema 99" in capsys.readouterr().err
    for nowhere in ("/proc/nothing/below", str(file / "below")):
        assert main(["--store", nowhere, *more]) == 1
        captured = capsys.readouterr()
        assert f"Expected a folder that can be written, got {nowhere}: " in captured.err
        assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert files_below(tmp_path) == ["file", "foreign", "foreign/store.json"]


def test_plan_for_a_read_only_folder_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(store.os, "access", lambda folder, mode: False)
    assert main(["--plan", "--store", str(tmp_path / "a" / "b")]) == 1
    assert f": {tmp_path} is not writable." in capsys.readouterr().err


def test_out_of_memory_is_one_sentence(tmp_path, capsys, monkeypatch):
    def greedy(grid):
        return np.empty(1 << 60, dtype=np.uint8)

    monkeypatch.setattr(command, "grid_specs", greedy)
    assert main(["--store", str(tmp_path / "s")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("priority_grid: Out of memory (Unable to allocate")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left"), PreparedDataError("no")]
)
def test_failed_sweep_leaves_the_status_stopped(failure, tmp_path, capsys, monkeypatch):
    launched = PlayedLaunch(monkeypatch)
    launched.stop_after, launched.stops_by = 0, failure
    assert main(["--store", str(tmp_path / "s")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    status = json.loads((tmp_path / "s/sweeps/priority_grid/status.json").read_text())
    assert (status["state"], status["running"], status["waiting"]) == ("stopped", [], 20)


def test_primary_comparison_is_written_with_the_first_start_and_kept(tmp_path, capsys, monkeypatch):
    PlayedLaunch(monkeypatch)
    store = tmp_path / "s"
    argv = ["--store", str(store), "--divisions", "2", "--seeds", "1", "--methods"]

    def declared():
        return json.loads((store / "sweeps/priority_grid/plan.json").read_text())["primary"]

    assert main([*argv, "lsb", "stch", "--name", "other"]) == 0
    assert main([*argv, "fixed", "scaled_fixed"]) == 0
    out = capsys.readouterr().out
    assert "Primary comparison: fixed against scaled_fixed, without correction" in out
    assert out.count("Warning: no comparison of methods can be significant with 1 seed") == 2
    assert declared() == ["fixed", "scaled_fixed"]
    assert main([*argv, "lsb", "fixed", "scaled_fixed"]) == 0
    assert declared() == ["fixed", "scaled_fixed"]
    assert "Primary comparison: fixed against scaled_fixed" in capsys.readouterr().out
    moving = [*argv, "lsb", "fixed", "scaled_fixed", "--primary", "lsb", "fixed"]
    for more in ([], ["--plan"]):
        assert main([*moving, *more]) == 2
        said = capsys.readouterr().err
        assert "fixed and scaled_fixed were declared before them" in said
        assert len(said.splitlines()) == 1
    assert declared() == ["fixed", "scaled_fixed"]


def test_command_line_wins_over_the_config_file(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(
        "methods: [lsb]\ntasks: [depth, normal]\nseeds: 3\ndataset: scenes\n"
        "optimizer:\n  learning_rate: [1e-4, 1.0e-3]\nnetwork.decoder_widths: [6, 5, 4, 3, 2, 1]\n"
        "epochs: 7\n"
    )
    grid = parsed("--config", str(config), "--seeds", "1", "--epochs", "5").grid
    assert (grid.methods, grid.task_sets, grid.seeds) == (("lsb",), (("depth", "normal"),), 1)
    assert grid.axes == {
        "optimizer.learning_rate": (1e-4, 1e-3),
        "network.decoder_widths": ((6, 5, 4, 3, 2, 1),),
        "epochs": (5,),
        "data.name": ("scenes",),
    }
    # The line wins over the file by whatever means either sets a field.
    config.write_text("epochs: 7\narchitectures: [mtan]\npriorities: [[0.2, 0.8]]\n")
    line = ("--set", "epochs=5", "network.architecture=full_sharing", "--divisions", "3")
    grid = parsed("--config", str(config), *line).grid
    assert grid.axes == {"epochs": (5,), "network.architecture": ("full_sharing",)}
    assert grid.divisions == 3
    config.write_text("tasks: [[depth, normal], [depth, segmentation]]")
    assert len(parsed("--config", str(config)).grid.task_sets) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "Expected names with values"),
        ("epochs: 3\n5: 4\n", "Expected names of options and fields in .*, got the name 5"),
        ("methods: {a: 1}", "methods in .* to be of type str, got {'a': 1}"),
        ("seeds: many", "seeds in .* to be of type int"),
        ("baselines: 1", "baselines in .* to be of type bool"),
        ("optimizer.lerning_rate: 1", "Did you mean optimizer.learning_rate"),
        ("seed: 4", "set by --seeds"),
        (
            "dataset: scenes\ndata.name: scenes",
            "data.name once, got it by dataset and by data.name",
        ),
        ("optimizer: {beta1: 0.8}\noptimizer.beta1: 0.9", "optimizer.beta1 once"),
        ("a: [", "does not parse"),
        ("x: !!python/object/apply:os.system [date]", "does not parse"),
    ],
)
def test_bad_config_file_is_refused(text, says, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(ValueError, match=says):
        parsed("--config", str(config))


def test_flags_win_over_quick():
    chosen = parsed("--quick", "--epochs", "4", "--seeds", "2")
    assert {spec.epochs for spec in grid_specs(chosen.grid)} == {4}
    assert "epochs" not in chosen.notes[0]
    assert {spec.seed for spec in grid_specs(chosen.grid)} == {0, 1}
    three = parsed("--quick", "--tasks", "depth", "normal", "segmentation")
    assert grid_specs(three.grid)


def test_cpus_and_gpus_of_this_machine_are_counted(monkeypatch, tmp_path):
    assert 1 <= cost.num_cpus() <= (os.cpu_count() or 1)
    limit = tmp_path / "cpu.max"
    limit.write_text("150000 100000\n")
    assert cost._container_cpus(limit) == 2
    limit.write_text("max 100000\n")
    assert cost._container_cpus(limit) == os.cpu_count()
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: a'\necho 'GPU 1: b'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cost.num_gpus() == 2
    for visible, expected in (("", 0), ("-1", 0), ("1", 1), ("0,1,2", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert cost.num_gpus() == expected


@pytest.mark.parametrize("again", [False, True])
def test_failed_run_is_trained_again_only_if_asked(again, tmp_path, capsys, monkeypatch):
    store = Store(tmp_path / "store")
    specs = grid_specs(GRID)
    for spec in specs[1:]:
        finish(store, spec)
    failed = store.write_spec(specs[0])
    store.write_error(failed, "Traceback\nmtl.records.RunFailedError: loss is not finite")
    launched = PlayedLaunch(monkeypatch)
    status = main(["--store", str(store.root), *(["--retry-failed"] if again else [])])
    said = capsys.readouterr()
    assert (status, launched.trained) == ((0, [failed]) if again else (1, []))
    assert ("1 failed earlier (--retry-failed tries them again)" in said.out) != again
    assert ("loss is not finite" in said.err) != again
    assert (store.is_done(failed), store.error(failed) is None) == (again, again)


def test_spent_budget_exits_1_and_says_what_is_left(tmp_path, capsys, monkeypatch):
    launched = PlayedLaunch(monkeypatch)
    launched.stop_after, launched.stops_by = 1, None
    assert main(["--store", str(tmp_path / "s"), "--budget", "0.5"]) == 1
    assert 0 < launched.deadline - time.monotonic() <= 1800
    said = capsys.readouterr()
    assert "1 of 20 runs done." in said.out
    assert "The budget of 0.5 h is spent: 19 runs left, about " in said.err
    assert said.err.endswith("The same command continues.\n")
    assert launched.reported == [20]
    status = json.loads((tmp_path / "s/sweeps/priority_grid/status.json").read_text())
    assert (status["state"], status["done"], status["waiting"]) == ("stopped", 1, 19)
