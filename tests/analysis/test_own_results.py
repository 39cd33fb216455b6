"""Results of somebody's own training: foreign tables, frames, Optuna and Tune, from Python too."""

import json
from types import SimpleNamespace

import nbclient
import nbformat
import numpy as np
import optuna
import pandas as pd
import pytest

from analysis import operating_points, report
from analysis.load.metrics import asked_metrics, declared_by
from analysis.load.table import load_table
from analysis.load.trials import Request, trials_of_table
from analysis.pareto import main
from mtl.errors import UserError
from mtl.records import Result
from mtl.spec.tasks import DECLARED_TASKS, DeclaredTask, Metric

METRICS = {"steering": "mae:min:degrees", "drowsiness": "auroc:max:share"}
ARGUMENTS = [f"{task}={text}" for task, text in METRICS.items()]


def rows() -> list[dict]:
    """Return a grid of two methods, three priorities and two seeds."""
    return [
        {
            "method": method,
            "seed": seed,
            "priority_steering": p,
            "priority_drowsiness": round(1 - p, 9),
            "mae": 4 - 2 * p + 0.01 * seed + (0.2 if method == "fixed" else 0),
            "auroc": 0.7 + 0.2 * (1 - p) - 0.001 * seed,
        }
        for method in ("lsb", "fixed")
        for p in (0.2, 0.5, 0.8)
        for seed in range(2)
    ]


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(rows()).assign(**columns)


def points_of(out) -> pd.DataFrame:
    return pd.read_csv(out / "tables/operating_points.csv")


def test_table_of_own_tasks_is_reported_with_declared_metrics(tmp_path, capsys):
    path, out = tmp_path / "runs.csv", tmp_path / "report"
    frame().to_csv(path, index=False)
    assert main([str(path), "--out", str(out), "--metrics", *ARGUMENTS]) == 0
    printed = capsys.readouterr().out
    assert "steering mae (degrees)" in printed
    assert "drowsiness auroc (share)" in printed
    page = (out / "report.html").read_text()
    assert "steering mae (degrees), lower is better (reversed)" in page
    points = points_of(out)
    best = points.loc[points["steering_mae_mean"].idxmin()]
    assert (best["method"], best["priority_steering"]) == ("lsb", 0.8)
    assert best["steering_mae_mean"] == pytest.approx(2.405)


