"""Figures and pictures on paper, by matplotlib; the same figure gives the same bytes each time."""

import io
import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.render.panels import (
    GRID,
    INK,
    MUTED,
    PAPER,
    SCALE_COLOURS,
    Area,
    Arrow,
    Callout,
    ColouredPoints,
    Colours,
    Drawn,
    Figure,
    Heatmap,
    Key,
    Label,
    Line,
    Panel,
    Pictures,
    Points,
    Rule,
    Scale,
)
from analysis.render.scales import (
    TICK_CHARACTERS,
    TITLE_CHARACTERS,
    shortened,
    title_characters,
    with_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure as Sheet


FORMATS = ("svg", "pdf", "png")
WIDTH_INCHES = 7.2
PIXELS_PER_INCH = 96.0
"""Of the page: heights of panels are given in its pixels."""
PNG_DOTS_PER_INCH = 160
BESIDE_POINTS = 3.0
"""Between a line and the words beside it."""
MARKERS: dict[str, Any] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "star": "*",
    "triangle-down": "v",
    "x": "X",
    "pentagon": "p",
    "triangle-left": "<",
    "triangle-right": ">",
    "hourglass": ((-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)),
    "bowtie": ((-1, -1), (-1, 1), (1, -1), (1, 1), (-1, -1)),
}
DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (9, 4)),
}
STYLE: Any = {  # its type at matplotlib lists every known name
    "svg.hashsalt": "report",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.parse_math": False,  # names may hold dollars
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.axisbelow": True,
}
UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
}


