"""A held-out share of the training samples, for data sets that come without a validation split."""

import hashlib
from collections.abc import Sequence

from mtl.errors import UsageError, UserError


def hold_out(
    ids: Sequence[str], share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what stays in training and what is held out, both in the order of `ids`.

    An id's place in the lottery is a hash of seed and id: it is the same on every machine and in
    every version of numpy, and a sample more or less moves at most one other.

    Args:
        ids: distinct ids of the training samples.
        share: 0 holds nothing out; otherwise round(share * len(ids)) are, at least one.
        seed: of the lottery.

    Raises:
        UserError: if the share is not in [0, 1) or leaves nothing to train on.
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"Expected a validation share of at least 0 and below 1, got {share}. "
            "Give the part of the training samples to hold out, such as 0.1."
        )
    number = max(round(share * len(ids)), 1) if share > 0 else 0
    if number >= len(ids):
        raise UserError(
            f"Expected more training samples than the {number} to hold out, got {len(ids)}. "
            "Lower the validation share or give more samples."
        )
    held = set(sorted(ids, key=lambda name: _ticket(name, seed))[:number])
    return (
        tuple(name for name in ids if name not in held),
        tuple(name for name in ids if name in held),
    )


def _ticket(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