def test_unknown_task_is_refused_with_the_way_to_declare_it(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    frame().to_csv(path, index=False)
    assert main([str(path)]) == 1
    assert "--metrics steering=COLUMN:min:UNIT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("steering=mae:up", "Expected a direction of steering=mae, got up"),
        ("steering=mae,p95", "Expected a direction of steering=mae, got none"),
        ("steering", "TASK=METRIC or TASK=METRIC:min:UNIT"),
        ("steering=", "TASK=METRIC or TASK=METRIC:min:UNIT"),
        ("lanes=iou:max", "a column priority_lanes"),
        ("steering=rmse:min", "a column with a metric of steering"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(tmp_path, capsys, argument, message):
    path = tmp_path / "runs.csv"
    frame().to_csv(path, index=False)
    others = [a for a in ARGUMENTS if not a.startswith(argument.partition("=")[0])]
    assert main([str(path), "--metrics", argument, *others]) != 0
    assert message in capsys.readouterr().err


def test_direction_of_a_built_in_metric_is_not_turned(tmp_path):
    for metric in ("rmse:max:m", Metric("rmse", "m", "max")):
        with pytest.raises(UserError, match="Expected depth=rmse:min, .* got rmse:max"):
            operating_points(frame(), {**METRICS, "depth": metric})


def test_refusals_say_what_to_do_from_python():
    with pytest.raises(UserError, match='from Python metrics={"steering": "COLUMN:min:UNIT"}'):
        operating_points(frame())


def test_several_metrics_of_a_task_are_tabulated_and_the_first_is_drawn(tmp_path):
    loaded = frame(p95=2.0)
    metrics = {**METRICS, "steering": "mae:min:degrees,p95:min:degrees"}
    (summary,) = report(loaded, tmp_path, metrics).values()
    assert "steering mae" in summary.table
    assert {"steering_mae", "steering_p95"} <= set(pd.read_csv(tmp_path / "tables/runs.csv"))


def test_store_brings_its_own_metrics(full_store, tmp_path, capsys):
    assert (
        main([str(full_store.root), "--out", str(tmp_path), "--metrics", "depth=rmse:min:m"]) == 2
    )
    assert "runs of a store say themselves" in capsys.readouterr().err


def test_frame_and_table_give_the_same_figure(tmp_path):
    path = tmp_path / "runs.parquet"
    frame().to_parquet(path)
    one, other = operating_points(frame(), METRICS), operating_points(path, METRICS)
    assert one.to_json() == other.to_json()
    means = next(trace for trace in one.data if trace.name == "lsb")
    assert sorted(means.x) == pytest.approx([2.405, 3.005, 3.605])
    assert one.layout.xaxis.title.text == "steering mae (degrees), lower is better (reversed)"


def test_metrics_may_be_values(tmp_path):
    metrics = {
        "steering": Metric("mae", "degrees", "min", low=0),
        "drowsiness": [Metric("auroc", "share", "max", low=0, high=1)],
    }
    assert operating_points(frame(), metrics) is not None
    with pytest.raises(UserError, match="between 0 and 1 .*auroc.*got 1.2 in row 3"):
        operating_points(frame(auroc=[0.5, 0.5, 1.2, *[0.5] * 9]), metrics)


def test_own_names_of_columns_are_mapped():
    theirs = {"algo": "method", "rep": "seed", "w": "priority_steering"}
    given = frame().rename(columns={ours: name for name, ours in theirs.items()})
    assert operating_points(given, METRICS, theirs) == operating_points(frame(), METRICS)
    with pytest.raises(UserError, match="Expected the column 'algos' in the DataFrame.*algo, rep"):
        operating_points(given, METRICS, {"algos": "method"})


def test_last_priority_may_be_left_out():
    given = frame().drop(columns="priority_drowsiness")
    nested = given.rename(columns={"priority_steering": "config/priorities/steering"})
    whole = operating_points(frame(), METRICS).data
    assert operating_points(given, METRICS).data == whole
    assert operating_points(nested, METRICS).data == whole


def test_metric_of_ones_own_may_have_the_name_of_an_alias():
    given = frame().rename(columns={"auroc": "acc"})
    figure = operating_points(given, {**METRICS, "drowsiness": "acc:max:share"})
    assert figure.layout.yaxis.title.text == "drowsiness acc (share), higher is better"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="seed"), "Seeds are needed"),
        (lambda f: f.assign(auroc=70.0), "between 0 and 1 in column auroc.*Divide percentages"),
        (
            lambda f: pd.concat([f.assign(dropout=0.1), f.assign(dropout=0.2, mae=5.0)]),
            "Rows of the same differ in dropout.*of each of its values on their own",
        ),
        (
            lambda f: pd.concat([f.assign(architecture=a, mae=m) for a, m in (("a", 1), ("b", 2))]),
            "Rows of the same differ in architecture",
        ),
        (lambda f: pd.concat([f, f.assign(mae=9.0)]), "the second one: remove one"),
        (lambda f: f.iloc[:0], "at least one row"),
        (lambda f: f.assign(mae="fast"), "numbers in column mae"),
        (lambda f: f.assign(state="ERROR"), "finished runs in the DataFrame, got 12 runs"),
        (lambda f: [1, 2], "Expected a store, a table, a DataFrame"),
    ],
)
def test_frames_that_cannot_be_read_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        operating_points(change(frame()), METRICS)


def test_values_that_are_not_finite_leave_a_run_out_and_are_said(tmp_path):
    values = frame()["mae"].to_numpy().copy()
    values[0] = np.inf
    (summary,) = report(frame(mae=values), tmp_path, METRICS).values()
    assert summary.counts["excluded"] == 1


