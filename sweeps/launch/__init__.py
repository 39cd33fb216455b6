"""Plan minus done -> Ray Tune -> store; the only package that imports ray."""

import os
from dataclasses import dataclass

from mtl.errors import UsageError
from sweeps.plan.packs import Pack

# Before ray is imported: it reads some of these at import.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a run without a GPU must not see one
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is never read again
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune would let as many wait for a place as the cluster has CPUs, and go through all at each
    # event; an autoscaler sees them. Its own least number is this.
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "3",  # a stop costs at most an epoch, which is repeated
}
OWN_RAY = {
    "RAY_worker_niceness": "0",
    "RAY_enable_worker_prestart": "1",  # as the node starts, and without waiting for them
    "RAY_prestart_worker_first_driver": "0",
    "PL_DISABLE_FORK": "1",  # what Tune gives its actors
}
"""For a Ray that is started on this machine; a cluster's is as its owner started it.

Niceness: Ray's workers have 15, so that anything else that runs on the machine takes their time:
beside one busy process a sweep would get less than half of its core. A sweep that was asked for is
work like any other; whoever wants it to yield starts it with `nice`, which its workers inherit.
"""
WORKER_MODULES = ("sweeps.launch.worker", "mtl.training")
"""What workers import as they start, before they are given a run of a network."""


def set_environment() -> None:
    """Set what the user has not set otherwise."""
    os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})


def leave_tune_alone() -> None:
    """Take back what concerns Tune, for a Tuner of the user's own in this process."""
    for name, value in ENVIRONMENT.items():
        if name.startswith("TUNE_") and os.environ.get(name) == value:
            del os.environ[name]


set_environment()

MAX_BUDGET_HOURS = 24 * 366


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how the runs of a plan are trained; nothing here changes a result."""

    address: str | None = None
    """Of a Ray cluster to join; None starts Ray on this machine."""
    cpus_per_run: float = 1.0
    gpus_per_run: float | None = None
    """None means 1 where there are GPUs and 0 elsewhere; above 1 a whole number."""
    concurrency: int | None = None
    """Runs side by side at most; None means as many as the resources allow."""
    retry_failed: bool = False
    budget_hours: float | None = None
    """The sweep stops after this time, and the same command continues; None means no limit."""
    dashboard: bool = False
    """Start Ray's dashboard on this machine; a cluster has its own."""
    serve: str | None = None
    """`[HOST:]PORT` of the sweep's page, see `sweeps.serve`; None for no page."""
    pack: Pack = 1
    """Runs that a trial trains together at most, see `mtl.training.pack`."""
    tune_dir: str | None = None
    """Folder that keeps each round of Ray Tune as an experiment of its own, with Tune's loggers:
    about 36 KB a trial in each snapshot, and its logs. None throws them away."""
    local_data: str | None = None
    """Folder on each node's own disk that gets a copy of the data; None reads them in place."""

    @property
    def num_ranks(self) -> int:
        """Return how many processes train a network together: one on each GPU of a run."""
        return max(1, int(self.gpus_per_run or 0))

    def __post_init__(self) -> None:
        """Refuse what Ray could not schedule."""
        if not self.cpus_per_run > 0:
            raise UsageError(f"Expected --cpus-per-run above 0, got {self.cpus_per_run:g}.")
        gpus = self.gpus_per_run
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)):
            raise UsageError(
                "Expected --gpus-per-run from 0 to 1 (0.5 lets two runs share a GPU) or a whole "
                f"number of GPUs, got {gpus:g}."
            )
        if self.pack != 1 and self.gpus_per_run not in (None, 0, 1):
            raise UsageError(
                f"Expected either --pack or --gpus-per-run {self.gpus_per_run:g}, got both: the "
                "runs of a pack share one GPU in one process. Leave one out."
            )
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"Expected --concurrency of at least 1, got {self.concurrency}.")
        # As it stands it is not true of NaN either.
        if self.budget_hours is not None and not 0 < self.budget_hours <= MAX_BUDGET_HOURS:
            raise UsageError(
                f"Expected --budget above 0 and at most {MAX_BUDGET_HOURS} hours, got "
                f"{self.budget_hours:g}. Leave it out for no limit."
            )
