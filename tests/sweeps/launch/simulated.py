"""A cluster in virtual time: a whole launch with no process behind it.

The code that is tried is the real one: plan, rounds, tracker, journal, display, store, and of Ray
Tune its controller with trials, queue and retries. What Ray itself would do (nodes, actors and
their tasks) is simulated here by one queue of events; time jumps from each to the next.
"""

# ruff: noqa: ARG002 - Tune gives an actor manager more than this one needs
import contextlib
import heapq
import itertools
import json
import random
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.exceptions import RayActorError, RayTaskError
from ray.train._internal import storage as ray_storage
from ray.tune.execution import tune_controller

from mtl.store import Store
from sweeps.launch import cluster, driver, session
from sweeps.launch.cluster import NODE_LABEL

START_SECONDS = 5.0
"""From an actor's place on a node to its first instruction: a process, torch."""
AWAY_SECONDS = 600.0
"""For which a node that was lost stays away; it comes back under another id."""
OUT_OF_MEMORY = "Caught unexpected exception: the memory monitor killed a worker"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; shares are of the runs, and chosen by their ids."""

    crash_once: float = 0.0
    """Their process dies once."""
    crash_always: float = 0.0
    """Their process dies in their second epoch, every time."""
    fail: float = 0.0
    """Their training ends with an error that a second try would repeat."""
    lost: float = 0.0
    """Trials, as a share of the runs, that are lost with their node: a spot machine."""
    busy: int = 0
    """Runs, the first ones, that another driver trains; it finishes every second one of them and
    leaves the others."""
    late_nodes: int = 0
    """They join one by one while the first runs train."""
    incompatible_nodes: int = 0
    """Of the late ones."""
    crashed_rounds: int = 0
    """Rounds that Ray's memory monitor takes down."""


@dataclass
class Node:
    """A machine of the cluster."""

    node_id: str
    is_compatible: bool
    actors: "set[_Actor]" = field(default_factory=set)


@dataclass(eq=False)
class _Actor:
    tracked: TrackedActor
    run_id: str
    manager: "Actors"
    node: Node | None = None
    has_started: bool = False
    task: tuple[Callable[..., None], Callable[..., None]] | None = None
    """What is called with the result, or the error, of the report that is waited for."""
    last_report: str | None = None


