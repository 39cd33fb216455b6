"""Nodes that join a cluster after it was looked at: a worker looks before its first run there.

A run that comes to a node which lacks what it needs is put back. Its worker keeps its place there,
so that no other run comes, for as long as runs go elsewhere; later rounds leave the node out.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sweeps.launch.cluster import node_name
from sweeps.preflight import Checked, PreflightError, check_newcomer

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
