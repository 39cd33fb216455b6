"""How and where the runs of a plan are executed."""

from dataclasses import dataclass

from mtl.errors import UsageError
from sweeps.plan.cost import check_hours


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how the runs of a plan are trained; nothing here changes a result."""

    address: str | None = None
    """Of a Ray cluster to join; None starts Ray on this machine."""
    cpus_per_run: float = 1.0
    gpus_per_run: float | None = None
    """None means 1 where there are GPUs and 0 elsewhere."""
    concurrency: int | None = None
    """Runs side by side at most; None means as many as the resources allow."""
    retry_failed: bool = False
    budget_hours: float | None = None
    """No run is started that is not expected to end within this time; None means no limit."""
    dashboard: bool = False
    """Start Ray's dashboard on this machine; a cluster has its own."""
    local_data: str | None = None
    """Folder on each node's own disk that gets a copy of the data; None reads them in place."""

    def __post_init__(self) -> None:
        """Refuse what Ray could not schedule."""
        if not self.cpus_per_run > 0:
            raise UsageError(f"Expected --cpus-per-run above 0, got {self.cpus_per_run:g}.")
        if self.gpus_per_run is not None and not 0 <= self.gpus_per_run <= 1:
            raise UsageError(
                "Expected --gpus-per-run from 0 to 1 (a run uses at most one GPU; 0.5 lets two "
                f"runs share one), got {self.gpus_per_run:g}."
            )
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"Expected --concurrency of at least 1, got {self.concurrency}.")
        if self.budget_hours is not None:
            check_hours(self.budget_hours)
