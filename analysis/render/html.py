"""Sections as the page's templates take them: JSON for plotly, pictures as data, and words."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from analysis.render.panels import (
    DASHES,
    SCALE_COLOURS,
    SCALE_DARK,
    SCALE_LIGHT,
    Figure,
    Key,
    Panel,
    Pictures,
)
from analysis.render.plotly_json import plotly_values
from analysis.render.section import Folded, Part, Section

MAX_COLUMNS = 4
"""The page's style knows so many."""


def section_view(section: Section) -> dict[str, Any]:
    """Return a section as the templates take it."""
    return {"section": section, "parts": [_view(part) for part in section.parts]}


def embedded(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))


def _view(part: Part | Folded) -> dict[str, Any]:
    if isinstance(part, Folded):
        return {
            "kind": "folded",
            "title": part.title,
            "parts": [_view(inner) for inner in part.parts],
        }
    if isinstance(part, str):
        return {"kind": "words", "shown": part}
    if isinstance(part, Figure):
        return {"kind": "figure", "shown": figure_view(part)}
    if isinstance(part, Pictures):
        return {"kind": "pictures", "shown": _pictures_view(part)}
    return {"kind": "table", "shown": part}


def figure_view(figure: Figure) -> dict[str, Any]:
    """Return a figure as the templates take it."""
    return {
        "name": figure.name,
        "title": figure.title,
        "alt": figure.alt,
        "caption": figure.caption,
        "columns": min(figure.columns, len(figure.panels), MAX_COLUMNS),
        "legend": [_key_view(key) for key in figure.legend],
        "panels": [_panel_view(panel, figure) for panel in figure.panels],
    }


def _panel_view(panel: Panel, figure: Figure) -> dict[str, Any]:
    return {
        "name": panel.name,
        "title": panel.title,
        "alt": figure.alt if len(figure.panels) == 1 else panel.title or figure.title,
        "height": min(layout.height for layout in panel.layouts) if panel.layouts else panel.height,
        "json": embedded(plotly_values(panel)),
    }


def _key_view(key: Key) -> dict[str, str]:
    return {
        "text": key.text,
        "number": str(key.mark.colour_number),
        "symbol": "" if key.shape == "line" else key.mark.symbol,
        "dash": "" if key.shape == "point" else DASHES[key.mark.dash],
    }


def _pictures_view(pictures: Pictures) -> dict[str, Any]:
    return {
        "name": pictures.name,
        "title": pictures.title,
        "alt": pictures.alt,
        "head": pictures.head,
        "caption": pictures.caption,
        "rows": [
            {
                "label": row.label,
                "cells": ["" if cell is None else _as_png(cell) for cell in row.cells],
            }
            for row in pictures.rows
        ],
        "scales": [
            {
                "title": bar.title,
                "low": f"{bar.limits[0]:.4g}",
                "high": f"{bar.limits[1]:.4g}",
                "colours": SCALE_COLOURS[bar.colours],
            }
            for bar in pictures.scales
        ],
    }


def _as_png(picture: np.ndarray) -> str:
    """Return a picture (height, width, 3) of uint8 as a data address."""
    buffer = io.BytesIO()
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) <= 256:  # one byte a pixel: maps in the colours of a scale, and classes
        image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
        image.putpalette(colours.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
    else:
        image = Image.fromarray(picture)
    image.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def palette(light: Sequence[str], dark: Sequence[str]) -> dict[str, str]:
    """Return what the page exchanges in dark mode."""
    return dict(zip((*light, *SCALE_LIGHT), (*dark, *SCALE_DARK), strict=True))
