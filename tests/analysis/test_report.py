"""The report end to end: values in files, words of the verdict, figures, and the command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.load.axes import TIMES
from analysis.load.plans import Asked
from analysis.load.runs import load_stores
from analysis.page import build
from analysis.pareto import main
from analysis.reports import write_reports
from mtl.spec import RunSpec
from mtl.spec.sections import DataSpec
from mtl.store import Store
from tests.analysis.conftest import (
    depth_and_segmentation,
    fill,
    finish,
    make_spec,
    write_plan,
)


def read(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def one_run(store: Store) -> str:
    """Let the store have one finished run; return its id."""
    return finish(store, make_spec("lsb", 0.5, 0), depth_and_segmentation(0.8, 0.6))


def test_command_on_a_finished_store(full_store, capsys):
    assert main([str(full_store.root)]) == 0
    out = capsys.readouterr().out
    folder = full_store.root / "report"
    assert str(folder / "report.html") in out
    assert "No winner" in out
    summary = read(folder)
    assert summary["counts"] == {"done": 20}
    assert len(summary["points"]) == 10
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {*summary["files"], "summary.json"}
    assert {"report.html", "tables/operating_points.csv", "tables/operating_points.tex"} <= written
    # A mean by hand from the results themselves.
    first = summary["points"][0]
    runs = pd.read_csv(folder / "tables/runs.csv").query("method == 'lsb' and priority_depth < 0.2")
    assert first["means"][0] == pytest.approx(runs["depth_delta1"].mean())
    table = pd.read_csv(folder / "tables/operating_points.csv")
    assert table["depth_delta1_mean"].tolist() == [p["means"][0] for p in summary["points"]]
    assert table["depth_delta1_sd"].tolist() == [p["sds"][0] for p in summary["points"]]


def test_page_is_self_contained_and_complete(full_store):
    summary = write_reports([full_store], full_store.root / "out")[""]
    page = summary.path.read_text()
    html = re.sub(r"(?s)<script[ >].*?</script>", "", page)
    links = re.findall(r"""(?:src|href|srcset|data|poster|action)=["']([^"']*)""", html)
    local = re.compile(r"(#[\w-]+|tables/\w+\.(csv|tex)|data:,)")
    assert [link for link in links if not local.fullmatch(link)] == []
    assert not re.search(r"<script[^>]+src=|<(iframe|object|embed|img|audio|video)\b", page)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    for text in (
        "built to show a trade-off",
        "no evidence about real data",
        "image-independent baseline",
        "Equal budget: every run of every method trained 12 epochs",
        "0.1.0+abc1234",
        "optimizer.learning_rate",
        'role="img" aria-label="Scatter plot',
    ):
        assert text in page, text
    for link in links:
        if link.startswith("tables/"):
            assert (summary.path.parent / link).is_file()


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (("our <kitchens>", "our <kitchens>"), "our &lt;kitchens&gt;, folder (0123456789abcdef)"),
        ((None, None), " · folder (0123456789abcdef)"),
        (("kitchens", "baths"), " · folder (0123456789abcdef)"),
    ],
)
def test_subtitle_names_the_data_by_their_label(labels, shown, store) -> None:
    for seed, label in enumerate(labels):
        data = DataSpec(name="folder", prepared="0123456789abcdef")
        spec = make_spec("lsb", 0.5, seed, data=data)
        manifest = {"data": {"name": "folder", "label": label, "folder_hash": data.prepared}}
        metrics = depth_and_segmentation(0.7, 0.6)
        finish(store, spec, metrics, manifest=manifest)
    page = write_reports([store], store.root / "report")[""].path.read_text("utf-8")
    subtitle = page[page.index("runs done") : page.index("<nav")]
    assert shown in subtitle


def test_unchanged_report_is_not_built_again(store, one_run):
    out = store.root / "report"
    first = write_reports([store], out)[""]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    page = first.path.read_bytes()
    again = write_reports([store], out)[""]
    assert (first.rebuilt, again.rebuilt) == (True, False)
    assert (again.table, again.verdict, again.num_done) == (first.table, first.verdict, 1)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert write_reports([store], out, metrics={"depth": "rmse"})[""].rebuilt, "an option"
    first.path.unlink()
    assert write_reports([store], out)[""].rebuilt
    assert first.path.read_bytes() == page, "two builds are equal to the byte"
    for names in (("epochs.jsonl",), ("samples", "epoch_00002.npz"), ("manifest.json",)):
        store.write(store.run_key(one_run, *names), b"{}")
        assert write_reports([store], out)[""].rebuilt, names
        assert not write_reports([store], out)[""].rebuilt, names


