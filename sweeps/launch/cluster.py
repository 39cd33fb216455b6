"""The nodes of Ray: their room for runs, the code that travels to them, and what they are asked."""

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl.errors import PreflightError
from mtl.spec import RunSpec, Runtime, Spec
from mtl.spec.code import code_path
from mtl.store.code_version import CODE_VERSION_VARIABLE, code_version
from sweeps.launch import Execution
from sweeps.launch.preflight import PACKAGES, Needs, Versions, check_alike, look, versions
from sweeps.launch.ray_private import submitted_runtime_env
from sweeps.plan.cost import StepKey, step_key
from sweeps.plan.packs import Pack, fastest, rates_text
from sweeps.text import size

if TYPE_CHECKING:
    from ray import tune

    from sweeps.status.display import Display

SECONDS_TO_ANSWER = 300.0
"""A node may first have to unpack the code and start a process."""
SECONDS_TO_MEASURE = 600.0
"""How fast packs train; a process must start and networks be built for it."""
LEFT_AT_HOME = shutil.ignore_patterns("__pycache__", "*.pyc")
"""What does not travel."""
NODE_LABEL = "ray.io/node-id"
"""Label that Ray gives every node."""


@dataclass(frozen=True)
class Resources:
    """Of one trial, and how many trials go side by side."""

    cpus: float
    gpus: float
    slots: int
    memory_bytes: int = 0
    """What Ray sets aside for a trial when it chooses a node; 0 where nothing is known."""
    is_bounded: bool = False
    """Whether no more than `slots` may go side by side though there is room, now or on a node that
    joins later; otherwise the resources of the nodes are the bound."""
    not_on: frozenset[str] = frozenset()
    """Ids of nodes that no run may be given to."""
    packs: Mapping[StepKey, int] = field(default_factory=dict)
    """Step key -> runs that a trial trains together at most; 1 for those that are left out."""
    ranks: int = 1
    """Processes that train a run together, with a GPU each, on one node."""

    def of_a_run(self) -> "dict[str, float] | tune.PlacementGroupFactory":
        """Return what Tune is to ask of Ray for a trial."""
        asked = {"cpu": self.cpus, "gpu": self.gpus}
        asked |= {"memory": float(self.memory_bytes)} if self.memory_bytes else {}
        if not self.not_on and self.ranks == 1:
            return asked
        from ray import tune  # only here: it takes a second, in which Ray itself can start

        names = {"cpu": "CPU", "gpu": "GPU"}
        bundle = {names.get(name, name): number / self.ranks for name, number in asked.items()}
        labels = {NODE_LABEL: f"!in({','.join(sorted(self.not_on))})"}
        options = {"bundle_label_selector": [labels] * self.ranks} if self.not_on else {}
        # The trial itself takes nothing where it only starts others.
        own: list[dict[str, float]] = [{}] if self.ranks > 1 else []
        return tune.PlacementGroupFactory(
            [*own, *[bundle] * self.ranks], strategy="STRICT_PACK", **options
        )


def alive_nodes() -> list[dict[str, Any]]:
    """Return those of `ray.nodes()` that live."""
    return [node for node in ray.nodes() if node["Alive"]]


def has_nodes() -> bool:
    """Return whether the Ray that was started, or joined, still has a node that lives."""
    try:
        return bool(alive_nodes())
    except (RuntimeError, ConnectionError, RayError):  # nobody answers
        return False


def worker_nodes(cpus: float, gpus: float) -> dict[str, str]:
    """Return Ray's node id -> a name for people, of the nodes that can take a run now."""
    return {
        node["NodeID"]: (
            f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, "
            f"{node['NodeID'][:8]})"
        )
        for node in alive_nodes()
        if node["Resources"].get("CPU", 0.0) >= cpus and node["Resources"].get("GPU", 0.0) >= gpus
    }


def resources_of(
    execution: Execution, memory_bytes: int, *, train_networks: bool = True
) -> Resources:
    """Return what a run gets, after a look at the nodes that Ray has.

    Args:
        execution: what the user asks for.
        memory_bytes: that a run is known to need; 0 where nothing is known.
        train_networks: False for a function of one's own, which has all GPUs of a run in its
            process.

    Raises:
        PreflightError: if no node can run even one.
    """
    nodes = [node["Resources"] for node in alive_nodes()]

    def largest(name: str) -> float:
        return max((node.get(name, 0.0) for node in nodes), default=0.0)

    gpus = execution.gpus_per_run
    if gpus is None:
        gpus = 1.0 if largest("GPU") >= 1 else 0.0
    for name, wanted, flag in (
        ("CPU", execution.cpus_per_run, "--cpus-per-run"),
        ("GPU", gpus, "--gpus-per-run"),
    ):
        if wanted > largest(name):
            raise PreflightError(
                f"Expected {flag} of at most {largest(name):g}, the most {name}s that one node "
                f"has, got {wanted:g}."
            )
    if memory_bytes > largest("memory"):
        raise PreflightError(
            f"Expected a node with {size(memory_bytes)} of memory, which earlier runs of this "
            f"kind took, got at most {size(largest('memory'))}. Add a larger node."
        )
    asked = {"CPU": execution.cpus_per_run, "GPU": gpus, "memory": memory_bytes}
    slots = sum(
        min(int(node.get(name, 0.0) / wanted) for name, wanted in asked.items() if wanted > 0)
        for node in nodes
    )
    slots = max(1, min(slots, execution.concurrency or slots))
    is_bounded = execution.concurrency is not None
    ranks = execution.num_ranks if train_networks else 1
    return Resources(execution.cpus_per_run, gpus, slots, memory_bytes, is_bounded, ranks=ranks)


