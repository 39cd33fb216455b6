"""The report end to end: values in files, words of the verdict, figures, and the command."""

import html.parser
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.compute.findings import find
from analysis.compute.fronts import hypervolume
from analysis.load.axes import TIMES, choose_axes
from analysis.load.plans import Asked
from analysis.load.runs import load_stores
from analysis.load.table import load_table
from analysis.page import build
from analysis.pareto import main
from analysis.report import write_reports
from analysis.sections.overview_tables import state_matrix
from analysis.sections.verdict import verdict
from mtl.spec import RunSpec
from mtl.spec.sections import DataSpec
from mtl.store import Store


def findings_of(store, **metrics):
    loaded = load_stores([store])
    return find(loaded, choose_axes(loaded.tasks, metrics))


def read(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


class Resources(html.parser.HTMLParser):
    """Collects what a page would load or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [
            value
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "poster", "action")
        ]


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
    resources = Resources()
    resources.feed(page)
    local = re.compile(r"(#[\w-]+|tables/\w+\.(csv|tex)|data:,)")
    assert [link for link in resources.found if not local.fullmatch(link)] == []
    assert not resources.tags & {"iframe", "object", "embed", "img", "audio", "video"}
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
    for link in resources.found:
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
def test_subtitle_names_the_data_as_their_owner_does(labels, shown, store, synthetic) -> None:
    for seed, label in enumerate(labels):
        data = DataSpec(name="folder", prepared="0123456789abcdef")
        spec = synthetic.make_spec("lsb", 0.5, seed, data=data)
        manifest = {"data": {"name": "folder", "label": label, "folder_hash": data.prepared}}
        metrics = synthetic.depth_and_segmentation(0.7, 0.6)
        synthetic.finish(store, spec, metrics, manifest=manifest)
    page = write_reports([store], store.root / "report")[""].path.read_text("utf-8")
    subtitle = page[page.index("runs done") : page.index("<nav")]
    assert shown in subtitle


def test_unchanged_report_is_not_built_again(full_store, synthetic):
    out = full_store.root / "report"
    first = write_reports([full_store], out)[""]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = write_reports([full_store], out)[""]
    assert (first.rebuilt, again.rebuilt) == (True, False)
    assert again.table == first.table
    assert (again.verdict, again.num_done) == (first.verdict, 20)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert write_reports([full_store], out, metrics={"depth": "rmse"})[""].rebuilt
    assert write_reports([full_store], out)[""].rebuilt, "options are part of the inputs"
    full_store.write_error(full_store.write_spec(synthetic.make_spec("lsb", 0.9, 0)), "killed")
    assert write_reports([full_store], out)[""].counts == {"done": 20, "failed": 1}
    (out / "tables" / "spread.tex").unlink(missing_ok=True)
    (out / "report.html").unlink()
    assert write_reports([full_store], out)[""].rebuilt, "a file is gone"


def test_two_builds_are_equal_to_the_byte(full_store):
    pages = [
        write_reports([full_store], full_store.root / name)[""].path.read_bytes() for name in "ab"
    ]
    assert pages[0] == pages[1]


def test_unchanged_report_loads_neither_pandas_nor_plotly(full_store):
    write_reports([full_store], full_store.root / "report")
    code = (
        "import sys\nfrom analysis.pareto import main\n"
        f"assert main([{str(full_store.root)!r}]) == 0\n"
        "heavy = {'pandas', 'plotly', 'jinja2', 'torch', 'ray', 'moocore'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_script_and_module_both_run(full_store):
    root = Path(__file__).parents[2]
    for start in (["analysis/pareto.py"], ["-m", "analysis.pareto"]):
        done = subprocess.run(
            [sys.executable, *start, str(full_store.root)], cwd=root, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_verdict_claims_no_winner_that_is_not_carried(store, synthetic):
    synthetic.fill(store, seeds=6)
    words = verdict(findings_of(store))
    assert words.headline == (
        "No winner: fixed and lsb do not differ significantly in hypervolume."
    )
    assert words.statements[0].startswith("Not significant: hypervolume ")
    assert "minimum attainable 0.031; all 64 permutations of whole seeds" in words.statements[0]


def test_verdict_names_a_winner_that_is_carried(store, synthetic):
    synthetic.fill(store, seeds=6, shift=0.1)
    findings = findings_of(store)
    words = verdict(findings)
    assert words.headline == "lsb covers more hypervolume than fixed."
    assert words.statements[0].startswith("Significant: ")
    assert findings.comparisons[0].p_adjusted < 0.05


def test_verdict_turns_with_the_sign(store, synthetic):
    synthetic.fill(store, seeds=6, shift=-0.1)
    assert verdict(findings_of(store)).headline == "fixed covers more hypervolume than lsb."


@pytest.mark.parametrize(("seeds", "smallest"), [(1, "1"), (2, "0.5"), (5, "0.062")])
def test_fewer_than_six_seeds_can_carry_nothing(store, synthetic, seeds, smallest):
    synthetic.fill(store, seeds=seeds, shift=0.1)
    words = verdict(findings_of(store))
    assert words.headline.startswith("No winner")
    assert words.statements[0].startswith("Too few seeds for any significance: ")
    assert f"minimum attainable {smallest};" in words.statements[0]
    assert any("One seed a setting" in caveat for caveat in words.caveats) == (seeds == 1)


def test_one_priority_with_six_seeds_is_enough(store, synthetic):
    synthetic.fill(store, seeds=6, shift=0.1, skip=lambda s: abs(s.priorities[0] - 0.5) > 0.01)
    assert verdict(findings_of(store)).headline == "lsb covers more hypervolume than fixed."


def test_too_few_seeds_for_so_many_pairs(store, synthetic):
    # Three methods, six seeds: 2 / 64 x 3 pairs = 0.094 is the least that Holm leaves.
    synthetic.fill(store, seeds=6, shift=0.1)
    for seed in range(6):
        for priority in synthetic.priorities:
            spec = synthetic.make_spec("lsb", priority, seed, method_options={"increase_rate": 0.5})
            synthetic.finish(store, spec, synthetic.depth_and_segmentation(0.3, 0.3))
    findings = findings_of(store)
    assert [c.p_adjusted for c in findings.comparisons] == pytest.approx([6 / 64] * 3)
    words = verdict(findings)
    assert words.headline.startswith("No winner")
    assert words.statements[0].startswith("Too few seeds for any significance: ")
    assert "minimum attainable 0.031, 0.094 after Holm;" in words.statements[0]


def test_rows_in_another_order_give_the_same_comparison(store, synthetic):
    # Methods are matched by seed, not by position.
    synthetic.fill(store, seeds=6, shift=-0.01)
    loaded = load_stores([store])
    axes = choose_axes(loaded.tasks)
    shuffled = loaded.runs.sample(frac=1.0, random_state=3).reset_index(drop=True)
    first = find(loaded, axes).comparisons[0].test
    other = find(replace(loaded, runs=shuffled), axes).comparisons[0].test
    assert other.p == first.p
    assert abs(other.difference) == pytest.approx(abs(first.difference))


def test_unequal_grids_and_seeds_are_compared_where_they_match(store, synthetic):
    # One of 70 runs is missing: six whole seeds of seven are left, just enough for a winner.
    run_ids = synthetic.fill(
        store,
        seeds=7,
        shift=0.1,
        skip=lambda s: s.method == "fixed" and s.priorities[0] > 0.8 and s.seed == 1,
    )
    synthetic.write_plan(store, "grid", run_ids)
    findings = findings_of(store)
    assert findings.hypervolumes == {}, "those of all runs must not stand side by side"
    (c,) = findings.comparisons
    assert (c.matched.num_priorities, c.matched.seeds) == (5, (0, 2, 3, 4, 5, 6))
    assert c.test.minimum_p == 2 / 2**6
    kept = findings.runs[findings.runs["seed"] != 1]
    means = kept[kept["arm"] == "lsb"].groupby("priority_depth")[
        ["depth_delta1", "segmentation_miou"]
    ]
    volume = hypervolume(means.mean().to_numpy(), findings.reference, findings.axes)
    assert c.matched.hypervolumes[0] == pytest.approx(volume)
    assert c.test.difference == pytest.approx(c.matched.hypervolumes[0] - c.matched.hypervolumes[1])
    words = verdict(findings)
    assert words.headline == (
        "lsb covers more hypervolume than fixed, "
        "on the 5 priorities and 6 seeds that both have in full."
    )
    assert words.statements[0].startswith(
        "Significant on the 5 priorities and 6 seeds that both have in full: hypervolume "
    )
    assert words.caveats[0].startswith(
        "lsb and fixed are compared only on the 5 priorities and 6 seeds that both have in full. "
        "Of lsb seed 1 is left out"
    )
    assert "fixed has no result with seed 1 at (5/6, 1/6)." in words.caveats
    page = build(load_stores([store]))
    assert "No hypervolume is shown" not in page.html
    assert ">not compared<" not in page.html
    table = pd.read_csv(io.StringIO(page.files["tables/comparisons.csv"]))
    assert table["seeds"].tolist() == ["0 2 3 4 5 6"]


def test_methods_that_share_nothing_are_not_compared(store, synthetic):
    ids = synthetic.fill(store, skip=lambda s: (s.method == "fixed") == (s.priorities[0] < 0.4))
    synthetic.write_plan(store, "grid", ids)
    findings = findings_of(store)
    assert (findings.hypervolumes, findings.comparisons[0].test) == ({}, None)
    words = verdict(findings)
    assert words.headline == "No comparison: lsb and fixed share no priority."
    assert "fixed has no result at (1/6, 5/6) and (1/3, 2/3)." in words.caveats
    page = build(load_stores([store]))
    assert "are not compared: lsb and fixed share no priority." in page.html


def test_many_methods_make_a_short_verdict(tmp_path):
    # Thirty methods have 435 pairs; those of lsb come first.
    rows = [
        {
            "method": name,
            "seed": seed,
            "priority_depth": p,
            "priority_segmentation": 1 - p,
            "delta1": 0.5 + p / 3 + number / 500 + seed / 1000,
            "miou": 0.9 - p / 3 + number / 500,
        }
        for number, name in enumerate(["lsb", "fixed", *(f"m{k}" for k in range(28))])
        for p in (0.25, 0.5)
        for seed in (0, 1)
    ]
    path = tmp_path / "many.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    loaded = load_table(path)
    words = verdict(find(loaded, choose_axes(loaded.tasks)))
    assert "No winner: lsb, fixed, m0, m1 and 26 more do not differ" in words.headline
    assert " for lsb, " in words.statements[0]
    assert " for fixed, " in words.statements[0]
    # Six comparisons, six methods, a line that counts the rest of either, and the prior is unknown.
    assert len(words.statements) == 14
    assert words.statements[6] == "429 more comparisons are in the table of differences."
    assert words.statements[13] == "24 more methods are in the table of ranges over spread."
    assert len(build(loaded).html.split("runs done")[0]) < 20_000


def test_priorities_that_a_method_lacks_are_empty_cells(store, synthetic):
    for seed in (0, 1):
        for method, p in (("lsb", 0.25), ("lsb", 0.5), ("fixed", 0.5)):
            values = synthetic.depth_and_segmentation(0.5 + p / 3, 0.8 - p / 3)
            synthetic.finish(store, synthetic.make_spec(method, p, seed), values)
    matrix = state_matrix(findings_of(store))
    cells = {(r["arm"], r["priorities"]): r["cells"] for r in matrix["rows"]}
    assert cells["fixed", "(0.25, 0.75)"] == [None, None]
    assert all(cells["fixed", "(0.5, 0.5)"])


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        # The prior is .547 and .279: counted by hand are means up to .747 and .479, .947 and .679.
        (0.0, "Every operating point beats the image-independent baseline"),
        (-0.2, "baseline: 3 of 10 on depth delta1 and 2 of 10 on segmentation miou."),
        (-0.4, "all on depth delta1 and 7 of 10 on segmentation miou. None is better on every"),
    ],
)
def test_points_that_are_no_better_than_the_prior_are_counted(store, synthetic, shift, said):
    for method in ("lsb", "fixed"):
        for p, (delta1, miou) in zip(synthetic.priorities, synthetic.means[method], strict=True):
            for seed in (0, 1):
                values = synthetic.depth_and_segmentation(
                    max(delta1 + shift, 0.0), max(miou + shift, 0.0)
                )
                synthetic.finish(store, synthetic.make_spec(method, p, seed), values)
    findings = findings_of(store)
    words = verdict(findings)
    assert said in words.statements[-1]
    if shift == -0.4:
        assert words.headline.startswith("No winner: no operating point is better than the refer")
        assert "more runs of the same do not change that" in words.statements[0]


def small_table(**changes) -> pd.DataFrame:
    columns = {
        "method": ["lsb", "lsb", "fixed", "fixed"],
        "seed": [0] * 4,
        "priority_depth": [0.25, 0.5] * 2,
        "priority_segmentation": [0.75, 0.5] * 2,
        "delta1": [0.8, 0.7, 0.6, 0.5],
        "miou": [0.5] * 4,
    }
    return pd.DataFrame({**columns, **changes})


def test_a_constant_metric_stays(tmp_path):
    path = tmp_path / "t.csv"
    small_table().to_csv(path, index=False)
    loaded = load_table(path)
    findings = find(loaded, choose_axes(loaded.tasks))
    words = verdict(findings)
    assert "; segmentation miou stays at 50.0 %." in words.statements[1]
    assert "segmentation miou is the same in all runs and is moved a tenth of that value" in (
        findings.reference.rule
    )
    # miou is to be maximised: 0.5 moved by 0.05 to worse.
    assert findings.reference.point[1] == pytest.approx(0.45)


def test_the_noise_of_floats_is_no_range(tmp_path):
    path = tmp_path / "t.csv"
    noisy = small_table(miou=[0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2])
    noisy.to_csv(path, index=False)
    loaded = load_table(path)
    findings = find(loaded, choose_axes(loaded.tasks))
    spread = next(s for s in findings.spreads if s.column == "segmentation_miou")
    assert spread.range_of_means == 0
    assert findings.reference.point[1] == pytest.approx(0.27)


def test_a_table_is_not_said_to_have_what_it_does_not_name(tmp_path):
    path = tmp_path / "t.csv"
    small_table().to_csv(path, index=False)
    page = build(load_table(path), None, None).html
    assert "The table does not say which data set, network and setting of the optimiser" in page
    assert "One data set, one network" not in page
    assert "No epochs are recorded, so equal budget cannot be checked." in page
    small_table(epochs=[5] * 4, dataset=["x"] * 4, encoder=["y"] * 4).to_csv(path, index=False)
    page = build(load_table(path), None, None).html
    assert "The table does not say which setting of the optimiser" in page
    assert "every run of every method trained 5 epochs" in page


def test_a_single_task_row_is_drawn_as_a_baseline(tmp_path):
    path = tmp_path / "t.csv"
    alone = {"method": "single", "seed": 0, "priority_depth": 1, "priority_segmentation": 0}
    pd.concat([small_table(), pd.DataFrame([{**alone, "delta1": 0.9}])]).to_csv(path, index=False)
    built = build(load_table(path), None, None)
    assert built.summary["baselines"] == {"depth_delta1": {"0": 0.9}}
    assert built.summary["counts"] == {"done": 4}
    assert "train that task alone" in built.html


def test_methods_without_priorities_are_single_points(full_store, synthetic):
    for seed in (0, 1):
        spec = synthetic.make_spec("equal", None, seed)
        synthetic.finish(full_store, spec, synthetic.depth_and_segmentation(0.78, 0.66))
    findings = findings_of(full_store)
    assert findings.single_points == ("equal",)
    assert set(findings.hypervolumes) == {"lsb", "fixed"}
    assert "equal takes no priorities, so it has one operating point and no front." in (
        verdict(findings).statements
    )


def test_partly_failed_store_shows_what_there_is(store, synthetic, capsys):
    ids = synthetic.fill(store, skip=lambda spec: spec.seed == 1 and spec.method == "fixed")
    store.write_error(ids[-1], "Traceback\nRuntimeError: <script>alert(1)</script> & more\n")
    spec = synthetic.make_spec("fixed", 0.9, 0)
    synthetic.finish(store, spec, synthetic.depth_and_segmentation(None, 0.5))
    assert main([str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "15 of 21 runs are done, 1 failed, 4 missing, 1 excluded; the report says why." in out
    page = (store.root / "report" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert f"Run {spec.run_id()} is left out: test split holds no value for depth_delta1." in page
    states = pd.read_csv(store.root / "report/tables/states.csv")
    assert states["state"].value_counts().to_dict() == {
        "done": 15,
        "missing": 4,
        "failed": 1,
        "excluded": 1,
    }


def test_store_with_nothing_done_says_what_is_planned(store, synthetic, capsys):
    synthetic.write_plan(store, "grid", synthetic.fill(store, skip=lambda spec: True))
    assert main([str(store.root)]) == 0
    assert "none of 20 runs has a usable result" in capsys.readouterr().out
    assert read(store.root / "report")["counts"] == {"missing": 20}


def test_run_ids_choose_and_order_the_runs(full_store, synthetic):
    chosen = [synthetic.make_spec("lsb", 0.5, seed).run_id() for seed in (1, 0, 7)]
    summary = write_reports([full_store], full_store.root / "out", Asked(tuple(chosen)))[""]
    assert (summary.num_done, summary.num_runs, summary.counts) == (2, 3, {"done": 2, "missing": 1})
    assert [s["run_id"] for s in read(full_store.root / "out")["states"]] == chosen


def test_a_sweeps_folder_is_a_result(full_store, synthetic):
    run_id = synthetic.finish(
        full_store,
        synthetic.make_spec("lsb", 0.5, 0, epochs=99),
        synthetic.depth_and_segmentation(0.9, 0.9),
    )
    synthetic.write_plan(full_store, "long", [run_id])
    sweep = full_store.sweep_folder("priority_grid")
    assert main([str(full_store.root)]) == 0
    assert len(list((full_store.root / "report").glob("*/report.html"))) == 2, "two budgets"
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
        (["{store}", "--metrics", "depth"], 2, "Expected --metrics TASK=METRIC, got 'depth'"),
        (["{store}", "--metrics", "depth=rmse", "depth=rel"], 2, "two for depth"),
        (["{store}", "--metrics", "normal=within_30"], 2, "task of these results 'normal'"),
        (["{store}", "--colour"], 2, "Unrecognized arguments: --colour. See pareto.py --help."),
        ([], 2, "arguments are required: RESULTS"),
        (["{tmp}/nowhere"], 1, "nowhere, which does not exist"),
        (["{tmp}"], 1, "Expected a run store"),
        (["{tmp}/notes.txt"], 2, ".csv or .parquet"),
        (["{tmp}/bad.csv", "{store}"], 2, "one table or any number of stores"),
        (["{tmp}/bad.csv"], 1, "got none named method, seed, priority_<task>"),
        (["{tmp}/empty.csv"], 1, "Expected a table"),
        (["{tmp}/old"], 1, "schema 1, got schema 99"),
        (["{tmp}/new"], 1, "at least one run"),
    ],
)
def test_bad_input_is_one_sentence(store, synthetic, tmp_path, capsys, arguments, status, message):
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    synthetic.finish(store, synthetic.make_spec("lsb", 0.5, 0), values)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "store.json").write_text('{"schema": 99}')
    Store(tmp_path / "new")
    filled = [text.format(store=store.root, tmp=tmp_path) for text in arguments]
    assert main([*filled, "--out", str(tmp_path / "out")]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_paper_scaling_changes_what_is_shown_and_nothing_else(store, synthetic, capsys):
    tasks = ("depth", "edge2d", "keypoint2d", "keypoint3d")
    for seed, edge in enumerate((0.0123, 0.0125)):
        spec = RunSpec(method="equal", tasks=tasks, epochs=12, seed=seed)
        values = {
            "depth": {"delta1": 0.8, "abs_log": 0.2},
            "edge2d": {"l1": edge},
            "keypoint2d": {"l1": 0.00072},
            "keypoint3d": {"l1": 0.023},
        }
        synthetic.finish(store, spec, values, manifest={})
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


def test_folder_that_cannot_be_written(full_store, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main([str(full_store.root), "--out", str(tmp_path / "file" / "out")]) == 1
    assert "file/out: Not a directory" in capsys.readouterr().err


def test_summary_holds_no_nan(full_store, synthetic):
    spec = synthetic.make_spec("equal", None, 0)
    synthetic.finish(full_store, spec, synthetic.depth_and_segmentation(0.78, 0.66), manifest={})
    write_reports([full_store], full_store.root / "out")
    text = (full_store.root / "out" / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    assert math.isfinite(read(full_store.root / "out")["hypervolumes"]["lsb"])


def test_long_tables_say_what_the_page_leaves_out(full_store, monkeypatch):
    monkeypatch.setattr("analysis.page.MAX_ROWS", 3)
    page = build(load_stores([full_store]), None, None)
    points = page.html[page.html.index('id="points"') : page.html.index('id="picker"')]
    # 2 methods x 5 priorities = 10 operating points and 10 rows of states, 20 runs.
    assert points.count("The first 3 of 10 rows; the files hold all.") == 1
    assert points.count("The first 3 of 20 rows; the files hold all.") == 1
    assert page.html.count("The first 3 of 10 rows; whatever is not done") == 1
    assert len(page.files["tables/runs.csv"].splitlines()) == 1 + 20


def test_no_two_elements_share_an_id(full_store):
    page = build(load_stores([full_store]), None, None)
    ids = re.findall(r' id="([^"]+)"', page.html)
    assert len(ids) > 10
    assert sorted(ids) == sorted(set(ids))