def figure_files(figure: Figure | Pictures) -> dict[str, bytes]:
    """Return file name -> content, one for each of `FORMATS`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    with mpl.rc_context(STYLE):
        sheet = Sheet(layout="constrained", dpi=PNG_DOTS_PER_INCH)
        FigureCanvasAgg(sheet)
        if isinstance(figure, Pictures):
            _draw_pictures(sheet, figure)
        else:
            _draw_figure(sheet, figure)
        # Laid out once: each form would do it again, which takes as long as the drawing.
        sheet.draw_without_rendering()
        sheet.set_layout_engine(None)
        files = {}
        for form in FORMATS:
            buffer = io.BytesIO()
            sheet.savefig(buffer, format=form, dpi=PNG_DOTS_PER_INCH, metadata=UNDATED[form])
            files[f"{figure.name}.{form}"] = buffer.getvalue()
    return files


def _draw_figure(sheet: "Sheet", figure: Figure) -> None:
    columns = min(figure.columns, len(figure.panels))
    num_rows = math.ceil(len(figure.panels) / columns)
    # Panels that stand side by side in the page are as wide here as their share of the sheet.
    scale = WIDTH_INCHES / (10.6 if columns == 1 else 11.5)
    rows = [figure.panels[row * columns : (row + 1) * columns] for row in range(num_rows)]
    heights = [max(_height(panel) for panel in row) / PIXELS_PER_INCH * scale for row in rows]
    if any(panel.is_equal for panel in figure.panels):
        heights = [min(height, WIDTH_INCHES / columns * 0.95) for height in heights]
    sheet.set_size_inches(WIDTH_INCHES, sum(heights) + 0.35 * bool(figure.legend) + 0.25)
    axes = sheet.subplots(num_rows, columns, squeeze=False, height_ratios=heights)
    for ax, panel in zip(axes.flat, figure.panels, strict=False):
        _draw_panel(sheet, ax, panel)
    for ax in axes.flat[len(figure.panels) :]:
        ax.set_axis_off()
    if figure.legend:
        sheet.legend(
            handles=[_handle(key) for key in figure.legend],
            loc="outside upper center",
            ncols=min(len(figure.legend), 5),
            frameon=False,
        )


def _height(panel: Panel) -> float:
    return float(panel.layouts[-1].height if panel.layouts else panel.height)


def _handle(key: Key) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [],
        label=key.text,
        color=key.style.colour,
        linestyle="none" if key.shape == "point" else DASHES[key.style.dash],
        marker="none" if key.shape == "line" else MARKERS[key.style.symbol],
    )  # fmt: skip


def _draw_panel(sheet: "Sheet", ax: "Axes", panel: Panel) -> None:
    for order, mark in enumerate(panel.marks):
        _DRAW[type(mark)](sheet, ax, mark, 2 + order / 100)
    _set_scale(ax, with_width(panel.x, panel, "x"), "x", TITLE_CHARACTERS)
    _set_scale(ax, with_width(panel.y, panel, "y"), "y", title_characters(_height(panel)))
    if panel.title:
        ax.set_title(panel.title, fontsize="medium")
    if panel.is_equal:
        ax.set_aspect("equal")
    if not (panel.x.is_shown or panel.y.is_shown):
        ax.set_axis_off()
    else:
        ax.grid(visible=True, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for callout in panel.layouts[-1].callouts if panel.layouts else ():
        _draw_callout(ax, callout)


def _set_scale(ax: "Axes", scale: Scale, name: Literal["x", "y"], characters: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_label_text(textwrap.fill(scale.title, characters))
    if scale.is_log:
        ax.set(**{f"{name}scale": "log"})
        # Its own writes powers as TeX, which is off.
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())
    if scale.limits is not None:
        ax.set(**{f"{name}lim": scale.limits})
    if scale.ticks is not None:
        most = TICK_CHARACTERS if name == "y" else TICK_CHARACTERS // 2
        texts = [shortened(text, most) for _, text in scale.ticks]
        axis.set_ticks([value for value, _ in scale.ticks], texts)
    elif name == "x" and not scale.is_log:
        # Panels stand side by side: more numbers would print over each other.
        axis.set_major_locator(MaxNLocator(5))
    axis.set_visible(scale.is_shown)


def _points(_: "Sheet", ax: "Axes", mark: Points, order: float) -> None:
    style: dict[str, Any] = {"color": mark.style.colour, "zorder": order, "linestyle": "none"}
    if mark.errors_x is not None or mark.errors_y is not None:
        errors: dict[str, Any] = {"xerr": mark.errors_x, "yerr": mark.errors_y}
        ax.errorbar(mark.x, mark.y, **errors, **style, elinewidth=0.9, capsize=1.5)
    ax.plot(
        mark.x,
        mark.y,
        **style,
        marker=MARKERS[mark.style.symbol],
        markersize=mark.size * 0.62,
        alpha=mark.opacity,
        markeredgecolor=PAPER if mark.opacity == 1 else "none",
        markeredgewidth=0.8,
    )


def _colour_map(colours: Colours) -> "LinearSegmentedColormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(colours, list(SCALE_COLOURS[colours]))


def _coloured_points(sheet: "Sheet", ax: "Axes", mark: ColouredPoints, order: float) -> None:
    size, colours = (mark.size * 0.62) ** 2, _colours(mark)
    style: dict[str, Any] = {"edgecolors": MUTED, "linewidths": 0.5, "zorder": order}
    drawn = ax.scatter(mark.x, mark.y, c=mark.values, s=size, **colours, **style)
    _colour_bar(sheet, ax, drawn, mark)


def _heatmap(sheet: "Sheet", ax: "Axes", mark: Heatmap, order: float) -> None:
    values = np.ma.masked_invalid(np.asarray(mark.values, dtype=float)).T
    edges = (mark.x_edges, mark.y_edges)
    drawn = ax.pcolormesh(*edges, values, **_colours(mark), zorder=order, rasterized=True)
    _colour_bar(sheet, ax, drawn, mark)


def _colours(mark: ColouredPoints | Heatmap) -> dict[str, Any]:
    low, high = mark.bar.limits
    return {"cmap": _colour_map(mark.bar.colours), "vmin": low, "vmax": high}


def _colour_bar(sheet: "Sheet", ax: "Axes", drawn: Any, mark: ColouredPoints | Heatmap) -> None:
    sheet.colorbar(drawn, ax=ax, label=textwrap.fill(mark.bar.title, TITLE_CHARACTERS), shrink=0.85)


def _line(_: "Sheet", ax: "Axes", mark: Line, order: float) -> None:
    style: dict[str, Any] = {"linewidth": mark.width * 0.8, "alpha": mark.opacity, "zorder": order}
    ax.plot(mark.x, mark.y, color=mark.colour, linestyle=DASHES[mark.dash], **style)


def _area(_: "Sheet", ax: "Axes", mark: Area, order: float) -> None:
    ax.fill(mark.x, mark.y, color=mark.colour, alpha=mark.opacity, linewidth=0, zorder=order)


def _rule(_: "Sheet", ax: "Axes", mark: Rule, order: float) -> None:
    style: dict[str, Any] = {"color": MUTED, "linestyle": DASHES[mark.dash], "linewidth": 0.9}
    along, side, edge = mark.text_place
    if mark.axis == "x":
        ax.axvline(mark.value, zorder=order, **style)
        where: dict[str, Any] = {"xy": (mark.value, along), "xycoords": ("data", "axes fraction")}
        where["rotation"] = 90
    else:
        ax.axhline(mark.value, zorder=order, **style)
        where = {"xy": (along, mark.value), "xycoords": ("axes fraction", "data")}
    if mark.text:
        away = (-1 if side == "right" else 1, -1 if edge == "top" else 1)
        where |= {"ha": side, "va": edge, "textcoords": "offset points"}
        where["xytext"] = tuple(sign * BESIDE_POINTS for sign in away)
        note = ax.annotate(mark.text, **where, color=MUTED, fontsize="small", zorder=order)
        note.set_in_layout(False)


def _label(_: "Sheet", ax: "Axes", mark: Label, order: float) -> None:
    style: dict[str, Any] = {"color": INK, "ha": mark.anchor, "va": "center"}
    # In need a text is cut at the sheet's edge: making room for it would press the axes to nothing.
    ax.text(mark.x, mark.y, mark.text, **style, zorder=order).set_in_layout(False)


def _arrow(_: "Sheet", ax: "Axes", mark: Arrow, order: float) -> None:
    (x0, x1), (y0, y1) = mark.x, mark.y
    shape = {"arrowstyle": "->", "color": MUTED, "shrinkA": 4, "shrinkB": 4, "alpha": 0.7}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops=shape, zorder=order)


_DRAW: dict[type[Drawn], Callable[["Sheet", "Axes", Any, float], None]] = {
    Points: _points,
    ColouredPoints: _coloured_points,
    Line: _line,
    Area: _area,
    Heatmap: _heatmap,
    Rule: _rule,
    Label: _label,
    Arrow: _arrow,
}


def _draw_callout(ax: "Axes", mark: Callout) -> None:
    """Draw words of the widest layout, whose offsets are in pixels of the page."""
    points = 72 / PIXELS_PER_INCH * WIDTH_INCHES / 10.6 * 1.3
    shape = {
        "arrowstyle": "->" if mark.has_head else "-",
        "color": MUTED,
        "linewidth": 0.6,
        "shrinkB": 0 if mark.has_head else 4,
    }
    ax.annotate(
        mark.text,
        (mark.x, mark.y),
        (mark.offset[0] * points, -mark.offset[1] * points),
        textcoords="offset points",
        ha="center",
        va="center",
        color=mark.colour,
        fontsize="small",
        arrowprops=shape,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
        zorder=5,
    )


def _draw_pictures(sheet: "Sheet", pictures: Pictures) -> None:
    shown = [cell for row in pictures.rows for cell in row.cells if cell is not None]
    aspect = shown[0].shape[0] / shown[0].shape[1] if shown else 1.0
    columns = len(pictures.head)
    height = len(pictures.rows) * WIDTH_INCHES / (columns + 0.4) * aspect + 0.3
    sheet.set_size_inches(WIDTH_INCHES, height + 0.5 * len(pictures.scales))
    axes = sheet.subplots(len(pictures.rows), columns, squeeze=False)
    for number, (line, row) in enumerate(zip(axes, pictures.rows, strict=True)):
        for ax, head, cell in zip(line, pictures.head, row.cells, strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if cell is not None:
                ax.imshow(cell, interpolation="nearest")
            if number == 0:
                ax.set_title(head, fontsize="small")
        line[0].set_ylabel(row.label, fontsize="small")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    for bar in pictures.scales:
        values = ScalarMappable(Normalize(*bar.limits), _colour_map(bar.colours))
        place: dict[str, Any] = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02}
        sheet.colorbar(values, ax=list(axes.flat), label=bar.title, **place)
