"""The cluster that a sweep is asked to run on, looked at before anything is written."""

from sweeps.cli import Command
from sweeps.journal import revisions
from sweeps.plan import Plan
from sweeps.preflight import Checked, PreflightError
from sweeps.stores import existing_store


def look_before_start(command: Command, plan: Plan) -> Checked | None:
    """Return what the nodes of the cluster are found to be; None without one, or runs for it.

    Before anything is written: where nobody answers, there is no store and no sweep afterwards.

    Raises:
        PreflightError: if the cluster cannot be joined, or a node lacks what the runs need.
    """
    if command.execution.address is None:
        return None
    store = existing_store(command.store)
    if store is not None:
        revisions(store, plan.name, plan.kind)
    done = set() if store is None else store.done(plan.run_ids)
    runs = dict(zip(plan.run_ids, plan.specs, strict=True))
    specs = [spec for run_id, spec in runs.items() if run_id not in done]
    if not specs:
        return None
    # Only here: Ray takes a second to import.
    from sweeps.launch.driver import look_at_cluster
    from sweeps.launch.executor import ClusterError
    from sweeps.launch.stopping import StopRequested

    try:
        return look_at_cluster(specs, command.store, command.execution, command.runtime)
    except ClusterError as error:
        raise PreflightError(str(error)) from error
    except StopRequested as error:
        raise KeyboardInterrupt from error
