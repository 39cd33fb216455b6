"""All that this project uses of Ray's private parts: what no public call does.

pyproject.toml bounds Ray for their sake; tests/contracts/test_ray_private.py says what a new
release has changed.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray._private import ray_constants, services, utils, worker
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.train._internal.session import get_session
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


def forget_failures(trial: Trial) -> None:
    """Let only the newest failure of a trial count towards `max_failures`."""
    trial.run_metadata.num_failures = 1
    trial.run_metadata.invalidate_cache()


class _OwnSession(services.ConsolePopen):
    """A process of Ray that leads a session of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, start_new_session=True)


@contextlib.contextmanager
def own_sessions() -> Iterator[None]:
    """Start the processes of Ray that start meanwhile in sessions of their own.

    Ray only shields them from SIGINT. A stop signal to the driver's process group, as `timeout` and
    batch systems send it, would end them under a driver that wants to stop in order. They still go
    with a driver that is killed: the kernel tells them of it by PR_SET_PDEATHSIG, whatever their
    session. Where it cannot, Ray ends the driver's process group instead, and they stay in it.
    """
    if not utils.detect_fate_sharing_support():
        yield
        return
    rays_own = services.ConsolePopen
    services.ConsolePopen = _OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = rays_own  # type: ignore[misc]


@contextlib.contextmanager
def reports_taken(
    take: Callable[[dict[str, Any], Checkpoint | None], None], checkpoint: Checkpoint | None
) -> Iterator[None]:
    """Hand what a training function reports to `take`; what `take` itself reports goes to Ray.

    Args:
        take: called with metrics and checkpoint in place of `tune.report`.
        checkpoint: what `tune.get_checkpoint` returns meanwhile.
    """
    session: Any = get_session()
    rays_own = session.report

    def report(metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
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
