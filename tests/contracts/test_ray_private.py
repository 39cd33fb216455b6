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
from ray._private.node import Node
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.trainable import trainable_fn_utils, wrap_function

from sweeps.launch import OWN_RAY, ray_private, tune
from sweeps.launch.ray_private import (
    environment_inherited,
    forget_failures,
    lean_start,
    reports_taken,
)

ROOT = Path(__file__).parents[2]
KINDS = ("head", "ray")


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


def started(code: str) -> str:
    """Start what prints as Ray starts its processes; return what it prints."""
    options = {"stdout": subprocess.PIPE, "env": dict(os.environ), "text": True}
    return services.ConsolePopen([sys.executable, "-c", code], **options).communicate()[0]


def test_ray_starts_its_processes_by_the_class_that_is_replaced():
    assert issubclass(services.ConsolePopen, subprocess.Popen)
    assert "ConsolePopen(" in inspect.getsource(services.start_ray_process)
    before = services.ConsolePopen
    with lean_start({"RAY_worker_niceness": "0", "HOME": "x"}, 2, dashboard=True):
        assert (services.ConsolePopen is before) != utils.detect_fate_sharing_support()
        names = "os.getsid(0), os.environ['RAY_worker_niceness'], os.environ['HOME'] != 'x'"
        session, niceness, is_own = started(f"import os; print({names})").split()
    assert services.ConsolePopen is before
    assert (int(session) != os.getsid(0)) == utils.detect_fate_sharing_support()
    assert (niceness, is_own) == ("0", "True")


def test_ray_starts_by_methods_what_a_sweep_without_dashboard_leaves_out():
    head, node = (inspect.getsource(getattr(Node, f"start_{what}_processes")) for what in KINDS)
    assert "self.start_monitor()" in head
    assert "self.start_api_server(" in head
    assert "self.start_log_monitor()" in node
    assert "utils.get_dashboard_dependency_error()" in inspect.getsource(services.start_raylet)
    before = Node.start_api_server
    with lean_start({}, 2, dashboard=False):
        assert Node.start_api_server is not before
    assert Node.start_api_server is before


def test_raylet_has_the_options_that_are_replaced(monkeypatch):
    seen = []
    monkeypatch.setattr(
        services, "start_ray_process", lambda command, *_, **__: seen.append(command)
    )
    needed = inspect.signature(services.start_raylet).parameters
    given: dict[str, object] = dict.fromkeys(needed, "")
    given |= {
        name: parameter.default
        for name, parameter in needed.items()
        if parameter.default is not inspect.Parameter.empty
    }
    given |= {name: 0 for name in needed if name.endswith("_port")}
    given["resource_and_label_spec"] = SimpleNamespace(
        to_resource_dict=lambda: {"CPU": 2}, labels={}, num_cpus=2
    )
    given["resource_isolation_config"] = SimpleNamespace(is_enabled=lambda: False)
    services.start_raylet(**given)
    (command,) = seen
    assert command[0] == services.RAYLET_EXECUTABLE
    changed = ray_private.raylet_command(command, 1, dashboard=False)
    assert "--num_prestart_python_workers=1" in changed
    ports = [part for part in changed if part.partition("=")[0].endswith(("-port", "_port"))]
    chosen = ("--metrics", "--runtime_env_agent", "--dashboard_agent")
    assert all(not part.endswith("=0") for part in ports if part.startswith(chosen))
    (agent,) = [part for part in changed if part.startswith("--runtime_env_agent_command=")]
    assert "--runtime-env-agent-port=0" not in agent
    assert len(changed) == len(command) + 1
    kept = ray_private.raylet_command(command, 1, dashboard=True)
    assert [part for part in kept if part not in command] == ["--num_prestart_python_workers=1"]
    with pytest.raises(RuntimeError, match="Expected one --num_prestart_python_workers"):
        ray_private.raylet_command(["raylet"], 1, dashboard=True)


def test_tune_hands_its_actors_an_environment_that_can_be_left_out():
    source = inspect.getsource(class_cache._ActorClassCache.get)
    assert "DEFAULT_ENV_VARS.copy()" in source
    assert "in ENV_VARS_TO_PROPAGATE" in source
    assert OWN_RAY.items() >= class_cache.DEFAULT_ENV_VARS.items()
    before = class_cache.DEFAULT_ENV_VARS
    with environment_inherited():
        assert class_cache.DEFAULT_ENV_VARS == {}
    assert class_cache.DEFAULT_ENV_VARS is before


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
