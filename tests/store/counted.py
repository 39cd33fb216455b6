"""A store in a folder that counts what is asked of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from mtl.store import Store
from mtl.store.local import LocalStorage


def _counting(name: str) -> Callable[..., Any]:
    def request(self: "CountedStorage", key: str, *arguments: Any) -> Any:
        what = "run" if key.count("/") == 1 else key.rpartition("/")[2]
        self.requests[name, what] += 1
        return getattr(self.uncounted, name)(key, *arguments)

    return request


class CountedStorage(LocalStorage):
    """A folder that counts what is asked of it, by kind and by the name of the file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.uncounted = LocalStorage(root)
        self.requests: Counter[tuple[str, str]] = Counter()

    read, write = _counting("read"), _counting("write")
    names, files, kind = _counting("names"), _counting("files"), _counting("kind")
    remove, append_log = _counting("remove"), _counting("append_log")


def counted_store(root: Path) -> Store:
    """Return a store at `root` whose requests its `storage` counts."""
    with mock.patch("mtl.store.store.LocalStorage", CountedStorage):
        return Store(root)
