"""A place on object storage that is read as a path is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # pyarrow takes a while to import, and a folder does not need it
    from mtl.object_storage import ObjectStorage


@dataclass(frozen=True)
class ObjectPlace:
    """An object, or all whose keys go on after a slash."""

    storage: "ObjectStorage"
    key: str

    def __truediv__(self, name: str) -> Self:
        """Return the place below this one."""
        return type(self)(self.storage, f"{self.key}/{name}")

    def __str__(self) -> str:
        """Return the address, without credentials."""
        return self.storage.place(self.key)

    @property
    def name(self) -> str:
        """Return the last part of the key."""
        return self.key.rpartition("/")[2]
