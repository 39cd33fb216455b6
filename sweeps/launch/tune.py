"""Ray and Tune, quiet and thrown away after use: start, one round of runs, shut down."""

# ruff: noqa: ARG002 - Tune passes its callbacks more than they need
import contextlib
import logging
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from mtl.errors import UserError
from sweeps.launch import ENVIRONMENT
from sweeps.launch.cluster import placement, travelling_code
from sweeps.launch.processes import RAY, scratch_folder, sessions_of_their_own
from sweeps.launch.signals import StopSignals
from sweeps.launch.tracker import Listener

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 100_000_000
"""Runs exchange nothing but a line an epoch; data are memory-mapped files."""
SECONDS_TO_CONNECT = 15.0
SECONDS_BETWEEN_LOOKS = 5.0
"""At whether Ray still has a node."""
MAX_RETRIES = 2
"""Of a run whose process failed in a way that may pass."""


class ClusterError(UserError):
    """Ray cannot be started or joined, or cannot run what is asked; in one sentence."""


@dataclass(frozen=True)
class Resources:
    """Of one run, and how many runs go side by side."""

    cpus: float
    gpus: float
    slots: int
    memory_bytes: int = 0
    """What Ray sets aside for a run when it chooses a node; 0 where nothing is known."""
    grows: bool = False
    """Nodes may join later, so that `slots` is no bound."""
    not_on: frozenset[str] = frozenset()
    """Ids of nodes that no run may be given to."""

    def of_a_run(self) -> dict[str, float]:
        """Return what Ray is asked for."""
        asked = {"cpu": self.cpus, "gpu": self.gpus}
        return asked | ({"memory": float(self.memory_bytes)} if self.memory_bytes else {})


@contextlib.contextmanager
def started_ray(
    address: str | None,
    *,
    num_cpus: int,
    num_gpus: int,
    signals: StopSignals,
    sweep: str = "",
    dashboard: bool = False,
) -> Iterator[Path]:
    """Start Ray on this machine, or join the cluster at `address`; yield a throw-away folder.

    Args:
        address: of a cluster; the project's code travels to its nodes.
        num_cpus: of this machine.
        num_gpus: of this machine.
        signals: entered by the caller.
        sweep: what the dashboard calls this job.
        dashboard: start it too, on this machine alone and with a token; a cluster has its own.

    Raises:
        ClusterError: if that fails.
    """
    if dashboard and os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise ClusterError(
            "Expected RAY_AUTH_MODE unset or 'token' with --dashboard, got "
            f"{os.environ['RAY_AUTH_MODE']!r}: without a token any user of this machine could run "
            "code through it."
        )
    if address:
        _check_answers(address)
    with scratch_folder() as scratch:
        # Failures are reported in the sweep's own words; Ray would print each with its trace.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        local: dict[str, Any] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "include_dashboard": dashboard,
            "dashboard_host": LOOPBACK,
            "_node_ip_address": LOOPBACK,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(scratch / RAY),
        }
        try:
            with warnings.catch_warnings(), sessions_of_their_own():
                warnings.simplefilter("ignore")  # hints of Ray about future releases
                # Else Ray replaces the loopback address, and the network can read its metrics.
                ray._private.ray_constants.ENABLE_RAY_CLUSTER = address is not None
                ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    runtime_env=_runtime_env(scratch, travels=address is not None),
                    job_config=ray.job_config.JobConfig(metadata={"job_name": sweep}),
                    **({} if address else local),
                )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            ray.shutdown()
            where = f"join the Ray cluster at {address!r}" if address else "start Ray"
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ClusterError(f"Could not {where}: {first_line}") from error
        try:
            signals.install()
            if not address:
                _keep_token_private()
            # Not covered by log_to_driver: what raylets say of lost processes, in many lines.
            ray._private.worker._worker_logs_enabled = False
            yield scratch
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise a `ClusterError` if nothing answers at a HOST:PORT; Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # `auto`, or what Ray itself refuses
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT):
            """Proves that somebody listens."""
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"Expected a Ray cluster at {address}, got: {error}. Look at the address, or start it."
        ) from error


def _keep_token_private(path: Path = Path("~/.ray/auth_token")) -> None:
    """Take the token's file away from other users: Ray 2.60 makes it readable for all."""
    with contextlib.suppress(OSError):
        path.expanduser().chmod(0o600)


def _runtime_env(scratch: Path, *, travels: bool) -> dict[str, Any]:
    """Return the workers' environment, with the project's code if it `travels` to other nodes."""
    if not travels:
        return {"env_vars": ENVIRONMENT}
    code = travelling_code(scratch)
    return {**code, "env_vars": ENVIRONMENT | code["env_vars"]}


def dashboard_address() -> str | None:
    """Return the address of the dashboard of the Ray that runs, or None if there is none."""
    host_and_port = ray._private.worker.get_dashboard_url()
    return f"http://{host_and_port}" if host_and_port else None


def has_nodes() -> bool:
    """Return whether the Ray that was started, or joined, still has a node that lives."""
    try:
        return any(node["Alive"] for node in ray.nodes())
    except (RuntimeError, ConnectionError, ray.exceptions.RayError):  # nobody answers
        return False