def test_optuna_study_is_reported_without_its_pruned_trials(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for row in rows():
        params = {name: row[name] for name in ("method", "seed", "priority_steering")}
        others = {"priority_drowsiness": row["priority_drowsiness"]}
        choices = {
            name: optuna.distributions.CategoricalDistribution([v]) for name, v in params.items()
        }
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=choices,
                values=[row["mae"], row["auroc"]],
                user_attrs=others,
            )
        )
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED))
    columns = {"values_0": "mae", "values_1": "auroc"}
    (summary,) = report(study, tmp_path, METRICS, columns).values()
    assert summary.num_done == 12
    assert "Not shown, as not finished: 1 PRUNED." in (tmp_path / "report.html").read_text()
    assert points_of(tmp_path)["steering_mae_mean"].min() == pytest.approx(2.405)


def trial_settings(row: dict) -> dict:
    priorities = [row["priority_steering"], row["priority_drowsiness"]]
    return {"method": row["method"], "seed": row["seed"], "priorities": priorities, "lr": 1e-3}


def test_result_grid_is_reported(tmp_path):
    class Grid(list):
        def get_dataframe(self):
            raise AssertionError("its priorities are lists")

    results = [
        SimpleNamespace(
            config=trial_settings(row),
            metrics={"test": {"steering": {"mae": row["mae"]}}, "auroc": row["auroc"]},
            error=None,
        )
        for row in rows()
    ]
    results.append(SimpleNamespace(config=trial_settings(rows()[0]), metrics=None, error="out"))
    (summary,) = report(Grid(results), tmp_path, METRICS).values()
    assert summary.num_done == 12
    assert "1 ERROR" in (tmp_path / "report.html").read_text()


def test_folder_of_a_tune_experiment_is_reported(tmp_path):
    for number, row in enumerate(rows()):
        folder = tmp_path / f"experiment/trial_{number}"
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(trial_settings(row)))
        lines = [{"mae": 9.0, "auroc": 0.1}, {"mae": row["mae"], "auroc": row["auroc"]}]
        (folder / "result.json").write_text("\n".join(map(json.dumps, lines)))
    (summary,) = report(tmp_path / "experiment", tmp_path / "out", METRICS).values()
    assert summary.num_done == 12
    assert points_of(tmp_path / "out")["steering_mae_mean"].min() == pytest.approx(2.405)
    with pytest.raises(UserError, match="tasks of the column priorities"):
        report(tmp_path / "experiment", tmp_path / "out")


def test_export_of_wandb_is_reported(tmp_path):
    # Its table: a name and a state first, settings and summary by their own names.
    path = tmp_path / "wandb_export.csv"
    exported = frame(Name="run", State="finished").rename(columns={"mae": "test/mae"})
    exported.loc[12] = {**exported.loc[0].to_dict(), "seed": 7, "State": "crashed"}
    exported.to_csv(path, index=False)
    (summary,) = report(path, tmp_path, METRICS, {"test/mae": "mae"}).values()
    assert summary.num_done == 12
    assert "1 crashed" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_table_goes_the_way_of_a_frame(tmp_path, name, capsys):
    # As Tune and W&B write them: prefixes, a state, lists.
    priorities = [[row["priority_steering"], row["priority_drowsiness"]] for row in rows()]
    given = frame(priorities=priorities, State=["finished"] * 11 + ["crashed"])
    given = given.drop(columns=["priority_steering", "priority_drowsiness"])
    given = given.rename(columns={n: f"config/{n}" for n in ("method", "seed", "priorities")})
    path, out = tmp_path / name, tmp_path / "out"
    given.to_parquet(path) if name.endswith("parquet") else given.to_csv(path, index=False)
    assert main([str(path), "--out", str(out), "--metrics", *ARGUMENTS]) == 0
    assert "1 crashed" in (out / "report.html").read_text()
    assert len(pd.read_csv(out / "tables/runs.csv")) == 11
    loaded, same = load_table(path, asked_metrics(METRICS)[1]), ["run_id", "seed", "steering_mae"]
    in_memory = load_table(given, asked_metrics(METRICS)[1])
    assert loaded.runs[same].equals(in_memory.runs[same])


