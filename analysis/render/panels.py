"""What figures show: plotly draws it in the page, matplotlib on paper.

All values are in display units and finite.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ARM_COLOURS = ("#0072b2", "#d55e00", "#00795c", "#a8487e", "#6f5b00", "#55606b")
"""Okabe and Ito's, darkened to a contrast of at least 4.5 to 1 on white."""
# 13 symbols and five lines to six colours have no common factor: 78 arms differ in colour or
# symbol, and 30 in colour or line. Beyond, styles repeat.
SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down"),
    *("x", "pentagon", "triangle-left", "triangle-right", "hourglass", "bowtie"),
)
DASHES = {
    "solid": "none",
    "dash": "6 4",
    "dot": "2 3",
    "dashdot": "6 3 2 3",
    "longdash": "9 4",
}
"""Plotly's name of a line -> the same in SVG."""
INK, MUTED, GRID, PAPER = "#1b2430", "#5b6673", "#e6e9ed", "#ffffff"
LIGHT = (*ARM_COLOURS, INK, MUTED, GRID, PAPER)
DARK = (
    *("#56b4e9", "#ff9248", "#2bc79a", "#f09cc8", "#d9c04a", "#aeb8c2"),
    *("#e8ecf1", "#9aa5b1", "#2c343e", "#161b22"),
)
"""The page exchanges `LIGHT` for these one by one where the reader's system is dark."""

SCALE_COLOURS = {
    "sequential": ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"),
    "diverging": ("#b35806", "#e08214", PAPER, "#8073ac", "#542788"),
}
"""Colour scales, evenly spaced: viridis, and orange to purple by way of the paper."""
SCALE_LIGHT, SCALE_DARK = ("#b35806", "#542788"), ("#ffb366", "#c9b8ff")
"""In dark mode the ends of the diverging scale, too, are what differs most from the paper."""


@dataclass(frozen=True)
class Style:
    """How the arm (or task) with this number, counted from 0, is drawn."""

    number: int
    mark: int | None = None
    """Number that chooses symbol and dash, where colour says another thing."""

    @property
    def colour_number(self) -> int:
        """Return the place in `ARM_COLOURS`, which is also in the name of the page's CSS class."""
        return self.number % len(ARM_COLOURS)

    @property
    def colour(self) -> str:
        """Return the colour on light paper."""
        return ARM_COLOURS[self.colour_number]

    @property
    def symbol(self) -> str:
        """Return one of `SYMBOLS`."""
        return SYMBOLS[self._mark % len(SYMBOLS)]

    @property
    def dash(self) -> str:
        """Return one of `DASHES`."""
        return tuple(DASHES)[self._mark % len(DASHES)]

    @property
    def _mark(self) -> int:
        return self.number if self.mark is None else self.mark


Colours = Literal["sequential", "diverging"]
"""Colour scales: from little to much, or to both sides of zero."""


@dataclass(frozen=True)
class Scale:
    """One axis of a panel."""

    title: str
    """With the unit, and which way is better where one is."""
    limits: tuple[float, float] | None = None
    """First and last value; the first is larger on a reversed axis. None fits what is drawn."""
    is_log: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None
    """(value, text of one or several lines); None lets the library choose."""
    is_shown: bool = True


@dataclass(frozen=True)
class Points:
    """Markers of one arm (or task)."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    name: str = ""
    hover: tuple[str, ...] = ()
    """One text a point."""
    size: float = 9.0
    """In pixels."""
    opacity: float = 1.0
    errors_x: tuple[float, ...] | None = None
    errors_y: tuple[float, ...] | None = None
    """Half the length of each bar."""


@dataclass(frozen=True)
class ColourBar:
    """What colours say."""

    title: str
    """With the unit."""
    colours: Colours
    limits: tuple[float, float]
    """Values at the ends; symmetric where the scale is diverging."""


@dataclass(frozen=True)
class ColouredPoints:
    """Markers whose colour says a value; a panel has at most one of these or heat maps."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[float, ...]
    bar: ColourBar
    hover: tuple[str, ...] = ()
    size: float = 14.0


@dataclass(frozen=True)
class Line:
    """A line through points, in their order."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    dash: str = "solid"
    """One of `DASHES`."""
    name: str = ""
    width: float = 1.6
    opacity: float = 1.0
    hover: tuple[str, ...] = ()


@dataclass(frozen=True)
class Area:
    """A filled outline, such as a band between two curves."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    name: str = ""
    opacity: float = 0.18


