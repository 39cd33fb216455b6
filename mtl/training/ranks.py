"""The processes that train one run together: who trains what, and what they tell each other.

Each rank trains its share of every batch. The shares' losses are weighed so that values and
gradients are those of the whole batch: a run on several ranks is the run of one process, up to the
rounding of sums. The gradients are averaged in one all-reduce after `Weighting.backward`, and not
by `DistributedDataParallel`: that one hooks into `loss.backward()`, of which methods that combine
the tasks' gradients make no use.
"""

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl.data.batches import Batch, part_edges
from mtl.errors import RankLostError, UsageError
from mtl.spec import RunSpec, check_num_processes

PATIENCE = timedelta(days=1)
"""Of a rank for the others: the first may have to prepare data. A rank that died is noticed by its
closed connections, or by whoever started it."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Share:
    """What a rank trains of a part of a batch."""

    start: int
    """Place of its first image in the batch."""
    stop: int
    whole: int
    """Images of the part over all ranks. Fewer than there are ranks are trained by each of them."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train a run, and which of them this is; alone unless said otherwise."""

    rank: int = 0
    number: int = 1
    notes: Any = None
    """A store of `torch.distributed` where the first that fails leaves its error for the others;
    None where somebody else made the process group."""

    @property
    def is_first(self) -> bool:
        """Return whether this process writes to the store."""
        return self.rank == 0

    @property
    def are_several(self) -> bool:
        """Return whether there are other processes."""
        return self.number > 1

    # Batches.

    def shares(self, num_images: int, num_parts: int) -> list[Share]:
        """Return what this rank trains of each part of a batch."""
        shares = []
        for start, stop in itertools.pairwise(part_edges(num_images, num_parts)):
            whole = stop - start
            edges = [0, whole]
            if whole >= self.number:
                edges = part_edges(whole, self.number)[self.rank : self.rank + 2]
            shares.append(Share(start + edges[0], start + edges[1], whole))
        return shares

    def rows_in(self, num_parts: int) -> Callable[[int], np.ndarray] | None:
        """Return what gives the places in a batch of so many images that this rank trains.

        Returns:
            None for one that trains all of them.
        """
        if not self.are_several:
            return None

        def rows(num_images: int) -> np.ndarray:
            shares = self.shares(num_images, num_parts)
            return np.concatenate([np.arange(share.start, share.stop) for share in shares])

        return rows

    def parts(self, batch: Batch, num_parts: int) -> list[Batch]:
        """Return this rank's share of a batch in its parts, each of which knows its whole."""
        if not self.are_several:
            return batch.parts(num_parts)
        shares = self.shares(batch.num_whole, num_parts)
        edges = np.cumsum([0, *(share.stop - share.start for share in shares)]).tolist()
        return [
            batch.cut(start, stop, share.whole)
            for start, stop, share in zip(edges[:-1], edges[1:], shares, strict=True)
        ]

    # What is exchanged. Every rank must make every call.

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks; the tensor itself where there is one."""
        if not self.are_several:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their means over the ranks, in one all-reduce."""
        if not self.are_several:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.number
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def make_equal(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's tensors, in place."""
        if not self.are_several:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor.detach())
        for held in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in held])
            dist.broadcast(flat, src=0)
            for tensor, values in zip(held, flat.split([t.numel() for t in held]), strict=True):
                tensor.copy_(values.view_as(tensor))

    def gathered(self, value: Value) -> list[Value]:
        """Return each rank's value, which can be pickled."""
        if not self.are_several:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return values

    def from_first(self, function: Callable[[], Value]) -> Value:
        """Return or raise on all ranks what `function` does on the first, which alone calls it."""
        if not self.are_several:
            return function()
        held: list[Any] = [None, None]
        if self.is_first:
            try:
                held[0] = function()
            except Exception as error:
                dist.broadcast_object_list([None, _travelling(error)], src=0)
                raise
        dist.broadcast_object_list(held, src=0)
        if held[1] is not None:
            raise held[1] from OtherRankError()
        value: Value = held[0]
        return value

    def check(self, spec: RunSpec, run_id: str) -> None:
        """Refuse another run on some rank, and batches that so many cannot share.

        Raises:
            UsageError: on all ranks.
        """
        if not self.are_several:
            return
        others = sorted({*self.gathered(run_id)} - {run_id})
        if others:
            raise UsageError(
                f"Expected one run on all {self.number} processes, got {run_id} and {others[0]}. "
                "Start them with the same spec."
            )
        check_num_processes(spec, self.number)

    def to_manifest(self) -> dict[str, Any]:
        """Return what `execution` in a manifest says of several processes."""
        return {"processes": self.number, "backend": dist.get_backend()} if self.are_several else {}

    @contextlib.contextmanager
    def failing_together(self, run_id: str) -> Iterator[None]:
        """Let all ranks raise what the first of them to fail raises.

        The others meet its closed connections, of which nobody wants to read.

        Raises:
            RankLostError: if a rank is gone that has not said why.
        """
        try:
            yield
        except BaseException as error:
            if not self.are_several or is_of_another_rank(error):
                raise
            own = error
            if _is_of_connections(error):
                own = RankLostError(
                    f"Expected {self.number} processes until the run is trained, got one that is "
                    "gone. The same command continues."
                )
            rank, first = self._first_note(f"error/{run_id}", own)
            if rank != self.rank:
                raise first from OtherRankError()
            if own is not error:
                raise own from error
            raise

    def _first_note(self, key: str, error: BaseException) -> tuple[int, BaseException]:
        """Leave an error unless a rank has left one; return the first of them and whose it is."""
        own = (self.rank, _travelling(error))
        if self.notes is None:
            return own
        try:
            held = self.notes.compare_set(key, "", pickle.dumps(own).hex())
        except RuntimeError:  # whoever kept the notes is gone
            return own
        first: tuple[int, BaseException] = pickle.loads(bytes.fromhex(held.decode()))
        return first