def largest_node() -> dict[str, float]:
    """Return, for CPU, GPU and memory (bytes), the most that a single node of the cluster has."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return {
        name: max((n.get(name, 0.0) for n in alive), default=0.0)
        for name in ("CPU", "GPU", "memory")
    }


def cluster_total(name: str) -> float:
    """Return the cluster's `CPU`, `GPU` or `memory` (bytes) in all."""
    return float(ray.cluster_resources().get(name, 0.0))


class _StopWhenAsked(tune.Stopper):
    """Ends a round when a signal has come, and a run for whose next epoch there is no time.

    The run waits in its report meanwhile, so that it is stopped between two epochs. What keeps a
    place on an unfit node is ended once no run is under way elsewhere.
    """

    def __init__(self, asked: Callable[[], bool], listener: Listener) -> None:
        self._asked, self._listener = asked, listener

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if "unfit" in result:
            return not self._listener.runs_go_on()
        if "epoch" not in result:
            return False
        return not self._listener.may_go_on(result["config"]["run_id"], result["epoch"])

    def stop_all(self) -> bool:
        return self._asked()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves a copy that nobody reads, and could not pickle the functions


class _InTime(Searcher):
    """Gives Tune the runs in order, each when a slot is free and if there is time for it then."""

    def __init__(self, run_ids: Sequence[str], may_start: Callable[[str], bool]) -> None:
        super().__init__()
        self._waiting, self._may_start = list(run_ids), may_start

    def suggest(self, trial_id: str) -> Any:
        for run_id in self._waiting:
            if self._may_start(run_id):
                self._waiting.remove(run_id)
                return {"run_id": run_id}
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass  # Tune's own state is never read again

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Callback(tune.Callback):
    """Passes Tune's events on to a listener."""

    def __init__(self, listener: Listener, signals: StopSignals) -> None:
        self._listener, self._signals = listener, signals
        self._looked = time.monotonic()
        self._newest_epochs: dict[str, int] = {}
        self._epochs_at_failure: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves a copy that nobody reads

    def setup(
        self,
        stop: tune.Stopper | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **_: Any,
    ) -> None:
        self._signals.install()  # fit() has just taken SIGUSR1

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._listener.run_started(trial.config["run_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        run_id = trial.config["run_id"]
        if "state" in result:
            self._listener.run_ended(run_id, result["state"])
        elif "unfit" in result:
            self._listener.run_put_back(run_id, result["node_id"], result["unfit"])
        elif "epoch" in result:
            self._newest_epochs[run_id] = max(result["epoch"], self._newest_epochs.get(run_id, 0))
            self._listener.run_epoch(run_id, result["epoch"], result["losses"])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        run_id = trial.config["run_id"]
        newest = self._newest_epochs.get(run_id, 0)
        if newest > self._epochs_at_failure.get(run_id, newest):
            # It got further than last time, as on nodes that come and go: not a failure for good.
            trial.run_metadata.num_failures = 1
            trial.run_metadata.invalidate_cache()
        self._epochs_at_failure[run_id] = newest
        self._listener.run_retried(run_id, _detail(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._listener.run_given_up(trial.config["run_id"], _detail(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        self._listener.run_stopped(trial.config["run_id"])

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        if time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            if not has_nodes():
                # Tune would wait for ever for somewhere to put its trials.
                raise RuntimeError("Ray's node process is gone")
        self._listener.tick()


def _detail(trial: Trial) -> str:
    """Return the end of what Ray says of the trial's last failure, at most 600 characters."""
    try:
        return Path(trial.error_file).read_text("utf-8").strip()[-600:]
    except (OSError, TypeError):  # no file, or no folder yet
        return ""


def tune_round(
    run_ids: Sequence[str],
    trainable: Callable[[dict[str, Any]], None] | type[tune.Trainable],
    resources: Resources,
    listener: Listener,
    signals: StopSignals,
    scratch: Path,
) -> None:
    """Train `run_ids` by Ray Tune, as many side by side as there are slots.

    Whatever happens to runs is told to `listener`; after a signal the round ends early. A
    trainable that is a class gets a process for each run, a function one for many runs in turn.

    Raises:
        Exception: whatever takes Tune itself down, such as Ray's memory monitor killing a run.
    """
    limited = listener.limits_time()
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as storage:
        placed = tune.with_resources(trainable, placement(resources.of_a_run(), resources.not_on))
        if isinstance(trainable, type):  # Tune wrapped it, under a name of its own
            placed.__name__ = placed.__qualname__ = trainable.__name__
        tuner = tune.Tuner(
            placed,
            # A grid is laid out at once; runs that may come too late are given out one by one.
            param_space=None if limited else {"run_id": tune.grid_search(list(run_ids))},
            tune_config=tune.TuneConfig(
                search_alg=_InTime(run_ids, listener.may_start) if limited else None,
                num_samples=-1 if limited else 1,
                max_concurrent_trials=resources.slots if limited or not resources.grows else None,
                reuse_actors=not isinstance(trainable, type),
                trial_name_creator=_run_id_of,
                trial_dirname_creator=_run_id_of,
            ),
            run_config=tune.RunConfig(
                name="round",
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                callbacks=[_Callback(listener, signals)],
                stop=_StopWhenAsked(lambda: signals.received is not None, listener),
            ),
        )
        signals.deferring = True
        try:
            tuner.fit()
        finally:
            signals.deferring = False


def _run_id_of(trial: Trial) -> str:
    return trial.config["run_id"]
