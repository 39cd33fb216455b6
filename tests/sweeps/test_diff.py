"""What differs between plans and between runs, and what the command refuses."""

import json
from pathlib import Path

import pytest

from mtl.records import Result
from mtl.store import Store, write_json
from sweeps.diff import main
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.priority_grid import main as sweep

SPECS = grid_specs(GRID)
IDS = [spec.run_id() for spec in SPECS]


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def saved(tmp_path, capsys):
    """Save a plan as a user does."""

    def save(name: str, *argv: str) -> str:
        assert sweep(["--plan", "--json", "--store", str(tmp_path / "none"), *argv]) == 0
        path = tmp_path / name
        path.write_text(capsys.readouterr().out)
        return str(path)

    return save


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    for spec in SPECS:
        store.write_spec(spec)
    write_plan(store, "mine", IDS[:4], IDS)
    return store


def write_plan(store: Store, name: str, *revisions: list[str]) -> str:
    folder = store.sweep_folder(name)
    folder.mkdir()
    held = [{"started": "x", "run_ids": run_ids, "varies": {}} for run_ids in revisions]
    write_json(folder / "plan.json", {"schema": 1, "kind": "priority_grid", "revisions": held})
    return str(folder)


def finish(store: Store, index: int, delta1: float, **manifest: object) -> None:
    values = {"depth": {"delta1": delta1, "rmse": 0.5}, "segmentation": {"miou": 0.25}}
    metrics = {"validation": values, "test": values}
    epochs = SPECS[index].epochs
    store.write_result(Result(IDS[index], "done", epochs, "last", epochs, metrics, metrics))
    store.write_manifest(
        IDS[index],
        {"code_version": "0.1", "wall_seconds": delta1, "environment": {"torch": "2.15"}}
        | manifest,
    )


def lines(capsys, *argv: str) -> list[str]:
    assert main(list(argv)) == 0
    return capsys.readouterr().out.splitlines()


def test_plans_that_are_alike(saved, store, capsys):
    plan = saved("a.json")
    assert lines(capsys, plan, plan)[-1] == "The same runs."
    # The last revision of a sweep is what counts.
    out = lines(capsys, str(store.sweep_folder("mine")), plan)
    assert out[2:] == ["20 in both, 0 only in A, 0 only in B.", "The same runs."]
    other = write_plan(store, "other", IDS[::-1])
    assert lines(capsys, other, plan)[-1] == "The same runs, in another order."


def test_runs_values_and_fields_that_differ(saved, capsys):
    a = saved("a.json")
    b = saved("b.json", "--seeds", "3", "--methods", "lsb", "dwa", "--epochs", "16")
    out = lines(capsys, a, b)
    # In both: lsb at five priorities and two seeds; in B alone its third seed and 3 times dwa.
    assert out[2] == "10 in both, 10 only in A, 8 only in B."
    assert "Fields only in B:" in out
    assert "  method_options.temperature: 2" in out
    assert "  method: only in A fixed; only in B dwa" in out
    assert "  seed: only in B 2" in out
    assert "In A varies: method, priorities, seed." in out
    assert sum(line.startswith("  ") and "method=dwa" in line for line in out) == 3
    swapped = lines(capsys, b, a)
    assert swapped[2] == "10 in both, 8 only in A, 10 only in B."
    assert "Fields only in A:" in swapped


def test_long_lists_are_cut(saved, capsys):
    out = lines(capsys, saved("a.json"), saved("b.json", "--divisions", "30"))
    assert any(line.startswith("  and ") and line.endswith(" more") for line in out)
    assert len(out) < 60


def test_a_plan_without_its_store_counts_runs_and_says_so(store, saved, tmp_path, capsys):
    copy = tmp_path / "copied.json"
    copy.write_bytes((store.sweep_folder("mine") / "plan.json").read_bytes())
    b = saved("b.json", "--seeds", "1")
    out = lines(capsys, str(copy), b)
    assert out[2] == "10 in both, 10 only in A, 0 only in B."
    assert "The specs of 20 runs of A are not at hand; --store may name them." in out
    out = lines(capsys, str(copy), b, "--store", str(store.root))
    assert not any("not at hand" in line for line in out)
    assert "  seed: only in A 1" in out


def test_two_runs_by_field_manifest_and_result(store, capsys):
    finish(store, 0, 0.5)
    finish(store, 1, 0.75, environment={"torch": "2.16"})
    out = lines(capsys, IDS[0], IDS[1], "--store", str(store.root))
    assert "  method: lsb -> fixed" in out
    assert "  method_options.increase_rate: 0.02 -> (absent)" in out
    assert "  environment.torch: 2.15 -> 2.16" in out
    assert not any("wall_seconds" in line for line in out)
    assert [line.split() for line in out[-2:]] == [
        ["validation.depth.delta1", "50%", "75%", "+25%"],
        ["test.depth.delta1", "50%", "75%", "+25%"],
    ]


def test_the_same_run_in_two_stores(store, tmp_path, capsys):
    other = Store(tmp_path / "other")
    other.write_spec(SPECS[0])
    a, b = str(store.run_folder(IDS[0])), str(other.run_folder(IDS[0]))
    out = lines(capsys, a, b)
    assert "The same spec." in out
    assert "No manifest of A and B: how it was made is not known." in out
    assert out[-1] == "No results to compare: A has 0 epochs, B has 0 epochs and no result."
    for each in (store, other):
        finish(each, 0, 0.5)
    out = lines(capsys, a, b)
    assert out[2:] == [
        "The same spec.",
        "Made alike: versions, hardware, data.",
        "The same results to the last digit.",
    ]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "5", '{"runs": [5]}', '{"runs": [{"run_id": 5}]}', '{"revisions": []}',
     '{"runs": [{"run_id": "a", "spec": []}]}', '{"revisions": [5]}',
     '{"revisions": [{"run_ids": [5]}]}', '{"a":' * 5000 + "1" + "}" * 5000],
)  # fmt: skip
def test_what_is_no_plan_is_refused_in_one_sentence(content, tmp_path, capsys):
    path = tmp_path / "plan.json"
    path.write_text(content)
    assert main([str(path), str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("diff: Expected a run id, the folder of a run or a sweep, or a")
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)


def test_a_stranger_s_plan_reaches_no_terminal(tmp_path, capsys):
    plans = []
    for number in (1, 2):
        path = Path(tmp_path / f"{number}.json")
        spec = {"\x1b[2Ja": {"b": number}, "c": "\x1b[2J" * number}
        runs = [{"run_id": f"\x1b]0;{number}", "spec": spec}]
        path.write_text(json.dumps({"runs": runs}))
        plans.append(str(path))
    assert not any("\x1b" in line for line in lines(capsys, *plans))


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["PLAN"], 2, "required"),
        ([IDS[0], IDS[1]], 2, "Expected --store STORE with the run id"),
        (["f" * 16, IDS[1], "--store", "STORE"], 1, "spec.json"),
        (["PLAN", "RUN"], 2, "two plans or two runs, got one of each"),
        (["PLAN", "nowhere.json"], 1, "which is absent"),
        (["PLAN", "/dev/zero"], 1, "is a device"),
        (["PLAN", "PLAN", "--store", "nowhere"], 1, "holds no store.json"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(argv, status, says, store, capsys):
    places = {
        "STORE": str(store.root), "PLAN": str(store.sweep_folder("mine")),
        "RUN": str(store.run_folder(IDS[0])),
    }  # fmt: skip
    assert main([places.get(text, text) for text in argv]) == status
    captured = capsys.readouterr()
    assert says in captured.err
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
