"""A section of the report: what it says in words, values, figures and tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from analysis.render.panels import Figure, Pictures
from analysis.render.table import Table

Shown = TypeVar("Shown", Figure, Pictures, Table)
Part = str | Figure | Pictures | Table
"""A paragraph in plain words, or something to look at."""


@dataclass(frozen=True)
class Folded:
    """Parts that the reader opens."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    name: str
    """Its anchor, of letters, digits and underscores."""
    title: str
    lead: str
    """What is seen, in generated words with numbers."""
    parts: tuple[Part | Folded, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    """All that figures, tables and words were made of, for summary.json: dataclasses, mappings,
    sequences and numbers."""
    template: str | None = None
    """A template of its own, shown before the parts and given this section as `section`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For the template."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return every table, folded ones too."""
        return self._all(Table)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return every figure, folded ones too."""
        return self._all(Figure)

    @property
    def pictures(self) -> tuple[Pictures, ...]:
        """Return every table of pictures, folded ones too."""
        return self._all(Pictures)

    def _all(self, kind: type[Shown]) -> tuple[Shown, ...]:
        parts = [
            p for part in self.parts for p in (part.parts if isinstance(part, Folded) else [part])
        ]
        return tuple(part for part in parts if isinstance(part, kind))