ALONE = Ranks()


class OtherRankError(Exception):
    """Is the cause of an error that was raised on another rank."""


def is_of_another_rank(error: BaseException) -> bool:
    """Return whether an error was raised on another rank, which tells of it."""
    return isinstance(error.__cause__, OtherRankError)


def _is_of_connections(error: BaseException) -> bool:
    """Return whether an error says that another process cannot be reached."""
    is_of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return is_of_gloo or isinstance(error, dist.DistError)


def _travelling(error: BaseException) -> BaseException:
    """Return an error, or what says as much, that another process can unpickle."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


_notes: Any = None


def present_ranks() -> Ranks:
    """Return the ranks of the process group that this process is in; alone where it is in none."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Ranks(dist.get_rank(), dist.get_world_size(), _notes)


@contextlib.contextmanager
def joined(store: Any, rank: int, number: int, device: torch.device) -> Iterator[Ranks]:
    """Be one of several processes that train runs together, by NCCL on GPUs and gloo on CPUs.

    Args:
        store: of `torch.distributed`, where the processes meet.
        rank: of this process.
        number: of processes.
        device: that this one trains on.
    """
    global _notes
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=number, timeout=PATIENCE)
    _notes = dist.PrefixStore("notes", store)
    try:
        yield present_ranks()
    except BaseException:
        _notes = None
        # Closed connections tell the others. NCCL would wait for them; whoever started the
        # processes ends them.
        if backend == "gloo":
            dist.destroy_process_group()
        raise
    else:
        _notes = None
        dist.destroy_process_group()


@contextlib.contextmanager
def joined_as_started(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one, if it did.

    Args:
        device: as `Runtime` has it; each process of a machine takes a GPU of its own.
    """
    number = int(os.environ.get("WORLD_SIZE", "1"))
    if number == 1:
        yield ALONE
        return
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if here > torch.cuda.device_count():
            raise UsageError(
                f"Expected at most {torch.cuda.device_count()} processes, the GPUs of this "
                f"machine, got {here}. Start fewer, or add --device cpu."
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, number = next(dist.rendezvous("env://", timeout=PATIENCE))
    with joined(store, rank, number, torch.device("cuda" if on_gpu else "cpu")) as ranks:
        yield ranks