@dataclass(frozen=True)
class Heatmap:
    """Coloured rectangles between edges."""

    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    values: np.ndarray
    """(len(x_edges) - 1, len(y_edges) - 1); NaN leaves a cell empty."""
    bar: ColourBar


@dataclass(frozen=True)
class Rule:
    """A line across the panel at one value of an axis."""

    axis: Literal["x", "y"]
    value: float
    text: str = ""
    dash: str = "dot"
    text_at: Literal["start", "middle", "end"] = "end"
    """The text stands at the line's worse or better end on its worse side, or half-way on its
    better side."""

    @property
    def text_place(self) -> tuple[float, Literal["left", "right"], Literal["top", "bottom"]]:
        """Return the share of the line's length at which its text is anchored, and by which side.

        The text of a vertical line is turned, to be read from below.
        """
        if self.text_at == "end":
            return 1.0, "right", "top"
        if self.text_at == "start":
            return (0.0, "right", "bottom") if self.axis == "x" else (0.0, "left", "top")
        return 0.5, "left", "top" if self.axis == "x" else "bottom"


@dataclass(frozen=True)
class Label:
    """Words at a place."""

    x: float
    y: float
    text: str
    anchor: Literal["left", "center", "right"] = "center"


@dataclass(frozen=True)
class Arrow:
    """An arrow from one place to another."""

    x: tuple[float, float]
    y: tuple[float, float]


Drawn = Points | ColouredPoints | Line | Area | Heatmap | Rule | Label | Arrow


@dataclass(frozen=True)
class Callout:
    """Words joined with a place by a line."""

    x: float
    y: float
    text: str
    colour: str
    offset: tuple[float, float] = (0.0, 0.0)
    """Of the words' centre from the place, in pixels, y downwards."""
    has_head: bool = False
    """Whether the line is an arrow to the place."""


@dataclass(frozen=True)
class Layout:
    """A panel on a page of at least `min_width`; all in pixels."""

    min_width: int
    height: int
    font: int
    left: int
    """Margins around the axes."""
    bottom: int
    top: int = 14
    right: int = 16
    callouts: tuple[Callout, ...] = ()

    @property
    def inner(self) -> tuple[float, float, float, float]:
        """Return where the axes lie: left, top, right, bottom."""
        return (self.left, self.top, self.min_width - self.right, self.height - self.bottom)

    @property
    def title_rooms(self) -> tuple[float, float]:
        """Return how long lines of the x and of the y title may be, centred on their axes."""
        left, top, right, bottom = self.inner
        return (right - left + self.right, bottom - top + self.top)


@dataclass(frozen=True)
class Panel:
    """One pair of axes with what stands on them; later marks lie above earlier ones."""

    name: str
    """Unique in a report, of letters, digits and underscores."""
    x: Scale
    y: Scale
    marks: tuple[Drawn, ...]
    title: str = ""
    height: int = 340
    """In pixels of the page."""
    is_equal: bool = False
    """A unit is as long on both axes, as on a map or a triangle."""
    layouts: tuple[Layout, ...] = ()
    """One for each width, where labels were placed in pixels; else empty."""


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend."""

    text: str
    style: Style
    shape: Literal["point", "line", "both"] = "both"


@dataclass(frozen=True)
class Figure:
    """One or several panels under one caption."""

    name: str
    """Unique in a report, of letters, digits and underscores; the stem of its files."""
    title: str
    alt: str
    """What it shows, for those who cannot see it."""
    panels: tuple[Panel, ...]
    caption: str = ""
    columns: int = 1
    """Panels side by side at most."""
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class PictureRow:
    """A row of pictures."""

    label: str
    cells: tuple[np.ndarray | None, ...]
    """uint8 (height, width, 3) each; None where there is none."""


@dataclass(frozen=True)
class Pictures:
    """A table of pictures, such as predictions of methods by tasks."""

    name: str
    title: str
    alt: str
    head: tuple[str, ...]
    """One word or few a column."""
    rows: tuple[PictureRow, ...]
    caption: str = ""
    scales: tuple[ColourBar, ...] = ()
