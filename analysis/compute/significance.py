"""What a permutation test of whole seeds can attain, before any result; imports no library.

With n seeds there are 2^n permutations, and the two most extreme ones (everything exchanged turns
the sign) give the minimum attainable p-value.
"""

from collections.abc import Sequence

SIGNIFICANCE = 0.05
"""A winner is named only below this p (after Holm where several pairs are compared); with one
pair that takes at least 6 seeds."""
MAX_ENUMERATED = 2**13
"""Permutations of whole seeds are enumerated up to this many (13 seeds); beyond, as many are
drawn."""


def minimum_p(num_seeds: int) -> float:
    """Return the minimum attainable two-sided p-value of a test of so many whole seeds."""
    if 2**num_seeds <= MAX_ENUMERATED:
        return min(1.0, 2 / 2**num_seeds)
    return 1 / MAX_ENUMERATED  # of drawn permutations one is the observed one


def min_seeds(num_comparisons: int) -> int | None:
    """Return the fewest seeds with which one of so many comparisons could be significant.

    After Holm, whose first step multiplies the smallest p by their number. None where that is out
    of reach for any number of seeds.
    """
    numbers = range(1, MAX_ENUMERATED.bit_length() + 1)  # from then on it is the same
    return next((n for n in numbers if num_comparisons * minimum_p(n) < SIGNIFICANCE), None)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979, step-down), in their order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
