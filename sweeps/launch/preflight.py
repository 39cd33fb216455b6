"""What is tried before data are prepared and runs start, because it would fail every run.

On a cluster each node answers `look_around`, the driver compares the answers with `check_nodes`,
and what is wrong becomes one sentence that names the node.
"""

import contextlib
import hashlib
import importlib.metadata
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import analysis
import mtl
import sweeps
from mtl.data.manifest import check_whole, read_manifest
from mtl.data.prepared import data_folder, expected_bytes, is_prepared, prepared_folder
from mtl.errors import PreflightError, PreparedDataError, StoreError, StoreUnreachableError
from mtl.spec import RunSpec
from mtl.spec.encoders import weights_file_id
from mtl.spec.sections import DataSpec
from mtl.store import storage_at
from sweeps.text import size

PACKAGES = (sweeps, mtl, analysis)
"""The project's code: what a cluster's nodes must have alike, and what travels to them."""
LIBRARIES = ("torch", "timm", "numpy")
"""Their versions may move a result's last digits, or refuse a checkpoint."""
PROBE_PREFIX = ".preflight-"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the runs of a sweep need of the node that trains them."""

    token: str
    """Of this preflight: part of the names of its probe files."""
    store: str
    """A folder, or an address of object storage that pyarrow understands."""
    store_bytes: int
    """By which the store will grow."""
    data: tuple[DataSpec, ...] = ()
    data_root: str | None = None
    local_data: str | None = None
    """Folder on the node's own disk that gets a copy of the data; None reads them in place."""
    weights_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What a node has."""

    node: str
    """As people know it."""
    versions: Mapping[str, str]
    """`python`, `project` (a hash of its code) and the libraries; `none` where one is absent."""
    store_error: str | None = None
    """Why the store cannot be written."""
    data_error: str | None = None
    """Why the data cannot be had: a whole sentence."""
    weights: str | None = None
    """Id of the file of encoder weights; None without one."""
    free_bytes: Mapping[str, int | None]
    """Of the disks of `store`, `data` and `local_data`; None where nobody can tell."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A cluster that was looked at: what nodes that join it later are compared with."""

    needs: Needs
    driver: NodeReport
    example: NodeReport
    """Of the first node; the driver's machine may lack torch."""
    node_ids: frozenset[str]
    """Ray's, of the nodes that were looked at."""


def check_encoder_weights(specs: Iterable[RunSpec], weights_file: str | None) -> None:
    """Build each network that does not start from random weights, downloads included.

    Args:
        specs: the runs to train.
        weights_file: where weights named by a hash lie.

    Raises:
        PreflightError: if the weights cannot be had or belong to another encoder.
    """
    networks = dict.fromkeys(
        spec.network for spec in specs if spec.network.encoder_weights != "random"
    )
    if not networks:
        return
    # Only here: torch takes seconds to import, and most sweeps start at random.
    from mtl.networks import build_network

    for network in networks:
        try:
            build_network(network, {"depth": 1}, 0, weights_file)
        except ValueError as error:
            raise PreflightError(str(error)) from error


def look_around(needs: Needs, node: str) -> NodeReport:
    """Look at the machine that this runs on, and leave a probe file in the store."""
    data_error, free = None, {"store": _free_bytes(needs.store)}
    for data in needs.data:
        data_error = data_error or _data_error(data, needs)
    free["data"] = _free_bytes(str(data_folder(needs.data_root)))
    if needs.local_data is not None:
        free["local_data"] = _free_bytes(needs.local_data)
    return NodeReport(
        node=node,
        versions=versions(),
        store_error=_write_probe(needs, node),
        data_error=data_error,
        weights=_weights_id(needs.weights_file),
        free_bytes=free,
    )


def versions() -> dict[str, str]:
    """Return what must be alike on all nodes; nothing is imported for it."""
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


def _shown(needs: Needs) -> str:
    """Return where the store is, without credentials."""
    return storage_at(needs.store).place("")


def probe_name(needs: Needs, node: str) -> str:
    """Return the name of the probe file that `node` leaves in the store."""
    return f"{PROBE_PREFIX}{needs.token}-{hashlib.sha256(node.encode()).hexdigest()[:8]}"


def _write_probe(needs: Needs, node: str) -> str | None:
    try:
        storage_at(needs.store).write(probe_name(needs, node), node.encode())
    except OSError as error:
        return error.strerror or str(error).splitlines()[0]
    except (StoreError, StoreUnreachableError) as error:
        return str(error)
    return None


def seen_probes(needs: Needs, nodes: Iterable[str]) -> set[str]:
    """Return those of `nodes` whose probe file this machine sees in the store.

    Each is asked for by its name: a network file system may list a folder as it was a minute ago.
    """
    try:
        files = storage_at(needs.store)
        return {node for node in nodes if files.exists(probe_name(needs, node))}
    except (OSError, StoreError, StoreUnreachableError):
        return set()


def remove_probes(needs: Needs, nodes: Iterable[str]) -> None:
    """Remove the probe files of `nodes` that this machine sees."""
    files = storage_at(needs.store)
    for node in nodes:
        with contextlib.suppress(OSError, StoreUnreachableError):
            files.remove(probe_name(needs, node))


def _free_bytes(folder: str) -> int | None:
    """Return the free bytes of the disk that `folder` lies on or would lie on."""
    if "://" in folder:
        return None
    path = Path(folder).expanduser().absolute()
    try:
        return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
    except OSError:
        return None


