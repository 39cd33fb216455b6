"""A Ray cluster: the code that travels to its nodes, and what is asked of them before a start."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl.spec import RunSpec, Runtime
from mtl.store.code_version import CODE_VERSION_VARIABLE, code_version
from sweeps.launch.preflight import (
    PACKAGES,
    Checked,
    Needs,
    NodeReport,
    PreflightError,
    check_newcomer,
    check_nodes,
    check_shared,
    look_around,
    remove_probes,
    seen_probes,
)
from sweeps.plan.cost import stored_bytes
from sweeps.text import counted

SECONDS_TO_ANSWER = 300.0
"""A node may first have to unpack the code and start a process."""
LEFT_AT_HOME = shutil.ignore_patterns("__pycache__", "*.pyc")
"""What does not travel."""


def travelling_code(scratch: Path) -> dict[str, Any]:
    """Return the runtime environment by which the project's packages travel to the workers.

    The packages are gathered in a folder of their own, so that it does not matter whether they
    lie in a checkout or among installed packages, that nothing else goes with them (results, data,
    a virtual environment), and that an edit does not reach a sweep under way. A job that was
    submitted with a working folder brings the code in it.

    Args:
        scratch: throw-away folder.
    """
    # Where the code arrives there is no git to ask.
    environment = {CODE_VERSION_VARIABLE: code_version()}
    submitted = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR) or "{}")
    if (submitted.get("runtime_env") or {}).get("working_dir"):
        return {"env_vars": environment}
    for package in PACKAGES:
        shutil.copytree(
            package.__path__[0], scratch / "code" / package.__name__, ignore=LEFT_AT_HOME
        )
    return {"working_dir": str(scratch / "code"), "env_vars": environment}


def worker_nodes(cpus: float, gpus: float) -> dict[str, str]:
    """Return Ray's node id -> a name for people, of the nodes that can take a run now."""
    return {
        node["NodeID"]: node_name(node)
        for node in ray.nodes()
        if node["Alive"]
        and node["Resources"].get("CPU", 0.0) >= cpus
        and node["Resources"].get("GPU", 0.0) >= gpus
    }


def node_name(node: dict[str, Any]) -> str:
    """Return what people call one of `ray.nodes()`."""
    return (
        f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
    )


def check_cluster(
    specs: Sequence[RunSpec],
    store: str,
    runtime: Runtime,
    local_data: str | None,
    *,
    cpus: float,
    gpus: float,
    further_bytes: int = 0,
) -> Checked:
    """Look at every node that can take a run; return what was found.

    Args:
        specs: the runs to train.
        store: where results go.
        runtime: how they are executed.
        local_data: folder on each node's own disk for a copy of the data, or None.
        cpus: of a run.
        gpus: of a run.
        further_bytes: that the store will grow by beyond these runs.

    Raises:
        PreflightError: if a node lacks what the runs need, in a sentence that names it.
    """
    needs = Needs(
        token=uuid.uuid4().hex[:12],
        store=store,
        store_bytes=sum(stored_bytes(spec, runtime) for spec in specs) + further_bytes,
        data=tuple(dict.fromkeys(spec.data for spec in specs)),
        data_root=runtime.data_root,
        local_data=local_data,
        weights_file=runtime.encoder_weights_file,
    )
    here = f"the driver's machine ({os.uname().nodename})"
    nodes = worker_nodes(cpus, gpus)
    names = (here, *nodes.values())
    try:
        driver = look_around(needs, here)
        reports: list[NodeReport] = _on_each_node(look_around, needs, nodes)
        check_nodes(needs, driver, reports)
        seen = _on_each_node(_seen_by, (needs, names), nodes)
        check_shared(needs, dict(zip(names, (seen_probes(needs, names), *seen), strict=True)))
    finally:
        remove_probes(needs, names)
    return Checked(needs=needs, driver=driver, example=reports[0], node_ids=frozenset(nodes))


def _seen_by(question: tuple[Needs, tuple[str, ...]], _node: str) -> set[str]:
    return seen_probes(*question)


def _on_each_node(function: Any, question: Any, nodes: dict[str, str]) -> list[Any]:
    """Return `function(question, name)` from every node, side by side, in the order of `nodes`."""
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        ).remote(question, name): name
        for node_id, name in nodes.items()
    }
    answers = []
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    for reference, name in asked.items():
        try:
            answers.append(ray.get(reference, timeout=0 if reference in ready else 0.1))
        except GetTimeoutError as error:
            raise PreflightError(
                f"Expected an answer of every node within {SECONDS_TO_ANSWER:.0f} s, got none of "
                f"{name}. Look at it, or take it out of the cluster."
            ) from error
        except RayError as error:
            raise PreflightError(
                f"Expected {name} to import the project's code, got: {_last_line(error)}. Install "
                "the versions of constraints.txt on every node."
            ) from error
    return answers


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:300]


def nodes_sentence(num_nodes: int) -> str:
    """Return what is said once every node has answered."""
    return f"Checked {counted(num_nodes, 'node')}: store, data, disk and versions."


NODE_LABEL = "ray.io/node-id"
"""Label that Ray gives every node."""
SECONDS_BETWEEN_REPORTS = 2.0
"""Of a worker that keeps a place on an unfit node."""


def why_unfit(checked: Checked, written: str) -> str | None:
    """Return why runs cannot be trained on the node that this runs on, None if they can.

    A node that is fit is looked at once: a mark in Ray's own folder, which goes with Ray, says so.

    Args:
        checked: what the nodes of the start were found to be.
        written: key of a file that the driver has written to the store.
    """
    node_id = ray.get_runtime_context().get_node_id()
    if node_id in checked.node_ids:
        return None
    ray_node: Any = ray._private.worker._global_node
    mark = Path(ray_node.get_session_dir_path()) / f"fit-{checked.needs.token}-{node_id}"
    if mark.exists():
        return None
    names = [node_name(node) for node in ray.nodes() if node["NodeID"] == node_id]
    try:
        check_newcomer(checked, names[0] if names else f"node {node_id[:8]}", written)
    except PreflightError as error:
        return str(error)
    mark.touch()
    return None


def keep_place(reason: str) -> None:
    """Report that this node is unfit, again and again, until Tune ends this process."""
    node_id = ray.get_runtime_context().get_node_id()
    while True:
        tune.report({"unfit": reason, "node_id": node_id})
        time.sleep(SECONDS_BETWEEN_REPORTS)


def placement(
    asked: dict[str, float], not_on: Collection[str]
) -> dict[str, float] | tune.PlacementGroupFactory:
    """Return what Tune is to ask of Ray for a run: `asked`, on none of some nodes.

    Args:
        asked: `cpu`, `gpu` and perhaps `memory` (bytes).
        not_on: ids of nodes.
    """
    if not not_on:
        return asked
    bundle = {{"cpu": "CPU", "gpu": "GPU"}.get(name, name): n for name, n in asked.items()}
    labels = {NODE_LABEL: f"!in({','.join(sorted(not_on))})"}
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=[labels])


def check_some_fit(nodes: Collection[str], unfit: Mapping[str, str]) -> None:
    """Raise a `PreflightError` if all nodes are known to be unfit.

    Args:
        nodes: ids of those that can take a run.
        unfit: id -> why.
    """
    if nodes and unfit.keys() >= set(nodes):
        raise PreflightError(next(iter(unfit.values())))
