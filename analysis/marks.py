"""How an arm is drawn: colour, symbol and line, by its number in the order of the plan."""

from dataclasses import dataclass

ARM_COLOURS = ("#0072b2", "#d55e00", "#00795c", "#a8487e", "#6f5b00", "#55606b")
"""Okabe and Ito's, darkened where needed: at least 4.5 to 1 on white; never the only mark."""
# Seven symbols and five lines to six colours: no common factor, so that 42 arms differ in colour
# or symbol, and 30 in colour or line. Beyond, marks repeat and hover and tables tell.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down")
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
"""The page exchanges `LIGHT` for these one by one where the reader's system is dark, so each
colour has one meaning in a figure."""

SCALE_COLOURS = {
    "sequential": ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"),
    "diverging": ("#b35806", "#e08214", PAPER, "#8073ac", "#542788"),
}
"""Colour scales, evenly spaced: viridis, and orange to purple by way of the paper."""
SCALE_LIGHT, SCALE_DARK = ("#b35806", "#542788"), ("#ffb366", "#c9b8ff")
"""In dark mode the ends of the diverging scale, too, are what differs most from the paper."""


@dataclass(frozen=True)
class Mark:
    """The marks of one arm."""

    colour_number: int
    """Place in `ARM_COLOURS`; also the number of the page's style class."""
    symbol: str
    dash: str

    @property
    def colour(self) -> str:
        """Return the colour on light paper."""
        return ARM_COLOURS[self.colour_number]


def mark_of(number: int) -> Mark:
    """Return the marks of the arm with this number, counted from 0."""
    return Mark(
        colour_number=number % len(ARM_COLOURS),
        symbol=SYMBOLS[number % len(SYMBOLS)],
        dash=tuple(DASHES)[number % len(DASHES)],
    )
