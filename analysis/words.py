"""Lists and numbers of things as a sentence holds them."""

from collections.abc import Sequence


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence holds them: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(number: int, one: str, many: str) -> str:
    """Return `1 priority`, `2 priorities`."""
    return f"{number} {one if number == 1 else many}"


def first_listed(parts: Sequence[str], most: int) -> str:
    """Return as `listed` does, of long lists only the first: a, b and 26 more."""
    left = len(parts) - most
    return listed(parts) if left <= 0 else f"{', '.join(parts[:most])} and {left} more"
