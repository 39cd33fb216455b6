"""What this project uses of Ray's private parts is still there and still does what it did.

A failure here means that the Ray installed is not one of those that pyproject.toml allows, or that
its bound was raised: mend sweeps/launch/ray_private.py, then run `make slow`.
"""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import ray.train._internal.session
from ray._private import ray_constants, services, utils, worker
from ray.tune.experiment import Trial
from ray.tune.trainable import trainable_fn_utils, wrap_function

from sweeps.launch import ray_private, tune
from sweeps.launch.ray_private import forget_failures, own_sessions, reports_taken

ROOT = Path(__file__).parents[2]


def test_ray_private_is_touched_in_one_file():
    touching = {
        path.relative_to(ROOT).as_posix()
        for package in ("mtl", "sweeps", "analysis")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray._"))
        or (isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ray._"))
    }
    assert touching == {"sweeps/launch/ray_private.py"}


def test_ray_init_takes_the_private_arguments(tmp_path):
    source = inspect.getsource(ray.init)
    assert all(f'"{name}"' in source for name in ray_private.local_init(tmp_path))


def test_ray_reads_the_switches_that_are_set():
    # Of the loopback address, and of what raylets say.
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert "ENABLE_RAY_CLUSTER" in inspect.getsource(services)
    assert isinstance(worker._worker_logs_enabled, bool)
    assert "_worker_logs_enabled" in inspect.getsource(worker.print_worker_logs)


def test_submitted_job_is_in_the_environment(monkeypatch):
    from ray._private.runtime_env import constants

    assert constants.RAY_JOB_CONFIG_JSON_ENV_VAR == "RAY_JOB_CONFIG_JSON_ENV_VAR"
    monkeypatch.setenv(constants.RAY_JOB_CONFIG_JSON_ENV_VAR, '{"runtime_env": {"pip": ["x"]}}')
    assert ray_private.submitted_runtime_env() == {"pip": ["x"]}


def test_ray_starts_its_processes_by_the_class_that_is_replaced():
    assert issubclass(services.ConsolePopen, subprocess.Popen)
    assert "ConsolePopen(" in inspect.getsource(services.start_ray_process)
    before = services.ConsolePopen
    with own_sessions():
        assert (services.ConsolePopen is before) != utils.detect_fate_sharing_support()
        code = "import os; print(os.getsid(0))"
        started = services.ConsolePopen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        session = int(started.communicate()[0])
    assert services.ConsolePopen is before
    assert (session != os.getsid(0)) == utils.detect_fate_sharing_support()


def test_failures_of_a_trial_can_be_forgotten(tmp_path):
    trial = Trial("stub", stub=True, max_failures=tune.MAX_RETRIES)
    trial.run_metadata.num_failures = 3
    assert not trial.should_recover()
    forget_failures(trial)
    assert trial.should_recover()
    assert trial.num_failures == 1
    assert '"num_failures": 1' in trial.get_json_state()[1]


def test_trainable_bears_the_name_of_its_run():
    class Run(wrap_function(lambda config: None)):  # type: ignore[misc]
        def __repr__(self) -> str:
            return "a name"

    assert repr(Run.__new__(Run)) == "a name"


@pytest.mark.parametrize("name", ["on_trial_recover", "on_trial_error", "on_trial_complete"])
def test_callbacks_of_tune_are_called_so(name):
    assert set(inspect.signature(getattr(ray.tune.Callback, name)).parameters) >= {
        "iteration", "trials", "trial",
    }  # fmt: skip


def test_reports_of_a_trial_go_through_its_session(monkeypatch):
    source = inspect.getsource(trainable_fn_utils)
    assert "get_session().report(metrics, checkpoint=checkpoint)" in source
    assert "return get_session().loaded_checkpoint" in source
    told = []
    fake = SimpleNamespace(report=lambda *args, **_: told.append(args), loaded_checkpoint=None)
    monkeypatch.setattr(ray.train._internal.session, "_session", fake)
    with reports_taken(lambda metrics, _: ray.tune.report({"twice": 2 * metrics["a"]}), "saved"):
        ray.tune.report({"a": 1})
        assert ray.tune.get_checkpoint() == "saved"
    ray.tune.report({"a": 3})
    assert told == [({"twice": 2},), ({"a": 3},)]
    assert ray.tune.get_checkpoint() is None