def _data_error(data: DataSpec, needs: Needs) -> str | None:
    """Return why a data set cannot be had on this machine; scenes can be rendered on it."""
    try:
        if is_prepared(data, needs.data_root):
            check_whole(prepared_folder(data, needs.data_root))
        elif data.name != "scenes":
            return (
                f"the prepared data {data.name} {data.prepared} are not in "
                f"{data_folder(needs.data_root)}"
            )
    except PreparedDataError as error:
        return str(error)
    return None


def _weights_id(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return weights_file_id(path)
    except ValueError:
        return "none"


def data_bytes(data: DataSpec, data_root: str | None) -> int:
    """Return the bytes of a data set on disk, prepared or yet to be rendered."""
    if not is_prepared(data, data_root):
        return expected_bytes(data)
    arrays = read_manifest(prepared_folder(data, data_root))["arrays"]
    return sum(entry["bytes"] for entry in arrays.values())


def check_nodes(needs: Needs, driver: NodeReport, nodes: Sequence[NodeReport]) -> None:
    """Compare what the nodes report with what the runs need.

    Args:
        needs: of the runs.
        driver: what the machine of this process reports.
        nodes: the others' reports.

    Raises:
        PreflightError: for the first thing that would fail runs; it names the node.
    """
    for report in (driver, *nodes):
        if report.store_error is not None:
            raise PreflightError(
                f"Expected a store that every node can write, got {_shown(needs)}, of which "
                f"{report.node} says: {report.store_error}. Give a folder that all nodes share, or "
                "an address of object storage, with --store."
            )
    _check_versions(driver, nodes)
    for report in nodes:
        if report.data_error is not None:
            raise PreflightError(
                f"Expected the data on every node, but on {report.node}: "
                f"{report.data_error.rstrip('.')}. Prepare them in a folder that all nodes share, "
                "and name it with --data-root (--local-data DIR copies them to each node's disk)."
            )
        if report.weights != driver.weights:
            raise PreflightError(
                f"Expected the encoder weights {driver.weights} in {needs.weights_file} on every "
                f"node, got {report.weights} on {report.node}. Put the file where all nodes see it."
            )
        _check_disk(needs, report)


def _check_versions(driver: NodeReport, nodes: Sequence[NodeReport]) -> None:
    for name in ("python", "project", *LIBRARIES):
        # A driver on a small head node trains nothing and may lack torch.
        reports = [r for r in (driver, *nodes) if r is not driver or r.versions[name] != "none"]
        first = reports[0]
        for report in reports[1:]:
            if report.versions[name] != first.versions[name]:
                raise PreflightError(
                    f"Expected the same {name} everywhere, got {first.versions[name]} on "
                    f"{first.node} and {report.versions[name]} on {report.node}. Install the "
                    "versions of constraints.txt on every node."
                )


def _check_disk(needs: Needs, report: NodeReport) -> None:
    missing = sum(
        expected_bytes(data) for data in needs.data if not is_prepared(data, needs.data_root)
    )
    copied = sum(data_bytes(data, needs.data_root) for data in needs.data)
    for what, needed, place, remedy in (
        ("results", needs.store_bytes, "store", "--store, or keep less with --keep none"),
        ("prepared data", missing, "data", "--data-root"),
        ("copied data", copied, "local_data", "--local-data"),
    ):
        free = report.free_bytes.get(place)
        if free is not None and needed > free:
            raise PreflightError(
                f"Expected {size(needed)} of free disk for the {what} on {report.node}, got "
                f"{size(free)}. Free some, or give another place with {remedy}."
            )


def check_shared(needs: Needs, seen: Mapping[str, set[str]]) -> None:
    """Compare which probe files each machine sees: a shared store shows all of them everywhere.

    Args:
        needs: of the runs.
        seen: machine -> the machines whose probe files it sees; each left one.

    Raises:
        PreflightError: if a machine does not see another's file.
    """
    for node, visible in seen.items():
        for writer in seen:
            if writer not in visible:
                raise PreflightError(_not_shared(needs, node, writer))


def check_newcomer(checked: Checked, node: str, written: str) -> None:
    """Look at the machine that this runs on, which joined the cluster after the look at it.

    Args:
        checked: what the other nodes were found to be.
        node: this one's name for people.
        written: key of a file that the driver has written to the store.

    Raises:
        PreflightError: for the first thing that would fail runs here.
    """
    # What the results of all runs need was asked for at the start, and is partly there by now.
    needs = replace(checked.needs, store_bytes=0)
    try:
        report = look_around(needs, node)
        check_nodes(needs, checked.driver, [checked.example, report])
        if not storage_at(needs.store).exists(written):
            raise PreflightError(_not_shared(needs, node, checked.driver.node))
    finally:
        remove_probes(needs, [node])


def _not_shared(needs: Needs, node: str, writer: str) -> str:
    return (
        f"Expected a store that all nodes share, got {_shown(needs)}, where {node} does not see "
        f"what {writer} writes. Give a folder on a shared file system, or an address of object "
        "storage, with --store."
    )


def check_store_disk(store: str, needed: int) -> None:
    """Raise a `PreflightError` unless the store's disk has `needed` bytes free."""
    free = _free_bytes(store)
    if free is not None and needed > free:
        raise PreflightError(
            f"Expected {size(needed)} of free disk for the results in {store}, got {size(free)}. "
            "Free some, keep less with --keep none, or give another place with --store."
        )
