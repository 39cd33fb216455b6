"""Machines as users: one JSON value on standard output, the schemas, and the page's example."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lsb
from analysis.pareto import main as pareto
from mtl.command_line import Parser, answer, run
from mtl.errors import UserError
from mtl.store import Store
from mtl.store.__main__ import SCHEMAS
from mtl.store.__main__ import main as store_main
from sweeps.priority_grid import main as grid
from sweeps.watch import main as watch
from tests.analysis.conftest import depth_and_segmentation, finish, make_spec
from tests.sweeps.test_watch import IDS, SPECS, write_status

ROOT = Path(__file__).resolve().parents[1]


def check(name: str, value: Any) -> None:
    """Check a value against a schema of the package."""
    schema = json.loads(files("mtl").joinpath("schemas", f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)


def asked(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one JSON value on standard output."""
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return finished runs of two methods, three priorities and six seeds."""
    store = Store(tmp_path / "store")
    for seed in range(6):
        for p in (0.25, 0.5, 0.75):
            for method, gain in (("lsb", 0.05), ("fixed", 0.0)):
                spec = make_spec(method, p, seed)
                values = (0.5 + p / 4 + gain + seed / 1000, 0.7 - p / 4 + gain)
                finish(store, spec, depth_and_segmentation(*values))
    return store


def test_report_says_the_verdict_in_fields(store, tmp_path, capsys):
    assert pareto([store.place(""), "--out", str(tmp_path / "report"), "--json"]) == 0
    found = asked(capsys)
    assert found["counts"] == {"done": 36}
    summary = json.loads(Path(found["summary"]).read_text())
    check("summary", summary)
    verdict = summary["verdict"]
    (comparison,) = verdict["comparisons"]
    assert comparison["winner"] == "lsb"
    assert comparison["is_significant"] == (comparison["p_adjusted"] < 0.05)
    assert (comparison["seeds"], comparison["priorities"]) == (6, 3)
    assert verdict["network"]["method"] == "lsb"
    assert Path(found["report"]).is_file()


def test_no_winner_is_named_without_significance(tmp_path, capsys):
    store = Store(tmp_path / "store")
    for seed in range(2):
        for method in ("lsb", "fixed"):
            for p in (0.25, 0.75):
                spec = make_spec(method, p, seed)
                finish(store, spec, depth_and_segmentation(0.5 + p / 4, 0.7 - p / 4))
    assert pareto([store.place(""), "--out", str(tmp_path / "report"), "--json"]) == 0
    summary = json.loads(Path(asked(capsys)["summary"]).read_text())
    assert [c["winner"] for c in summary["verdict"]["comparisons"]] == [None]


def test_plan_status_and_result_are_as_their_schemas_say(store, tmp_path, capsys):
    assert grid(["--plan", "--json", "--store", str(tmp_path / "new")]) == 0
    plan = asked(capsys)
    check("plan", plan)
    assert plan["num_runs"] == 20
    run_id = store.run_ids()[0]
    check("result", json.loads((store.run_folder(run_id) / "result.json").read_text()))
    other = Store(tmp_path / "other")
    other.write_spec(SPECS[4])
    write_status(other, paused=0, updated=datetime.now(UTC).isoformat())
    check("status", other.read_json(other.sweep_key("mine", "status.json")))
    assert watch([other.place(""), "--once", "--json"]) == 0
    look = asked(capsys)
    assert (look["done"], look["total"], look["runs"][0]["run_id"]) == (4, 20, IDS[4])


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_printed(name, capsys):
    assert store_main(["schema", name]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert store_main(["schema", name, "--json"]) == 0
    assert asked(capsys) == printed


def command(*words: str, fails: bool = False) -> int:
    def do() -> int:
        given = Parser(prog="it").parse_args(words)
        print("words")
        if fails:
            raise UserError("Expected a, got b. Do c.")
        answer({"found": 1} if given.json else {})
        return 0

    return run("it", do)


def test_words_go_to_standard_error_and_back(capsys):
    assert command("--json") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('{"found": 1}\n', "words\n")
    assert command() == 0
    assert capsys.readouterr() == ("words\n", "")


def test_what_cannot_be_done_is_an_answer_too(capsys):
    assert command("--json", fails=True) == 1
    assert asked(capsys) == {"error": "it: Expected a, got b. Do c.", "exit_status": 1}


@pytest.mark.parametrize("name", ["grid", "watch", "store", "predict", "nosuch"])
def test_wrong_usage_is_an_answer_too(name, capsys):
    assert lsb.main([name, "--nonsense", "--json"]) == 2
    found = asked(capsys)
    assert found["exit_status"] == 2
    assert found["error"]


def test_answer_outside_of_a_command_is_nobodys():
    assert not answer(1)


@pytest.mark.slow
def test_example_of_the_page_runs(tmp_path):
    page = (ROOT / "docs" / "automation.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    code = code.replace('"results"', repr(str(tmp_path / "results")))
    program = tmp_path / "example.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "runs," in done.stdout
    assert "['depth', 'segmentation']" in done.stdout
