"""Ray, quiet and thrown away after use: its folder, its start, and one Ray for several launches.

Ray starts and ends in a thread beside the driver's: while data are prepared and modules imported,
and while the report is made.

The throw-away folder is held while it is used; after a kill a later start removes it.
"""

import contextlib
import fcntl
import gc
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayError

from mtl.errors import PreflightError
from mtl.spec import RunSpec, Runtime, Spec
from mtl.store import Store
from sweeps.launch import ENVIRONMENT, OWN_RAY, WORKER_MODULES, Execution, set_environment
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
    lean_start,
    local_init,
    set_is_cluster,
    silence_raylets,
)
from sweeps.plan.cost import StepKey, num_cpus, num_gpus
from sweeps.status.display import Display
from sweeps.status.progress import SweepProgress
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


@dataclass(frozen=True)
class Workers:
    """The processes that wait for runs before these are given to Ray, on a machine of our own."""

    number: int
    train_networks: bool
    """Whether they import what trains networks meanwhile: not for a function of one's own, which
    has torch read its number of threads when Ray has set it for the run."""


def workers_for(progress: SweepProgress, ranks: int = 1) -> Workers:
    """Return what starts with Ray for the runs that are not settled: no more than they need.

    Args:
        progress: of the runs.
        ranks: processes that train a network together, which another one starts.
    """
    left = [spec for run_id, spec in progress.runs.items() if not progress.is_settled(run_id)]
    train_networks = all(isinstance(spec, RunSpec) for spec in left)
    of_a_run = 1 + ranks if ranks > 1 and train_networks else 1
    return Workers(of_a_run * min(progress.slots, len(left)), train_networks)


@contextlib.contextmanager
def started_ray(
    execution: Execution, sweep: str, workers: Workers, modules: Collection[str] = ()
) -> Iterator[tuple[Path, str | None]]:
    """Start Ray on this machine, or join a cluster.

    Nothing of Ray Tune is imported, which the driver's thread imports meanwhile: its modules import
    each other, and in two threads at once some are then seen half imported.

    Args:
        execution: where Ray is; to the nodes of a cluster the project's code travels.
        sweep: what the dashboard calls this job.
        workers: what is started with Ray on this machine.
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
        where = _elsewhere(execution, scratch, modules) if address else _here(execution, scratch)
        starting = contextlib.nullcontext() if address else _lean_start(execution, workers)
        try:
            with warnings.catch_warnings(), starting:
                warnings.simplefilter("ignore")  # hints of Ray about future releases
                set_is_cluster(address is not None)
                context = ray.init(
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    job_config=ray.job_config.JobConfig(metadata={"job_name": sweep}),
                    **where,
                )
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            ray.shutdown()
            raise PreflightError(_not_started(address, error)) from error
        try:
            if not address:
                _keep_token_private()
            silence_raylets()
            url = context.dashboard_url if address or execution.dashboard else None
            yield scratch, f"http://{url}" if url else None
        finally:
            with nothing_collected():
                ray.shutdown()


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """Keep what is garbage now from being collected meanwhile.

    Tune leaves cycles that hold references to Ray's objects. Ray 2.60 ends the whole process, with
    status 0 or 1, where such a reference goes while it shuts down: the report, which is made
    beside that, would be lost.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _lean_start(execution: Execution, workers: Workers) -> AbstractContextManager[None]:
    """Return what starts Ray's processes with the environment that the workers are to have."""
    environment = dict(OWN_RAY)
    if workers.train_networks:
        environment["RAY_preload_python_modules"] = ",".join(WORKER_MODULES)
        # As Ray would set it once a run is given to the worker; torch reads it before that.
        cpus = execution.cpus_per_run / execution.num_ranks
        environment["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
    return lean_start(environment, workers.number, dashboard=execution.dashboard)


def _elsewhere(execution: Execution, scratch: Path, modules: Collection[str]) -> dict[str, Any]:
    code = travelling_code(scratch, modules)
    runtime_env = {**code, "env_vars": ENVIRONMENT | code["env_vars"]}
    return {"address": execution.address, "runtime_env": runtime_env}


def _here(execution: Execution, scratch: Path) -> dict[str, Any]:
    """Workers inherit the environment of this process; one that is set for them takes longer."""
    return {
        "address": "local",
        "num_cpus": num_cpus(),
        "num_gpus": num_gpus(),
        "include_dashboard": execution.dashboard,
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


class _Beside:
    """A context that is entered and left in a thread of its own.

    The thread lives as long as the context is entered: the kernel ends the processes of Ray with
    the thread that started them.
    """

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self._context = context
        self._entered, self._leave = threading.Event(), threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._hold, name="ray")
        self._thread.start()

    def _hold(self) -> None:
        try:
            with self._context as self._value:
                self._entered.set()
                self._leave.wait()
        except BaseException as error:
            self._error = error
        finally:
            self._entered.set()

    def value(self) -> Any:
        """Return what the context yields, once it does; raise what it raised."""
        self._entered.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def leave(self) -> None:
        """Begin to leave the context, as soon as it is entered."""
        self._leave.set()

    def left(self) -> None:
        """Leave the context."""
        self.leave()
        self._thread.join()


class Session:
    """Ray as `execution` asks for it; as a context manager it leaves none behind.

    It is started when it is needed, and again after it died.

    Args:
        execution: resources and where Ray is.
        name: of the sweep, for the dashboard.
        workers: what starts with Ray on this machine.
        further_bytes: that the store will grow by beyond the runs of the first launch.
        modules: top-level ones from outside that the runs name.
    """

    def __init__(
        self,
        execution: Execution,
        name: str,
        workers: Workers,
        further_bytes: int = 0,
        modules: Collection[str] = (),
    ) -> None:
        self._execution, self._name, self._workers = execution, name, workers
        self._further_bytes, self._modules = further_bytes, modules
        self._ray: _Beside | None = None
        self.needs: Needs | None = None
        """Of the runs, once the nodes of a cluster were found to have it; later ones must too."""
        self.packs: dict[StepKey, int] = {}
        """Step key -> runs that train fastest together, as far as it was measured."""
        self._announced = False

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End Ray, if it runs."""
        self.end()

    def start(self) -> None:
        """Begin to start Ray, unless it runs; `begin` waits for it."""
        if self._ray is None:
            self._ray = _Beside(
                started_ray(self._execution, self._name, self._workers, self._modules)
            )

    def begin(self) -> Path:
        """Return the throw-away folder of a Ray that runs; start one if there is none.

        Raises:
            PreflightError: if that fails.
        """
        self.start()
        scratch, _ = self._started()
        if not has_nodes():
            self.end()  # it died since the last launch
            self.start()
            scratch, _ = self._started()
        return scratch

    def _started(self) -> tuple[Path, str | None]:
        """Return what `started_ray` yields."""
        if self._ray is None:
            raise RuntimeError("Expected a Ray that was started, got none.")
        value: tuple[Path, str | None] = self._ray.value()
        return value

    def leave(self) -> None:
        """Begin to end Ray, if it runs; nothing more is asked of it."""
        if self._ray is not None:
            self._ray.leave()

    def end(self) -> None:
        """End Ray, if it runs; `begin` starts another."""
        beside, self._ray = self._ray, None
        if beside is not None:
            beside.left()

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
            display.say(dashboard_sentence(self._started()[1]))
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
