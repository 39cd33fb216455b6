"""Ray, quiet and thrown away after use: its folder, its start, and one Ray for several launches.

The throw-away folder is held while it is used; after a kill a later start removes it.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayError

from mtl.errors import PreflightError
from mtl.spec import Runtime, Spec
from mtl.store import Store
from sweeps.launch import ENVIRONMENT, Execution, set_environment
from sweeps.launch.cluster import (
    Resources,
    has_nodes,
    preflight_nodes,
    travelling_code,
    worker_nodes,
)
from sweeps.launch.preflight import Needs, check_answers, needs_of
from sweeps.launch.ray_private import (
    LOOPBACK,
    local_init,
    own_sessions,
    set_is_cluster,
    silence_raylets,
)
from sweeps.launch.signals import StopSignals
from sweeps.plan.cost import num_cpus, num_gpus
from sweeps.status.display import Display
from sweeps.text import counted

OBJECT_STORE_BYTES = 100_000_000
"""Runs exchange nothing but a line an epoch; data are memory-mapped files."""
SCRATCH_PREFIX = "mtl-sweep-"
SCRATCH_LOCK = ".lock"
"""File in the throw-away folder, held by the process that uses it."""
RAY = "ray"
"""What Ray gets within the throw-away folder; it opens that to all users of the machine."""
MAX_PARENT_BYTES = 12
"""A socket's path may have 107 bytes: PARENT/mtl-sweep-PID-8 bytes/ray/session_TIME_PID/
sockets/plasma_store has 95 beside the parent, where process ids have seven digits."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a throw-away folder of this user alone.

    Those that killed processes have left are removed before, and again afterwards: for some seconds
    after a kill Ray's agents live on, and create what they write to again.
    """
    parent = tempfile.gettempdir()
    parent = parent if len(os.fsencode(parent)) <= MAX_PARENT_BYTES else "/tmp"
    remove_abandoned(Path(parent))
    begun = Path(tempfile.mkdtemp(prefix=f".{SCRATCH_PREFIX}{os.getpid()}-", dir=parent))
    scratch = begun.with_name(begun.name.removeprefix("."))
    try:
        with held(begun):
            begun.rename(scratch)  # it never has its name without being held
            yield scratch
    finally:
        shutil.rmtree(begun, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        remove_abandoned(Path(parent))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a throw-away folder; it goes with this process, however that one ends."""
    with open(folder / SCRATCH_LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove this user's throw-away folders whose processes were killed."""
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder whose lock is free, or that was made again, without one, for a dead process.

    Raises:
        OSError: if it is held.
    """
    try:
        with open(folder / SCRATCH_LOCK, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        if not _lives(folder.name.removeprefix(SCRATCH_PREFIX).partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(process_id: str) -> bool:
    """Return whether a process of this machine has that id; what is no id counts as one."""
    if not process_id.isdecimal():
        return True
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def started_ray(
    execution: Execution, sweep: str, signals: StopSignals, modules: Collection[str] = ()
) -> Iterator[tuple[Path, str | None]]:
    """Start Ray on this machine, or join a cluster.

    Args:
        execution: where Ray is; to the nodes of a cluster the project's code travels.
        sweep: what the dashboard calls this job.
        signals: entered by the caller.
        modules: top-level ones from outside that the runs name; they travel too.

    Yields:
        A throw-away folder, and the address of the dashboard if there is one.

    Raises:
        PreflightError: if that fails.
    """
    address = execution.address
    if execution.dashboard and os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise PreflightError(
            "Expected RAY_AUTH_MODE unset or 'token' with --dashboard, got "
            f"{os.environ['RAY_AUTH_MODE']!r}: without a token any user of this machine could run "
            "code through it."
        )
    check_answers(address)
    set_environment()
    with scratch_folder() as scratch:
        # Failures are reported in the sweep's own words; Ray would print each with its trace.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        code = travelling_code(scratch, modules) if address else {"env_vars": {}}
        where: dict[str, Any] = {"address": address} if address else _on_this_machine(scratch)
        where |= {"include_dashboard": execution.dashboard} if not address else {}
        try:
            with warnings.catch_warnings(), own_sessions():
                warnings.simplefilter("ignore")  # hints of Ray about future releases
                set_is_cluster(address is not None)
                context = ray.init(
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    runtime_env={**code, "env_vars": ENVIRONMENT | code["env_vars"]},
                    job_config=ray.job_config.JobConfig(metadata={"job_name": sweep}),
                    **where,
                )
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            ray.shutdown()
            raise PreflightError(_not_started(address, error)) from error
        try:
            signals.install()
            if not address:
                _keep_token_private()
            silence_raylets()
            url = context.dashboard_url
            yield scratch, f"http://{url}" if url else None
        finally:
            ray.shutdown()


def _on_this_machine(scratch: Path) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": num_cpus(),
        "num_gpus": num_gpus(),
        "dashboard_host": LOOPBACK,
        "object_store_memory": OBJECT_STORE_BYTES,
        **local_init(scratch / RAY),
    }


def _not_started(address: str | None, error: Exception) -> str:
    reason = (str(error).strip() or repr(error)).splitlines()[0].partition(". ")[0].rstrip(".")
    if not address:
        return f"Could not start Ray: {reason}."
    return (
        f"Could not join the Ray cluster at {address!r}: {reason}. If it asks for a token, set "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head "
        "node."
    )


def _keep_token_private(path: Path = Path("~/.ray/auth_token")) -> None:
    """Take the token's file away from other users: Ray 2.60 makes it readable for all."""
    with contextlib.suppress(OSError):
        path.expanduser().chmod(0o600)


class Session:
    """Ray as `execution` asks for it; as a context manager it leaves none behind.

    It is started when it is needed, and again after it died.

    Args:
        execution: resources and where Ray is.
        name: of the sweep, for the dashboard.
        signals: entered by the caller.
        further_bytes: that the store will grow by beyond the runs of the first launch.
        modules: top-level ones from outside that the runs name.
    """

    def __init__(
        self,
        execution: Execution,
        name: str,
        signals: StopSignals,
        further_bytes: int = 0,
        modules: Collection[str] = (),
    ) -> None:
        self._execution, self._name, self._signals = execution, name, signals
        self._further_bytes, self._modules = further_bytes, modules
        self._stack = ExitStack()
        self._ray: tuple[Path, str | None] | None = None
        self.needs: Needs | None = None
        """Of the runs, once the nodes of a cluster were found to have it; later ones must too."""
        self._announced = False

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End Ray, if it runs."""
        self.end()

    def begin(self) -> Path:
        """Return the throw-away folder of a Ray that runs; start one if there is none.

        Raises:
            PreflightError: if that fails.
        """
        if self._ray is not None and not has_nodes():
            self.end()  # it died since the last launch
        if self._ray is None:
            self._ray = self._stack.enter_context(
                started_ray(self._execution, self._name, self._signals, self._modules)
            )
        return self._ray[0]

    def end(self) -> None:
        """End Ray, if it runs; `begin` starts another."""
        self._ray = None
        self._stack.close()

    def preflight(
        self,
        specs: Sequence[Spec],
        store: Store,
        runtime: Runtime,
        resources: Resources,
        display: Display,
    ) -> None:
        """Look at every node of a cluster and say where the dashboard is, once a session.

        Raises:
            PreflightError: if a node lacks what the runs need, or there is no dashboard though one
                is asked for.
        """
        execution = self._execution
        if execution.address is not None and self.needs is None:
            needs = needs_of(specs, store.address, runtime, self._further_bytes)
            nodes = worker_nodes(resources.cpus, resources.gpus)
            versions = preflight_nodes(needs, nodes)
            # The results are partly there by the time that another node joins.
            self.needs = replace(needs, versions=versions, store_bytes=0)
            display.say(f"Checked {counted(len(nodes), 'node')}: store, data, disk and versions.")
        if execution.dashboard and not self._announced:
            display.say(dashboard_sentence(self._ray[1] if self._ray else None))
            self._announced = True


def dashboard_sentence(address: str | None) -> str:
    """Return what is said of the dashboard once Ray runs.

    Raises:
        PreflightError: if there is none.
    """
    if address is None:
        raise PreflightError(
            "Expected Ray's dashboard, got none: it needs what `pip install 'ray[default]'` "
            "installs. Install that, or leave --dashboard out."
        )
    return f"Ray's dashboard: {address}; `ray get-auth-token` prints the token that it asks for."