class _Remote:
    """What Tune holds of an actor; it asks it for nothing that matters."""

    def remote(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class SimulatedCluster:
    """Nodes and what runs on them, in virtual time.

    Args:
        store: where the workers' results go, past the requests that are counted.
        run_ids: of the plan, in order.
        finish: writes what a run that is done leaves in its folder.
        num_nodes: the late ones included.
        runs_per_node: side by side.
        epochs: of a run.
        epoch_seconds: on average; a run's own are up to a fifth more or less.
        faults: what goes wrong.
    """

    def __init__(
        self,
        store: Store,
        run_ids: Sequence[str],
        finish: Callable[[str], None],
        *,
        num_nodes: int,
        runs_per_node: int,
        epochs: int,
        epoch_seconds: float,
        faults: Faults,
    ) -> None:
        self.store, self._finish = store, finish
        self.runs_per_node, self.epochs, self.epoch_seconds = runs_per_node, epochs, epoch_seconds
        self.faults, self._random = faults, random.Random(0)
        self.now = 0.0
        self.num_events = 0
        self.training: set[TrackedActor] = set()
        self.max_training = 0
        """Runs that were side by side."""
        self.nodes: dict[str, Node] = {}
        self.free: dict[str, Node] = {}
        """Those with room for a run."""
        self.trained: Counter[str] = Counter()
        """Run id -> how often its training came to its end."""
        self._epochs_of: Counter[str] = Counter()
        self._has_crashed: set[str] = set()
        self._events: list[tuple[float, int, Callable[[], bool]]] = []
        self._order, self._node_ids = itertools.count(), itertools.count(1)
        self._crashes_left = faults.crashed_rounds
        self._elsewhere = contextlib.ExitStack()
        self._busy: dict[str, contextlib.ExitStack] = {}
        self._begin(run_ids, num_nodes)

    def _begin(self, run_ids: Sequence[str], num_nodes: int) -> None:
        faults, run_seconds = self.faults, self.epochs * self.epoch_seconds
        for _ in range(num_nodes - faults.late_nodes):
            self._join(is_compatible=True)
        for number in range(faults.late_nodes):
            is_compatible = number >= faults.incompatible_nodes
            self.at(
                run_seconds * (number + 1) / faults.late_nodes,
                lambda is_compatible=is_compatible: self._join(is_compatible),
            )
        rounds_of_runs = len(run_ids) / (num_nodes * self.runs_per_node)
        length = run_seconds * rounds_of_runs
        for _ in range(round(faults.lost * len(run_ids) / self.runs_per_node)):
            self.at(self._random.uniform(0.0, length), self._lose_a_node)
        for number, run_id in enumerate(run_ids[: faults.busy]):
            held = self._busy[run_id] = contextlib.ExitStack()
            held.enter_context(self.store.run_lock(run_id))
            self.at(
                length * (1.1 + 0.1 * number / faults.busy),
                lambda run_id=run_id, ends=number % 2 == 0: self._let_go(run_id, ends),
            )

    # Time.

    def clock(self) -> float:
        """Return the virtual time, seconds."""
        return self.now

    def at(self, when: float, event: Callable[[], Any]) -> None:
        """Let something happen; an event returns True if it called Tune."""
        heapq.heappush(self._events, (when, next(self._order), event))

    def sleep(self, seconds: float) -> None:
        """Let time pass while no round trains, as `time.sleep` does."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self._step()
        self.now = end

    def _step(self) -> bool:
        when, _, event = heapq.heappop(self._events)
        self.now = max(self.now, when)
        self.num_events += 1
        return bool(event())

    # Nodes.

    def alive_nodes(self) -> list[dict[str, Any]]:
        """Return the nodes as `ray.nodes()` does."""
        return [
            {
                "NodeID": node_id,
                "NodeManagerHostname": node_id,
                "NodeManagerAddress": "10.0.0.1",
                "Alive": True,
                "Resources": {"CPU": float(self.runs_per_node), "memory": 64e9},
            }
            for node_id in self.nodes
        ]

    def resources(self) -> dict[str, float]:
        """Return the resources of all nodes as `ray.cluster_resources()` does."""
        return {"CPU": float(len(self.nodes) * self.runs_per_node)}

    def _join(self, is_compatible: bool) -> None:
        node_id = f"{next(self._node_ids):056x}"
        self.nodes[node_id] = self.free[node_id] = Node(node_id, is_compatible)

    def _lose_a_node(self) -> None:
        node = self._random.choice([n for n in self.nodes.values() if n.is_compatible])
        del self.nodes[node.node_id]
        self.free.pop(node.node_id, None)
        for actor in list(node.actors):
            self.at(self.now, lambda actor=actor: actor.manager.lose(actor))
        self.at(self.now + AWAY_SECONDS, lambda: self._join(is_compatible=True))

    def _let_go(self, run_id: str, ends: bool) -> None:
        """End the other driver's training of a run."""
        if ends:
            self._end_well(run_id)
        self._busy.pop(run_id).close()

    # Runs, as the workers would train them.

    def _share(self, run_id: str) -> float:
        return int(run_id[:8], 16) / 2**32

    def _end_well(self, run_id: str) -> None:
        self.trained[run_id] += 1
        self._finish(run_id)

    def seconds_of_an_epoch(self, run_id: str) -> float:
        """Return how long an epoch of a run takes."""
        return self.epoch_seconds * (0.8 + 0.4 * (int(run_id[8:], 16) / 2**32))

    def report(self, actor: _Actor) -> tuple[float, dict[str, Any] | Exception]:
        """Return after how long a run's process says something, and what; an error if it ends."""
        run_id, faults, assert_node = actor.run_id, self.faults, actor.node
        assert assert_node is not None
        if actor.last_report == "state":
            return 0.0, {"__duplicate__": True, "done": True}
        if not assert_node.is_compatible:
            why = f"On node {assert_node.node_id[:8]}: Expected the prepared data, got none."
            actor.last_report = "state"
            return 0.0, {"incompatible": why, "node_id": assert_node.node_id}
        if run_id in self._busy:
            actor.last_report = "state"
            return 0.0, {"state": "busy"}
        share, epoch, seconds = self._share(run_id), self._epochs_of[run_id], 0.0
        if epoch < self.epochs:
            seconds = self.seconds_of_an_epoch(run_id)
        bounds = list(itertools.accumulate((faults.crash_always, faults.fail, faults.crash_once)))
        if share < bounds[0] and epoch == 1:
            return seconds, RayActorError()
        if bounds[0] <= share < bounds[1] and epoch == 1:
            actor.last_report = "state"
            text = "Traceback\nmtl.errors.RunFailedError: loss is not finite\n"
            (self.store.run_folder(run_id) / "error.txt").write_text(text)
            return seconds, {"state": "failed", "seconds": seconds}
        if bounds[1] <= share < bounds[2] and epoch == 1 and run_id not in self._has_crashed:
            self._has_crashed.add(run_id)
            return seconds, RayTaskError("train", "Traceback\nRuntimeError: CUDA error\n", None)
        trained = epoch * self.seconds_of_an_epoch(run_id)
        if epoch == self.epochs:
            actor.last_report = "state"
            return 0.0, {"state": "done", "seconds": trained, "test/depth/delta1": 0.9}
        losses = [0.5, 1.5]
        return seconds, {"epoch": epoch + 1, "losses": losses, "seconds": trained + seconds}

    def note(self, run_id: str, report: dict[str, Any]) -> None:
        """Do what the worker did before it reported."""
        if "epoch" in report:
            self._epochs_of[run_id] = report["epoch"]
        elif report.get("state") == "done":
            self._end_well(run_id)

    def crash_if_due(self, actors: "Actors") -> None:
        """Take a round down, as the memory monitor does, once half of its slots are running."""
        ready = actors.num_live_actors > len(self.nodes) * self.runs_per_node / 2
        if self._crashes_left and ready and len(self.trained) > self._crashes_left:
            self._crashes_left -= 1
            raise RuntimeError(OUT_OF_MEMORY)


class Actors:
    """In place of Tune's manager of actors: those of a round, on the nodes of the cluster."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._pending: OrderedDict[Any, OrderedDict[TrackedActor, _Actor]] = OrderedDict()
        self._live: dict[TrackedActor, _Actor] = {}
        self._failed: set[TrackedActor] = set()
        self._ids = itertools.count(1)
        self._is_over = False
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[Any, None]] = {}

    @property
    def num_live_actors(self) -> int:
        return len(self._live)

    @property
    def num_pending_actors(self) -> int:
        return sum(map(len, self._pending.values()))

    @property
    def num_actor_tasks(self) -> int:
        return self.num_live_actors

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + self.num_pending_actors

    def add_actor(
        self, cls: Any, resource_request: Any, kwargs: dict[str, Any], **callbacks: Any
    ) -> TrackedActor:
        tracked = TrackedActor(next(self._ids), **callbacks)
        actor = _Actor(tracked, kwargs["config"]["run_id"], self)
        self._pending.setdefault(resource_request, OrderedDict())[tracked] = actor
        return tracked

    def next(self, timeout: float | None = None) -> bool:
        """Let time pass until Tune was told something."""
        self._cluster.crash_if_due(self)
        self._place()
        while self._cluster._events and self.num_total_actors:
            if self._cluster._step():
                return True
            self._place()  # a node may have joined
        return False

    def _place(self) -> None:
        for request, actors in self._pending.items():
            if not actors:
                continue
            selector = (request._bound.arguments.get("bundle_label_selector") or [{}])[0]
            left_out = selector.get(NODE_LABEL, "").removeprefix("!in(").removesuffix(")")
            excluded = set(left_out.split(","))
            for node in list(self._cluster.free.values()):
                if node.node_id in excluded:
                    continue
                while actors and len(node.actors) < self._cluster.runs_per_node:
                    tracked, actor = actors.popitem(last=False)
                    self._start(tracked, actor, node)
                if not actors:
                    break

    def _start(self, tracked: TrackedActor, actor: _Actor, node: Node) -> None:
        actor.node = node
        node.actors.add(actor)
        if len(node.actors) == self._cluster.runs_per_node:
            del self._cluster.free[node.node_id]
        self._live[tracked] = actor
        handle = SimpleNamespace(get_auto_filled_metrics=_Remote())
        self._live_actors_to_ray_actors_resources[tracked] = (handle, None)

        def started() -> bool:
            if self._live.get(tracked) is not actor or tracked._on_start is None:
                return False
            actor.has_started = True
            training = self._cluster.training
            training.add(tracked)
            self._cluster.max_training = max(self._cluster.max_training, len(training))
            tracked._on_start(tracked)
            return True

        self._cluster.at(self._cluster.now + START_SECONDS, started)

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: Any = (),
        kwargs: Any = None,
        on_result: Callable[..., None] | None = None,
        on_error: Callable[..., None] | None = None,
        _return_future: bool = False,
    ) -> None:
        actor = self._live.get(tracked_actor)
        if actor is None or method_name != "train":
            return  # a process that stops does so in its own time
        assert on_result is not None
        assert on_error is not None
        task = actor.task = (on_result, on_error)
        after, report = self._cluster.report(actor)

        def reported() -> bool:
            if actor.task is not task:
                return False
            actor.task = None
            if isinstance(report, RayActorError):
                actor.task = task
                return self.lose(actor)
            if isinstance(report, Exception):
                on_error(tracked_actor, report)
                return True
            self._cluster.note(actor.run_id, report)
            on_result(tracked_actor, {"run_id": actor.run_id, **report})
            return True

        self._cluster.at(self._cluster.now + after, reported)

    def lose(self, actor: _Actor) -> bool:
        """Let an actor's process be gone."""
        tracked, task = actor.tracked, actor.task
        if self._live.get(tracked) is not actor:
            return False
        error = RayActorError()
        self._failed.add(tracked)
        self._leave(tracked)
        if tracked._on_error:
            tracked._on_error(tracked, error)
        if task is not None:
            task[1](tracked, error)
        return True

    def _leave(self, tracked: TrackedActor) -> None:
        actor = self._live.pop(tracked)
        self._cluster.training.discard(tracked)
        self._live_actors_to_ray_actors_resources.pop(tracked)
        actor.task = None
        assert actor.node is not None
        actor.node.actors.discard(actor)
        if actor.node.node_id in self._cluster.nodes:
            self._cluster.free[actor.node.node_id] = actor.node

    def remove_actor(
        self, tracked_actor: TrackedActor, kill: bool = False, stop_future: Any = None
    ) -> bool:
        if tracked_actor in self._failed:
            return False
        actor = self._live.get(tracked_actor)
        if actor is None:
            for actors in self._pending.values():
                actors.pop(tracked_actor, None)
            return False
        actor.task = None
        self._cluster.training.discard(tracked_actor)
        if not actor.has_started:  # nobody hears of it any more
            tracked_actor._on_start = tracked_actor._on_stop = tracked_actor._on_error = None

        def stopped() -> bool:
            if self._live.get(tracked_actor) is not actor:
                return False
            self._leave(tracked_actor)
            if tracked_actor._on_stop:
                tracked_actor._on_stop(tracked_actor)
            return True

        self._cluster.at(self._cluster.now, stopped)
        return True

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        if tracked_actor in self._live:
            self._live[tracked_actor].task = None

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._live

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._failed

    def cleanup(self) -> None:
        for tracked in list(self._live):
            self._leave(tracked)
        self._pending.clear()


@contextlib.contextmanager
def simulated(simulation: SimulatedCluster) -> Iterator[None]:
    """Let launches within use the cluster in place of Ray."""

    @contextlib.contextmanager
    def started_ray(*_: object) -> Iterator[tuple[Path, None]]:
        with (
            tempfile.TemporaryDirectory() as scratch,
            mock.patch.object(ray_storage, "_get_ray_train_session_dir", partial(str, scratch)),
        ):
            yield Path(scratch), None

    def actors(resource_manager: object) -> Actors:
        return Actors(simulation)

    # Plain functions: a mock would keep every call of a sweep.
    with (
        mock.patch.dict("os.environ", {"TUNE_DISABLE_AUTO_INIT": "1"}),
        mock.patch.object(tune_controller, "RayActorManager", actors),
        mock.patch.object(ray, "cluster_resources", simulation.resources),
        mock.patch.object(cluster, "alive_nodes", simulation.alive_nodes),
        mock.patch.object(session, "has_nodes", partial(bool, True)),
        mock.patch.object(session, "started_ray", started_ray),
        mock.patch.object(session, "preflight_nodes", return_value={}),
        mock.patch.object(driver, "time", SimpleNamespace(sleep=simulation.sleep)),
    ):
        yield


def account(store: Store, name: str) -> dict[str, Counter[str]]:
    """Return run id -> how often the journal says what of it."""
    said: dict[str, Counter[str]] = {}
    for line in store.read_log(store.sweep_key(name, "events.jsonl")).splitlines():
        event = json.loads(line)
        for run_id in (event.get("run_id"), *event.get("running", ())):
            if run_id is not None:
                said.setdefault(run_id, Counter())[event["event"]] += 1
    return said
