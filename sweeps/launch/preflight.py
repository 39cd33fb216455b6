"""What is tried before data are prepared and runs start, because it would fail every run.

On a cluster each node answers `look`; `sweeps.launch.cluster` compares the answers. A node that
joins later is looked at by the first process that would train on it.
"""

import hashlib
import importlib
import platform
import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtl.errors import PreflightError, UserError, raised
from mtl.spec import RunSpec, Runtime, Spec
from mtl.spec.code import check_code, code_path, is_reference, top_module
from mtl.spec.encoders import TESTED_ENCODERS, weights_file_id
from mtl.spec.sections import DataSpec
from mtl.store import Store
from sweeps.plan.cost import num_outputs, stored_bytes
from sweeps.text import size

PACKAGES = tuple(map(importlib.import_module, ("sweeps", "mtl", "analysis")))
"""The project's code: what a cluster's nodes must have alike, and what travels to them."""
LIBRARIES = ("torch", "timm", "numpy")
"""Their versions may move a result's last digits, or refuse a checkpoint."""
SECONDS_TO_CONNECT = 15.0
IMAGES_TO_TRY = 8
"""Of the training split, on which a task from outside is tried."""

Versions = Mapping[str, str]
"""Of `python`, `project` (a hash of its code) and the libraries; `none` where one is absent."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What runs need of the node that trains them."""

    store: str
    """A folder, or an address of object storage; it is there already."""
    versions: Versions | None = None
    """Those of the other nodes, once they are known."""
    store_bytes: int = 0
    """By which it will grow."""
    run_ids: tuple[str, ...] = ()
    """Of runs whose specs the driver has written."""
    data: tuple[DataSpec, ...] = ()
    data_root: str | None = None
    weights_file: str | None = None
    weights: frozenset[str] = frozenset()
    """What the specs say of the encoder weights, one of which the file must hold."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Modules from outside and the hashes of their source."""


def needs_of(specs: Iterable[Spec], store: str, runtime: Runtime, further_bytes: int = 0) -> Needs:
    """Return what `specs` need; the store will grow by `further_bytes` beyond them."""
    runs = list(specs)
    networks = [spec for spec in runs if isinstance(spec, RunSpec)]
    return Needs(
        store=store,
        store_bytes=sum(stored_bytes(spec, runtime) for spec in runs) + further_bytes,
        data=tuple(dict.fromkeys(spec.data for spec in networks)),
        data_root=runtime.data_root,
        weights_file=runtime.encoder_weights_file,
        weights=frozenset(spec.network.encoder_weights for spec in networks),
        code={module: held for spec in runs for module, held in spec.code.items()},
    )


def look(needs: Needs) -> tuple[Versions, str | None]:
    """Return the versions of the machine that this runs on, and the first thing that it lacks."""
    try:
        check_machine(needs)
    except (UserError, ValueError, OSError) as error:
        return versions(), str(error)
    return versions(), None


def check_machine(needs: Needs) -> None:
    """Raise a `PreflightError` for the first thing that this machine lacks, or a `StoreError`."""
    if needs.versions is not None:
        check_alike({"the other nodes": needs.versions, "this one": versions()})
    check_code(needs.code)
    store = Store(needs.store, create=False)
    for run_id in needs.run_ids:
        if store.kind(store.run_key(run_id, "spec.json")) == "absent":
            raise PreflightError(
                f"Expected run {run_id}, which the driver has written, in {store.place('')}, got "
                "none. Give a folder that all nodes share, or object storage, with --store."
            )
    for data in needs.data:
        _check_data(data, needs.data_root)
    if needs.weights_file is not None:
        held = weights_file_id(needs.weights_file)
        if held not in needs.weights:
            raise PreflightError(
                f"Expected the encoder weights {' or '.join(sorted(needs.weights))} in "
                f"{needs.weights_file}, got {held}. Put the file where all nodes see it."
            )
    if store.is_local:
        check_store_disk(needs.store, needs.store_bytes)


def _check_data(data: DataSpec, data_root: str | None) -> None:
    """Raise if a data set cannot be had on this machine; scenes can be rendered on it."""
    # Only here: they need numpy, for which --help would wait.
    from mtl.data.manifest import check_whole
    from mtl.data.prepared import data_folder, is_prepared, prepared_folder

    if is_prepared(data, data_root):
        check_whole(prepared_folder(data, data_root))
    elif data.name != "scenes":
        raise PreflightError(
            f"Expected the prepared data {data.name} {data.prepared} in {data_folder(data_root)}, "
            "got none. Prepare them in a folder that all nodes share, and name it with "
            "--data-root (--local-data DIR copies them to each node's disk)."
        )


def check_store_disk(store: str, needed: int) -> None:
    """Raise unless the disk that a folder lies on, or would lie on, has `needed` bytes free."""
    path = Path(store).expanduser().absolute()
    try:
        free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
    except OSError:
        return  # nobody can tell
    if needed > free:
        raise PreflightError(
            f"Expected {size(needed)} of free disk for the results in {store}, got {size(free)}. "
            "Free some, keep less with --keep none, or give another place with --store."
        )


