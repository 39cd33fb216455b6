"""Ray's processes out of reach of what is sent to the driver's process group."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ray._private import services, utils


class _OwnSession(services.ConsolePopen):
    """A process of Ray that leads a session of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, start_new_session=True)


@contextlib.contextmanager
def sessions_of_their_own() -> Iterator[None]:
    """Start the processes of Ray that start meanwhile in sessions of their own.

    Ray only shields them from SIGINT. A stop signal to the driver's process group, as `timeout` and
    batch systems send it, would end them under a driver that wants to stop in order. They still go
    with a driver that is killed: the kernel tells them of it by PR_SET_PDEATHSIG, whatever their
    session. Where it cannot, Ray ends the driver's process group instead, and they stay in it.
    """
    if not utils.detect_fate_sharing_support():
        yield
        return
    rays_own = services.ConsolePopen
    services.ConsolePopen = _OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = rays_own  # type: ignore[misc]
