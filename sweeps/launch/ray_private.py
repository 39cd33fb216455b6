"""All that this project uses of Ray's private parts: what no public call does.

pyproject.toml bounds Ray for their sake; tests/contracts/test_ray_private.py says what a new
release has changed.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray._private import ray_constants, services, utils, worker
from ray._private.node import Node
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

if TYPE_CHECKING:  # Ray Tune takes a second to import, in which Ray itself can start
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

LOOPBACK = "127.0.0.1"


def submitted_runtime_env() -> dict[str, Any]:
    """Return the runtime environment of the job that this process was submitted as, else {}."""
    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR) or "{}")
    return job.get("runtime_env") or {}


def local_init(folder: Path) -> dict[str, Any]:
    """Return the arguments of `ray.init` that keep Ray in `folder` and on the loopback."""
    return {"_node_ip_address": LOOPBACK, "_temp_dir": str(folder)}


def set_is_cluster(is_cluster: bool) -> None:
    """Say whether nodes elsewhere are joined.

    If not, Ray must not replace the loopback address: the network could read its metrics.
    """
    ray_constants.ENABLE_RAY_CLUSTER = is_cluster


def silence_raylets() -> None:
    """Keep off the terminal what raylets say of lost processes; `log_to_driver` does not."""
    worker._worker_logs_enabled = False


def forget_failures(trial: "Trial") -> None:
    """Let only the newest failure of a trial count towards `max_failures`."""
    trial.run_metadata.num_failures = 1
    trial.run_metadata.invalidate_cache()


NO_AGENT = (
    "import ctypes, os, signal; parent = os.getppid(); "
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL); "  # PR_SET_PDEATHSIG
    "parent == os.getppid() and signal.pause()"
)
"""What stands in for the dashboard's agent: a raylet ends if its agent does. It goes with the
raylet."""


@contextlib.contextmanager
def lean_start(
    environment: Mapping[str, str], num_workers: int, *, dashboard: bool
) -> Iterator[None]:
    """Let `ray.init` start what a sweep on this machine needs, and nothing else.

    Ray starts five Python processes beside its own core, waits for two of them in turn, and for
    its workers in the end. Without a dashboard, four of the five have nothing to do: dashboard,
    its agent, the monitor of an autoscaler, and that of logs.

    The processes start in sessions of their own. Ray only shields them from SIGINT: a stop signal
    to the driver's process group, as `timeout` and batch systems send it, would end them under a
    driver that wants to stop in order. They still go with a driver that is killed: the kernel tells
    them of it by PR_SET_PDEATHSIG, whatever their session, as soon as the *thread* is gone that
    started them. Where it cannot, Ray ends the driver's process group instead, and they stay in it.

    Args:
        environment: of Ray's processes and workers, beside this process's own.
        num_workers: processes that are started before anybody asks for one.
        dashboard: whether there is one.
    """
    own_session = utils.detect_fate_sharing_support()

    class _Popen(services.ConsolePopen):
        def __init__(
            self, command: Sequence[str], *args: Any, env: Mapping[str, str], **kwargs: Any
        ) -> None:
            if command[0] == services.RAYLET_EXECUTABLE:
                command = raylet_command(command, num_workers, dashboard=dashboard)
            kwargs |= {"env": {**environment, **env}, "start_new_session": own_session}
            super().__init__(command, *args, **kwargs)

    replaced: list[tuple[Any, str, Any]] = [(services, "ConsolePopen", _Popen)]
    if not dashboard:
        not_started = ("start_monitor", "start_log_monitor", "start_api_server")
        replaced += [(Node, name, lambda *_, **__: None) for name in not_started]
        # Looking for its libraries imports them.
        replaced.append((utils, "get_dashboard_dependency_error", lambda: "none is asked for"))
    with _replaced(replaced):
        yield


def raylet_command(command: Sequence[str], num_workers: int, *, dashboard: bool) -> list[str]:
    """Return the command of a raylet with so many workers to begin with.

    Without a dashboard its agent is one that does nothing, and all ports are given: a raylet waits
    for every port that an agent is to choose.

    Raises:
        RuntimeError: if the command lacks what is replaced, as that of another Ray may.
    """
    changed = list(command)

    def put(name: str, change: Callable[[str], str]) -> None:
        places = [i for i, part in enumerate(changed) if part.startswith(f"--{name}=")]
        if len(places) != 1:
            raise RuntimeError(f"Expected one --{name} of Ray's raylet, got {len(places)}.")
        changed[places[0]] = f"--{name}={change(changed[places[0]].partition('=')[2])}"

    put("num_prestart_python_workers", lambda _: str(num_workers))
    if not dashboard:
        agent = subprocess.list2cmdline([sys.executable, "-I", "-S", "-c", NO_AGENT])
        metrics, export, listen, environments = _free_ports(4)
        put("dashboard_agent_command", lambda _: agent)
        put("metrics-agent-port", lambda _: metrics)
        put("metrics_export_port", lambda _: export)
        changed.append(f"--dashboard_agent_listen_port={listen}")
        put("runtime_env_agent_port", lambda _: environments)
        unset = "--runtime-env-agent-port="
        put(
            "runtime_env_agent_command",
            lambda held: held.replace(f"{unset}0", f"{unset}{environments}"),
        )
    return changed


@contextlib.contextmanager
def _replaced(attributes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Put values in place of attributes for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in attributes]
    for owner, name, value in attributes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _free_ports(number: int) -> list[str]:
    """Return ports of the loopback that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for held in sockets:
            held.bind((LOOPBACK, 0))
        return [str(held.getsockname()[1]) for held in sockets]


@contextlib.contextmanager
def environment_inherited() -> Iterator[None]:
    """Keep Tune from giving its actors an environment of their own.

    On a machine whose Ray this process started they inherit the variables that Tune would hand
    them; and an actor with an environment of its own gets a new process, not one that waits.
    """
    from ray.tune.execution import class_cache

    names = ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE")
    with _replaced([(class_cache, name, {}) for name in names]):
        yield


@contextlib.contextmanager
def reports_taken(
    take: "Callable[[dict[str, Any], Checkpoint | None], None]", checkpoint: "Checkpoint | None"
) -> Iterator[None]:
    """Hand what a training function reports to `take`; what `take` itself reports goes to Ray.

    Args:
        take: called with metrics and checkpoint in place of `tune.report`.
        checkpoint: what `tune.get_checkpoint` returns meanwhile.
    """
    from ray.train._internal.session import get_session

    session: Any = get_session()
    rays_own = session.report

    def report(metrics: dict[str, Any], checkpoint: "Checkpoint | None" = None) -> None:
        session.report = rays_own
        try:
            take(metrics, checkpoint)
        finally:
            session.report = report

    session.report, session.loaded_checkpoint = report, checkpoint
    try:
        yield
    finally:
        session.report, session.loaded_checkpoint = rays_own, None
