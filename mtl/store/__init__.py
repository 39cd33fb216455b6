"""The run store: a local folder or object storage. No torch."""

from mtl.store.address import is_address, local_folder
from mtl.store.lease import RunBusyError
from mtl.store.local import write_atomically
from mtl.store.store import (
    Store,
    check_sweep_name,
    existing_store,
    write_json,
)

__all__ = [
    "RunBusyError",
    "Store",
    "check_sweep_name",
    "existing_store",
    "is_address",
    "local_folder",
    "write_atomically",
    "write_json",
]
