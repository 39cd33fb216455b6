"""Durations, sizes and runs as people read them."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mtl.spec import Spec, method_text

Range = tuple[float, float]
"""Low and high, in seconds."""

_NAMED = ("method", "tasks", "priorities", "seed", "mixed_between")

_EXCEPTION = re.compile(r"((?:\w+\.)+)(\w+: )")
"""How a traceback's last line begins, unless the exception is one of Python's own."""


def duration(seconds: float) -> str:
    """Return `seconds` in at most two units: `45 s`, `3 min 20 s`, `5 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def duration_range(seconds: Range) -> str:
    """Return a range of durations, or one where both ends read alike."""
    low, high = duration(seconds[0]), duration(seconds[1])
    return low if low == high else f"{low} to {high}"


def size(num_bytes: float) -> str:
    """Return `num_bytes` in decimal units: `12 kB`, `3.4 MB`."""
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def priorities_text(spec: Spec) -> str:
    """Return the priorities in the order of the tasks, `0.17 / 0.83`, or a dash."""
    return "-" if spec.priorities is None else " / ".join(f"{p:.3g}" for p in spec.priorities)


def run_text(spec: Spec, varies: Iterable[str] = ()) -> str:
    """Return what tells a run from its neighbours in a few words.

    Args:
        spec: of the run.
        varies: dotted fields in which the runs of its plan differ; they are named.
    """
    pairs = zip(spec.tasks, spec.priorities or [None] * len(spec.tasks), strict=True)
    tasks = ", ".join(task if p is None else f"{task} {p:.3g}" for task, p in pairs)
    fields = {name: _field(spec, name) for name in varies if name not in _NAMED}
    others = "".join(
        f", {name.removeprefix('params.')} {value}"
        for name, value in fields.items()
        if value is not None
    )
    return f"{method_text(spec)}, {tasks}, seed {spec.seed}{others}"


def _field(spec: Spec, dotted: str) -> Any:
    value: Any = spec
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
    return value


def run_label(run_id: str, spec: Spec) -> str:
    """Return a run's name where there is room for one line: id, method, priorities and seed."""
    return f"{run_id} {method_text(spec)} {priorities_text(spec)} seed {spec.seed}"


def failure_sentence(error: str | None) -> str:
    """Return the last line of a recorded failure as a sentence, without the exception's module.

    Our own exceptions hold a sentence, so their name is left out as well; empty for no failure.
    """
    lines = (error or "").strip().splitlines()
    if not lines:
        return ""
    text, begin = lines[-1], _EXCEPTION.match(lines[-1])
    if begin is not None:
        text = text[begin.end() if begin[1].startswith("mtl.") else begin.end(1) :]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