def pack_sizes(
    pack: Pack,
    specs: Sequence[Spec],
    runtime: Runtime,
    resources: Resources,
    known: dict[StepKey, int],
    display: "Display",
) -> dict[StepKey, int]:
    """Return step key -> runs of that kind that train together in a trial at most.

    `auto` measures it on a GPU for each kind, where there are more runs than places for them.

    Args:
        pack: what the user asks for.
        specs: the runs that are to be trained.
        runtime: how.
        resources: of a trial.
        known: what was measured before; what is measured now comes to it.
        display: is told what was measured.
    """
    kinds: dict[StepKey, RunSpec] = {}
    for spec in specs:
        if isinstance(spec, RunSpec):
            kinds.setdefault(step_key(spec), spec)
    if isinstance(pack, int):
        return dict.fromkeys(kinds, pack)
    if resources.gpus == 0 or len(specs) <= resources.slots:
        return {}
    for key, spec in kinds.items():
        if key not in known:
            known[key] = _measured_pack(spec, runtime, resources, display)
    return {key: known[key] for key in kinds}


def _measured_pack(
    spec: RunSpec, runtime: Runtime, resources: Resources, display: "Display"
) -> int:
    """Return how many runs of a kind train fastest together on a node's GPU; 1 if that fails."""
    from sweeps.launch.worker import pack_rates  # only here: it imports Tune

    remote = ray.remote(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_calls=1, max_retries=0
    )(pack_rates)
    kind = f"{spec.network.architecture}, {spec.network.encoder}, {' '.join(spec.tasks)}"
    asked = remote.remote(spec, runtime.data_root, runtime.cuda_graphs)
    try:
        rates = ray.get(asked, timeout=SECONDS_TO_MEASURE)
    except RayError as error:
        if isinstance(error, GetTimeoutError):
            ray.cancel(asked, force=True)  # it would keep the GPU
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        display.say(f"Runs are not packed ({kind}): measuring failed: {reason}")
        return 1
    display.say(f"{kind}: {rates_text(rates)}")
    return fastest(rates)


def travelling_code(scratch: Path, modules: Collection[str] = ()) -> dict[str, Any]:
    """Return the runtime environment by which the code travels to the workers.

    The packages of the project, and the modules from outside, are gathered in a folder of their
    own, so that it does not matter whether they lie in a checkout or among installed packages, that
    nothing else goes with them (results, data, a virtual environment), and that an edit does not
    reach a sweep that is running. A job that was submitted with a working folder brings the code in
    it.

    Args:
        scratch: throw-away folder.
        modules: top-level ones from outside.
    """
    # Where the code arrives there is no git to ask.
    environment = {CODE_VERSION_VARIABLE: code_version()}
    if submitted_runtime_env().get("working_dir"):
        return {"env_vars": environment}
    paths = [Path(package.__path__[0]) for package in PACKAGES] + [code_path(m) for m in modules]
    for path in dict.fromkeys(paths):
        there = scratch / "code" / path.name
        if path.is_dir():
            shutil.copytree(path, there, ignore=LEFT_AT_HOME)
        else:
            shutil.copy(path, there)
    return {"working_dir": str(scratch / "code"), "env_vars": environment}


def preflight_nodes(needs: Needs, nodes: Mapping[str, str]) -> Versions:
    """Look at every node that can take a run; return the versions that all of them have.

    Args:
        needs: of the runs.
        nodes: Ray's id -> name, of at least one node.

    Raises:
        PreflightError: if a node lacks what the runs need, in a sentence that names it.
    """
    found: dict[str, Versions] = {f"the driver's machine ({os.uname().nodename})": versions()}
    for name, (held, problem) in _ask(needs, nodes).items():
        found[name] = held
        if problem is not None:
            raise PreflightError(f"On {name}: {problem}")
    check_alike(found)
    return held


def _ask(needs: Needs, nodes: Mapping[str, str]) -> dict[str, tuple[Versions, str | None]]:
    """Return node's name -> what it answers to `look`; all are asked side by side."""
    remote = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        ).remote(needs): name
        for node_id, name in nodes.items()
    }
    answers = {}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    for reference, name in asked.items():
        try:
            answers[name] = ray.get(reference, timeout=0 if reference in ready else 0.1)
        except GetTimeoutError as error:
            raise PreflightError(
                f"Expected an answer of every node within {SECONDS_TO_ANSWER:.0f} s, got none of "
                f"{name}. Look at it, or take it out of the cluster."
            ) from error
        except RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise PreflightError(
                f"Expected {name} to import the project's code, got: "
                f"{(lines[-1] if lines else type(error).__name__).rstrip('.')[:300]}. Install the "
                "versions of constraints.txt on every node."
            ) from error
    return answers


def check_some_compatible(nodes: Collection[str], incompatible: Mapping[str, str]) -> None:
    """Raise a `PreflightError` if runs can be trained on none of the nodes.

    Args:
        nodes: ids of those that can take a run.
        incompatible: id -> why.
    """
    if nodes and incompatible.keys() >= set(nodes):
        raise PreflightError(next(iter(incompatible.values())))