def test_ranking_leaves_out_what_is_not_finished(tmp_path):
    path = tmp_path / "trials.csv"
    frame(state=["done"] * 11 + ["crashed"]).to_csv(path, index=False)
    trials = trials_of_table(path, Request(metrics={"mae": "min"}))
    assert len(trials.frame) == 11
    assert "Not shown, as not finished: 1 crashed." in trials.notes


def test_row_numbers_count_the_rows_that_are_left_out(tmp_path):
    states = ["crashed", *["finished"] * 11]
    with pytest.raises(UserError, match="got 1.2 in row 3"):
        operating_points(frame(state=states, auroc=[0.5, 0.5, 1.2, *[0.5] * 9]), METRICS)


def test_share_lies_between_0_and_1_wherever_it_is_declared():
    share = Metric("auroc", "share", "max")
    assert (share.low, share.high) == (0, 1)
    assert Metric("gain", "share", "max", low=-1.0).low == -1
    held = DeclaredTask(metrics=(share,), plotted="auroc")
    stored = held.to_dict()
    stored["metrics"][0] |= {"low": None, "high": None}  # of an earlier release
    assert DeclaredTask.from_dict(stored) == held
    with pytest.raises(UserError, match="between 0 and 1 .*auroc.*got 60"):
        operating_points(frame(auroc=60.0), {**METRICS, "drowsiness": share})


def result(declared: dict[str, DeclaredTask]) -> Result:
    return Result("a", "done", 1, "last", 1, {}, {}, declared)


def test_declarations_travel_with_results():
    one = DeclaredTask(metrics=(Metric("mae", "degrees", "min"),), plotted="mae")
    more = DeclaredTask(metrics=(*one.metrics, Metric("p95", "degrees", "min")), plotted="mae")
    text = json.dumps(result({"steering": more}).to_dict())
    assert Result.from_dict(json.loads(text)).declared == {"steering": more}
    held = declared_by([result({"steering": one}), result({"steering": more})], ["steering"])
    assert held["steering"].metric_names == ("mae", "p95")
    # An older release says nothing of this project's own tasks.
    assert declared_by([result({})], ["depth"]) == {"depth": DECLARED_TASKS["depth"]}


def test_two_meanings_of_a_metric_are_refused():
    degrees, radians = (
        DeclaredTask(metrics=(Metric("mae", unit, "min"),), plotted="mae")
        for unit in ("degrees", "radians")
    )
    with pytest.raises(UserError, match=r"one meaning of steering mae.*degrees.*radians"):
        declared_by([result({"steering": degrees}), result({"steering": radians})], ["steering"])


@pytest.mark.parametrize(
    "values",
    [
        {"metrics": [], "plotted": "mae"},
        {"metrics": [{"name": "mae", "unit": "m", "direction": "up"}], "plotted": "mae"},
        {"metrics": [{"name": "mae", "unit": "m"}], "plotted": "mae"},
        {"metrics": [{"name": "mae", "unit": "\x1b[2J", "direction": "min"}], "plotted": "mae"},
        {"metrics": [{"name": "mae", "unit": "m", "direction": "min"}], "plotted": "mea"},
        [],
    ],
)
def test_declarations_of_untrusted_stores_are_checked(values):
    held = {**result({}).to_dict(), "declared": {"steering": values}}
    with pytest.raises(ValueError, match="Expected|Unknown"):
        Result.from_dict(held)


def test_three_lines_of_a_notebook_show_the_figure(tmp_path):
    frame().to_csv(tmp_path / "runs.csv", index=False)
    cell = (
        "from analysis import operating_points\n"
        f"figure = operating_points('runs.csv', metrics={METRICS!r})\n"
        "figure"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    (shown,) = notebook.cells[0].outputs
    assert "application/vnd.plotly.v1+json" in shown.data