def in_process(code: str, store: Store) -> None:
    """Run Python code in a process of its own, in which `main(RESULTS)` is the command."""
    head = f"import sys\nfrom analysis.pareto import main\nRESULTS = [{str(store.root)!r}]\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_report_depends_on_all_code_it_runs_and_unchanged_loads_little(store, one_run):
    in_process(
        "from analysis.reports import code_files\n"
        "assert main([*RESULTS, '--static']) == 0\n"
        "held = set(map(str, code_files()))\n"
        "ran = {m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in "
        "('mtl', 'analysis') and m.__file__}\n"
        "assert ran <= held, ran - held\n",
        store,
    )
    in_process(
        "assert main([*RESULTS, '--static']) == 0\n"
        "heavy = {'pandas', 'plotly', 'jinja2', 'torch', 'ray', 'moocore'} & set(sys.modules)\n"
        "assert not heavy, heavy\n",
        store,
    )


def test_output_that_nobody_reads_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    script = Path(__file__).parents[2] / "analysis" / "ranking.py"
    (tmp_path / "t.csv").write_text("method,seed,miou\na,0,1\nb,0,2\n")
    start = [sys.executable, str(script), str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]
    done = subprocess.run(start, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert any((tmp_path / "out").iterdir())


def test_failed_runs_are_counted_and_escaped(store, capsys):
    ids = fill(store, skip=lambda spec: spec.seed == 1 and spec.method == "fixed")
    store.write_error(ids[-1], "Traceback\nRuntimeError: <script>alert(1)</script> & more\n")
    spec = make_spec("fixed", 0.9, 0)
    finish(store, spec, depth_and_segmentation(None, 0.5))
    assert main([str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "15 of 21 runs are done, 1 failed, 4 missing, 1 excluded; the report says why." in out
    text = (store.root / "report" / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    page = (store.root / "report" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert f"Run {spec.run_id()} is left out: test split holds no value for depth_delta1." in page
    states = pd.read_csv(store.root / "report/tables/states.csv")["state"].value_counts()
    assert states.to_dict() == {"done": 15, "missing": 4, "failed": 1, "excluded": 1}


def test_plan_of_which_nothing_started_has_a_report(store, capsys):
    ids = [make_spec("lsb", 0.5, seed).run_id() for seed in (0, 1)]
    write_plan(store, "grid", ids)
    assert main([str(store.root), "--metrics", "depth=rmse"]) == 0
    out = capsys.readouterr().out
    assert "none of 2 runs has a usable result" in out
    assert "method  " not in out, "no head of a table without rows"
    assert "0 of 2 runs are done, 2 missing; the report says why." in out
    page = (store.root / "report" / "report.html").read_text()
    assert all(run_id in page for run_id in ids)


def test_run_ids_choose_and_order_the_runs(full_store):
    chosen = [make_spec("lsb", 0.5, seed).run_id() for seed in (1, 0, 7)]
    summary = write_reports([full_store], full_store.root / "out", Asked(tuple(chosen)))[""]
    assert (summary.num_done, summary.num_runs, summary.counts) == (2, 3, {"done": 2, "missing": 1})
    assert [s["run_id"] for s in read(full_store.root / "out")["states"]] == chosen


def test_folder_of_a_sweep_is_a_result(full_store):
    run_id = finish(
        full_store,
        make_spec("lsb", 0.5, 0, epochs=99),
        depth_and_segmentation(0.9, 0.9),
    )
    write_plan(full_store, "long", [run_id])
    sweep = full_store.sweep_folder("priority_grid")
    assert main([str(sweep)]) == 0
    assert read(sweep / "report")["counts"] == {"done": 20}


def test_csv_route_equals_store_route(full_store, tmp_path, monkeypatch):
    assert main([str(full_store.root)]) == 0
    table = full_store.root / "report" / "tables" / "runs.csv"
    monkeypatch.chdir(tmp_path)
    assert main([str(table)]) == 0
    by_store, by_table = read(full_store.root / "report"), read(tmp_path / "report")
    for part in ("points", "hypervolumes", "comparisons", "spreads", "reference", "prior"):
        assert by_table[part] == by_store[part], part


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{store}", "--metrics", "depth=miou"], 2, "Known: abs, abs_log, delta1, rel, rmse"),
        (["{store}", "--metrics", "flow=epe"], 2, "Unknown task 'flow'"),
        (
            ["{store}", "--metrics", "depth"],
            2,
            "Expected metrics as TASK=METRIC or TASK=METRIC:min:UNIT",
        ),
        (["{store}", "--metrics", "depth=rmse", "depth=rel"], 2, "two for depth"),
        (["{store}", "--metrics", "normal=within_30"], 2, "Unknown task 'normal' of these results"),
        (["{store}", "--colour"], 2, "Unrecognized arguments: --colour. See pareto.py --help."),
        (["{store}", "--metric", "depth=rmse"], 2, "Unrecognized arguments: --metric depth=rmse"),
        ([], 2, "arguments are required: RESULTS"),
        (["{tmp}/nowhere"], 1, "nowhere, which does not exist"),
        (["{tmp}"], 1, "Expected a run store"),
        (["{tmp}/notes.txt"], 2, ".csv or .parquet"),
        (["{tmp}/bad.csv", "{store}"], 2, "one table or any number of stores"),
        (["{tmp}/bad.csv"], 1, "got none named method, seed, priority_<task>"),
        (["{tmp}/empty.csv"], 1, "Expected a table"),
        (["{tmp}/old"], 1, "got schema 99. Use the release"),
        (["{tmp}/new"], 1, "at least one run"),
        (["{store}", "--out", "{tmp}/notes.txt/out"], 1, "notes.txt/out: Not a directory"),
    ],
)
def test_bad_input_is_one_sentence(store, one_run, tmp_path, capsys, arguments, status, message):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "store.json").write_text('{"schema": 99}')
    Store(tmp_path / "new")
    filled = [text.format(store=store.root, tmp=tmp_path) for text in arguments]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    assert main([*filled, *out]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_paper_scaling_changes_only_what_is_shown(store, capsys):
    tasks = ("depth", "edge2d", "keypoint2d", "keypoint3d")
    for seed, edge in enumerate((0.0123, 0.0125)):
        spec = RunSpec(method="equal", tasks=tasks, epochs=12, seed=seed)
        values = {
            "depth": {"delta1": 0.8, "abs_log": 0.2},
            "edge2d": {"l1": edge},
            "keypoint2d": {"l1": 0.00072},
            "keypoint3d": {"l1": 0.023},
        }
        finish(store, spec, values, manifest={})
    plain, scaled = store.root / "plain", store.root / "scaled"
    assert main([str(store.root), "--out", str(plain)]) == 0
    assert "0.01240 ± 0.00014" in capsys.readouterr().out
    assert main([str(store.root), "--out", str(scaled), "--paper-scaling"]) == 0
    shown = capsys.readouterr().out
    for text in (f"edge2d l1 (value {TIMES} 10)", f"keypoint2d l1 (value {TIMES} 100)"):
        assert text in shown, text
    assert "0.1240 ± 0.0014" in shown
    assert "0.072 ± 0.000" in shown
    assert "keypoint3d l1 (value) " in shown
    page = (scaled / "report.html").read_text()
    assert "shown multiplied by 10 as in the supplement" in page
    for path in (plain / "tables").glob("*.csv"):
        assert path.read_text() == (scaled / "tables" / path.name).read_text(), path.name
    assert read(scaled)["points"] == read(plain)["points"]
    assert main([str(store.root), "--out", str(scaled)]) == 0
    assert "(unchanged)" not in capsys.readouterr().out, "an option is part of the inputs"


def test_long_tables_are_cut_with_a_note(full_store, monkeypatch):
    monkeypatch.setattr("analysis.page.MAX_ROWS", 3)
    page = build(load_stores([full_store]))
    points = page.html[page.html.index('id="points"') : page.html.index('id="picker"')]
    # 2 methods x 5 priorities = 10 operating points, 20 runs.
    assert points.count("The first 3 of 10 rows; the files hold all.") == 1
    assert points.count("The first 3 of 20 rows; the files hold all.") == 1
    assert len(page.files["tables/runs.csv"].splitlines()) == 1 + 20
    ids = re.findall(r' id="([^"]+)"', page.html)
    assert len(ids) > 10
    assert sorted(ids) == sorted(set(ids)), "no two elements share an id"
