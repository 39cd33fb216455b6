"""One Ray for one launch or for several in turn: started when needed, again after it died."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from sweeps.launch import tune
from sweeps.launch.cluster import check_cluster, nodes_sentence
from sweeps.launch.execution import Execution
from sweeps.launch.preflight import Checked
from sweeps.launch.signals import StopSignals
from sweeps.launch.tune import ClusterError, Resources
from sweeps.plan.cost import num_cpus, num_gpus
from sweeps.status.display import Display


class Session:
    """Ray as `execution` asks for it; as a context manager it leaves none behind.

    Args:
        execution: resources and where Ray is.
        name: of the sweep, for the dashboard.
        signals: entered by the caller.
        further_bytes: that the store will grow by beyond the runs of the first launch.
        checked: what a look at the cluster found before; None looks at it once Ray runs.
    """

    def __init__(
        self,
        execution: Execution,
        name: str,
        signals: StopSignals,
        further_bytes: int = 0,
        checked: Checked | None = None,
    ) -> None:
        self._execution, self._name, self._signals = execution, name, signals
        self._further_bytes = further_bytes
        self._stack = ExitStack()
        self._scratch = Path()
        self._runs = False
        self.checked = checked
        """What the nodes of a cluster were found to be; the driver's own machine needs no look."""
        self._announced = False

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End Ray, if it runs."""
        self.end()

    def begin(self) -> Path:
        """Return the throw-away folder of a Ray that runs; start one if there is none.

        Raises:
            ClusterError: if that fails.
        """
        if self._runs and not tune.has_nodes():
            self.end()  # it died since the last launch
        if not self._runs:
            self._scratch = self._stack.enter_context(
                tune.started_ray(
                    self._execution.address,
                    num_cpus=num_cpus(),
                    num_gpus=num_gpus(),
                    signals=self._signals,
                    sweep=self._name,
                    dashboard=self._execution.dashboard,
                )
            )
            self._runs = True
        return self._scratch

    def end(self) -> None:
        """End Ray, if it runs; `begin` starts another."""
        self._runs = False
        self._stack.close()

    def look(
        self,
        specs: Sequence[RunSpec],
        store: Store,
        runtime: Runtime,
        resources: Resources,
        display: Display,
    ) -> None:
        """Look at every node of a cluster and say where the dashboard is, once a session.

        Raises:
            ClusterError: if there is no dashboard though one is asked for.
            PreflightError: if a node lacks what the runs need.
        """
        if self._execution.address is not None and self.checked is None:
            self.checked = check_cluster(
                specs, store.address, runtime, self._execution.local_data,
                cpus=resources.cpus, gpus=resources.gpus, further_bytes=self._further_bytes,
            )  # fmt: skip
        if self._announced:
            return
        if self.checked is not None:
            display.say(nodes_sentence(len(self.checked.node_ids)))
        if self._execution.dashboard:
            display.say(dashboard_sentence(tune.dashboard_address()))
        self._announced = True


def dashboard_sentence(address: str | None) -> str:
    """Return what is said of the dashboard once Ray runs.

    Raises:
        ClusterError: if there is none.
    """
    if address is None:
        raise ClusterError(
            "Expected Ray's dashboard, got none: it needs what `pip install 'ray[default]'` "
            "installs. Install that, or leave --dashboard out."
        )
    return f"Ray's dashboard: {address}; `ray get-auth-token` prints the token that it asks for."
