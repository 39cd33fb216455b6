"""Ticks of logarithmic axes."""

import math


def log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return about three to eight ticks between two positive numbers of a logarithmic axis.

    Over less than a decade as on a plain axis, beyond at 1, 2 and 5 or at powers of ten: plotly and
    matplotlib alike leave a narrow logarithmic axis with one number or none.
    """
    decades = math.log10(high / low)
    if decades < 0.9:
        rough = (high - low) / 5
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
        values = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        digits = max(0, -math.floor(math.log10(step)))
        form = f".{digits}f" if digits < 5 else "g"
        return tuple((value, f"{value:{form}}") for value in values)
    factors = (1, 2, 5) if decades <= 2.5 else (1,)
    stride = max(1, math.ceil(decades / 7))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**power for power in powers if power % stride == 0 for m in factors]
    return tuple((value, f"{value:g}") for value in values if low <= value <= high)