def check_networks(specs: Iterable[RunSpec], weights_file: str | None) -> None:
    """Build each network that may not be built: from outside, untested encoders, or weights.

    Args:
        specs: the runs to train.
        weights_file: where weights named by a hash lie.

    Raises:
        PreflightError: if the encoder gives no feature map for such images, or its weights cannot
            be had or belong to another encoder.
    """
    networks = {
        (spec.network, spec.tasks, (spec.data.height, spec.data.width)): None
        for spec in specs
        if spec.network.encoder_weights != "random"
        or spec.network.encoder not in TESTED_ENCODERS
        or is_reference(spec.network.architecture)
    }
    if not networks:
        return
    # Only here: torch takes seconds to import, and most sweeps have a tested encoder.
    from mtl.networks import build_network

    for network, tasks, image_size in networks:
        out_channels = {task: num_outputs(task) for task in tasks}
        try:
            built = build_network(network, out_channels, 0, weights_file, image_size=image_size)
            if is_reference(network.architecture):
                built.shared_parameters()  # needs a forward pass
        except ValueError as error:
            raise PreflightError(str(error)) from error


def check_tasks(specs: Iterable[RunSpec], data_root: str | None) -> None:
    """Try each task from outside on a few prepared images: targets, loss, gradient, metrics, prior.

    What they come to does not matter, NaN of so few images included.

    Raises:
        PreflightError: naming the task, for what fails.
    """
    tried = {(spec.data, task): None for spec in specs for task in spec.tasks if is_reference(task)}
    for data, task in tried:
        try:
            _try_task(task, data, data_root)
        except UserError as error:
            raise PreflightError(str(error)) from error


def _try_task(name: str, data: DataSpec, data_root: str | None) -> None:
    # Only here, for tasks from outside: torch takes seconds to import.
    import numpy as np
    import torch

    from mtl.data.batches import MappedSplit
    from mtl.data.manifest import data_info
    from mtl.data.prepared import prepared_folder
    from mtl.tasks import derivations, task_of

    folder = prepared_folder(data, data_root)
    task, info = task_of(name), data_info(folder)
    split = MappedSplit(folder, "train", (name,), derived=derivations([name]))
    batch = split.batch(np.arange(min(len(split), IMAGES_TO_TRY)), torch.device("cpu"))
    target, valid = batch.targets[name], batch.valid[name]
    if not valid.any():
        return  # an absent task has no loss
    shape = (len(valid), task.num_channels(info), *(valid.shape[1:] if task.is_map else ()))
    prediction = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = task.loss(prediction, target, valid, info)
    if loss.shape != () or not loss.requires_grad:
        raise PreflightError(
            f"Expected the loss of task {name} as one number with a gradient, got shape "
            f"{tuple(loss.shape)} {'with' if loss.requires_grad else 'without'} one."
        )
    try:
        loss.backward()
    except RuntimeError as error:
        what = raised(error, [code_path(top_module(name))])
        raise PreflightError(f"Expected a gradient of task {name}, got {what}.") from error
    metrics = task.metrics(info)
    metrics.update(prediction.detach(), target, valid)
    metrics.values()
    prior = task.prior(target, valid, info)
    if prior.shape != (1, *shape[1:]):
        raise PreflightError(
            f"Expected the prior of task {name} in the shape {(1, *shape[1:])}, got "
            f"{tuple(prior.shape)}."
        )


def check_answers(address: str | None) -> None:
    """Raise a `PreflightError` if nothing answers at a HOST:PORT; Ray would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # `auto`, or what Ray itself refuses
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT):
            """Proves that somebody listens."""
    except (OSError, OverflowError) as error:
        raise PreflightError(
            f"Expected a Ray cluster at {address}, got: {error}. Look at the address, or start it."
        ) from error


def versions() -> dict[str, str]:
    """Return what must be alike on all nodes; none of the libraries is imported for it."""
    import importlib.metadata  # only here: --help would wait for it

    found = {"python": platform.python_version(), "project": project_hash()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "none"
    return found


def project_hash() -> str:
    """Return 12 hexadecimal digits of a hash of the project's code, as it was imported."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def check_alike(found: Mapping[str, Versions]) -> None:
    """Raise a `PreflightError` for the first difference between machines.

    Args:
        found: machine -> its versions. The first may lack torch, as a driver on a small head node
            does, which trains nothing.
    """
    for name in ("python", "project", *LIBRARIES):
        first, *others = ((machine, held[name]) for machine, held in found.items())
        if first[1] == "none" and others:
            first, *others = others
        for machine, version in others:
            if version != first[1]:
                raise PreflightError(
                    f"Expected the same {name} everywhere, got {first[1]} on {first[0]} and "
                    f"{version} on {machine}. Install the versions of constraints.txt on every "
                    "node."
                )
