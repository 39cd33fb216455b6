"""The keys of `--plan --json`, exactly, for every command; README.md describes each of them."""

import json
import re
from pathlib import Path

import pytest

from sweeps import (
    architectures,
    command,
    increase_rate,
    pareto_search,
    priority_grid,
    weighting_methods,
)
from sweeps.launch import driver
from tests.sweeps.plan.test_refine import PlayedLaunch

KEYS = ["num_runs", "num_done", "runs", "expected_seconds", "expected_bytes"]
MAINS = {
    module.__name__.removeprefix("sweeps."): module.main
    for module in (architectures, increase_rate, pareto_search, priority_grid, weighting_methods)
}
ADDED = {"pareto_search": {"num_epochs"}}
"""Command -> its keys beside those that all share."""
DOCS = Path(__file__).parents[3] / "docs" / "sweeps.md"


@pytest.fixture(autouse=True)
def _two_cpus(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "num_cpus", lambda: 2)
    monkeypatch.setattr(command, "num_gpus", lambda: 0)
    monkeypatch.setattr("mtl.data.prepared.prepare", lambda *_, **__: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def plan_of(kind, capsys, *argv):
    assert MAINS[kind]([*argv, "--plan", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", MAINS)
def test_each_command_has_the_shared_keys_and_its_own(kind, tmp_path, capsys):
    held = plan_of(kind, capsys, "--quick", "--store", str(tmp_path / "s"))
    assert set(held) == set(KEYS) | ADDED.get(kind, set())
    assert {frozenset(run) for run in held["runs"]} <= {frozenset({"run_id", "spec", "done"})}


def test_a_refinement_to_come_is_one_key_more_until_its_runs_are_known(
    tmp_path, capsys, monkeypatch
):
    argv = ["--refine", "2", "--store", str(tmp_path)]
    held = plan_of("priority_grid", capsys, *argv)
    assert list(held) == [*KEYS, "most_refinement_runs"]
    # 2 priorities x 2 methods x 2 seeds; not among the 5 priorities x 2 x 2 of the grid.
    assert (held["num_runs"], held["most_refinement_runs"]) == (20, 8)
    monkeypatch.setattr(driver, "launch", PlayedLaunch())
    monkeypatch.setattr(command, "write_reports", lambda *_: True)
    assert MAINS["priority_grid"](argv) == 0
    capsys.readouterr()
    held = plan_of("priority_grid", capsys, *argv)
    assert list(held) == KEYS
    assert held["num_runs"] == 28


def test_docs_describe_every_key():
    described = re.search(r"`--plan --json` prints.*?(?=\n\n[^|])", DOCS.read_text("utf-8"), re.S)
    assert described is not None
    named = set(re.findall(r"^\| `(\w+)`", described.group(), re.M))
    assert named == {*KEYS, *set().union(*ADDED.values()), "most_refinement_runs"}
