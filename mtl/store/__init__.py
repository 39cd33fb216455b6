"""The run store: a local folder or object storage. No torch."""

from mtl.store.store import (
    RunBusyError,
    Store,
    check_sweep_name,
    existing_store,
    is_address,
    read_json,
    storage_at,
    write_json,
)

__all__ = [
    "RunBusyError",
    "Store",
    "check_sweep_name",
    "existing_store",
    "is_address",
    "read_json",
    "storage_at",
    "write_json",
]
