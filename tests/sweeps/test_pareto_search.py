"""The search's command: wrong usage, the plan, and real trainings on Ray, killed and again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtl.store import Store
from mtl.training.probe import ProbeResult
from sweeps.pareto_search import main
from tests.faults.tiny_sweep import num_epochs

SCRIPT = Path(__file__).parents[2] / "sweeps" / "pareto_search.py"
TINY = [
    "--seeds", "2", "--points", "2", "--trials", "3", "--candidates", "2", "--epochs", "4",
    "--set", "data.num_train=8", "data.num_validation=4", "data.num_test=4", "data.height=16",
    "data.width=16", "network.decoder_widths=8,8,8,8,8,8", "--num-samples", "0",
]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--divisions 6", "Expected no --divisions"),
        ("--budget 1", "Expected no --budget"),
        ("--refine 1", "Expected no --refine"),
        ("--baselines", "Expected no --baselines"),
        ("--store s3://key:secret@bucket/x", "Expected a folder for --store"),
        ("--trials 2 --points 3", "as many --trials as --points, got 2 and 3"),
        ("--sampler foo", "Unknown sampler 'foo'"),
        ("--epochs-budget 10", "--epochs-budget of at least 352"),
        ("--trials 5 --epochs-budget 900", "either --trials or --epochs-budget"),
        ("--methods equal", "methods that take priorities"),
        ("--tasks depth", "at least 2 tasks"),
        ("--set epochs=2,3", "one value each, got several for epochs"),
        ("--set priorities=[0.2,0.8]", "no priorities"),
        ("--learning-rates 1 0.1", "two rising numbers above 0 after --learning-rates"),
        ("--candidates 0", "--candidates of at least 1"),
        ("--candidates 1 --learning-rates 0.1 1", "which tunes nothing"),
        ("--methods fixed --increase-rates 0.1 1", "no increase rate"),
        ("--search-seed -1", "--search-seed of at least 0"),
        ("--population 0", "--population of at least 1"),
    ],
)
def test_wrong_usage_is_one_sentence(argv, words, tmp_path, capsys):
    for more in ([], ["--plan"]):
        assert main(["--store", str(tmp_path / "s"), *argv.split(), *more]) == 2
        out, err = capsys.readouterr()
        assert words in err
        assert (out, err.count("\n"), "secret" in err) == ("", 1, False)
    assert list(tmp_path.iterdir()) == []


def test_plan_counts_at_most_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from sweeps.pareto_search import main; "
        f"status = main(['--plan', '--json', '--store', {str(tmp_path / 's')!r}]); "
        "assert not {'optuna', 'torch', 'ray', 'pandas'} & set(sys.modules), 'too much'; "
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    # Each of two methods: 4 candidates at 2 priorities (16 + 8 epochs), 8 trials and 5 more runs
    # of 16 epochs, less the 2 x 4 that the first two trials have already.
    assert plan["num_epochs"] == 2 * (24 + 13 * 16 - 8)
    assert plan["num_runs"] == 2 * (8 + 13 - 2)
    assert (plan["num_done"], plan["runs"]) == (0, [])
    assert plan["expected_seconds"][0] < plan["expected_seconds"][1]
    assert not (tmp_path / "s").exists()


def test_epochs_budget_is_kept(tmp_path, capsys):
    for budget in (352, 400, 447, 448):
        argv = ["--plan", "--json", "--store", str(tmp_path / "s"), "--epochs-budget", str(budget)]
        assert main(argv) == 0
        planned = json.loads(capsys.readouterr().out)["num_epochs"]
        # One more trial of both methods would be too much.
        assert budget - 32 < planned <= budget


def test_probed_plan_is_priced_by_the_timed_steps(tmp_path, monkeypatch, capsys):
    a_step = {"seconds": 0.0}

    def timed(*_, **__):
        return ProbeResult("cpu", 1, 1, 1, 1, a_step["seconds"], 10**9, None)

    monkeypatch.setattr("sweeps.launch.probing.probe_alone", timed)
    argv = ["--plan", "--concurrency", "1", "--store", str(tmp_path / "s")]
    days = []
    for a_step["seconds"] in (86_400.0, 172_800.0):
        assert main([*argv, "--probe"]) == 0
        out = capsys.readouterr().out
        found = re.search(r"at most (\d+) d .* of disk; from timed steps\.\n", out)
        assert found is not None, out
        days.append(int(found[1]))
    assert "172,800,000.0 ms a step" in out
    # Steps of a day: 448 epochs take thousands of them, beside which a start is nothing.
    assert days[1] == pytest.approx(2 * days[0], abs=2)
    assert days[0] > 448
    assert main(argv) == 0
    assert "of disk; from the shipped cost model.\n" in capsys.readouterr().out


def command(store: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--store", str(store), *TINY, *more]


def files(store: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the decisions and the results."""
    results = {path.parent.name: path.read_bytes() for path in store.glob("runs/*/result.json")}
    return (store / "sweeps/pareto_search/decisions.jsonl").read_bytes(), results


@pytest.mark.slow
def test_real_search_killed_and_interrupted_finds_the_same(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    undisturbed = tmp_path / "undisturbed"
    first = subprocess.run(
        command(undisturbed), capture_output=True, text=True, env=environment, timeout=1500
    )
    assert (first.returncode, first.stderr) == (0, "")
    assert "no result" in first.stdout
    decided, results = files(undisturbed)
    epochs = num_epochs(undisturbed)
    assert f"Searched with {epochs} epochs in all" in first.stdout

    # The learning rates of the methods differ or not; either way it is one report.
    report = undisturbed / "sweeps/pareto_search/report"
    counts = json.loads((report / "summary.json").read_text())["counts"]
    assert counts == {"done": 8}

    disturbed = tmp_path / "disturbed"
    seed = time.time_ns()
    print(f"seed {seed}")
    waits = random.Random(seed)
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        present = num_epochs(disturbed)
        # Epochs of its own first: a signal before Python has its handlers is no test of them.
        wanted = present + waits.randrange(1, max(2, (epochs - present) // 2))
        with subprocess.Popen(
            command(disturbed),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        ) as process:  # fmt: skip
            end = time.monotonic() + 1000
            while process.poll() is None and time.monotonic() < end:
                if num_epochs(disturbed) >= wanted:
                    process.send_signal(number)
                    break
                time.sleep(0.02)
            _, said = process.communicate(timeout=300)
        assert process.returncode in (0, 1, -signal.SIGKILL)
        assert "Traceback" not in said
        path = disturbed / "sweeps/pareto_search/decisions.jsonl"
        if path.exists():
            kept = path.read_bytes()
            assert decided.startswith(kept[: kept.rfind(b"\n") + 1])
    last = subprocess.run(
        command(disturbed), capture_output=True, text=True, env=environment, timeout=1500
    )
    assert last.returncode == 0, last.stderr
    assert files(disturbed) == (decided, results)
    paused = [r for r in Store(disturbed).run_ids() if r not in results]
    assert len(paused) == 4  # two methods, the worse of two candidates, two priorities
