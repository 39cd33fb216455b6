"""Object storage for tests: moto's server on the loopback, and a proxy that spoils connections."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyarrow import fs

BUCKET = "bucket"


@dataclass(frozen=True)
class S3Server:
    """Where a server is, and what a client needs."""

    port: int
    environment: dict[str, str] = field(
        default_factory=lambda: {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )

    def address(self, prefix: str, *, port: int | None = None, bucket: str = BUCKET) -> str:
        """Return the address of a prefix, by way of `port` if a proxy is there."""
        options = f"endpoint_override=127.0.0.1:{port or self.port}&scheme=http&region=us-east-1"
        return f"s3://{bucket}/{prefix}?{options}"

    @contextlib.contextmanager
    def refusing_all(self) -> Iterator[None]:
        """Refuse everybody meanwhile: the server knows nobody's credentials."""
        self._authenticate_after(b"0")
        try:
            yield
        finally:
            self._authenticate_after(b"inf")

    def _authenticate_after(self, requests: bytes) -> None:
        url = f"http://127.0.0.1:{self.port}/moto-api/reset-auth"
        request = urllib.request.Request(url, data=requests, headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start a server with a bucket; end it after."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for(port)
            filesystem = fs.S3FileSystem(
                access_key="test", secret_key="test", scheme="http", region="us-east-1",
                endpoint_override=f"127.0.0.1:{port}", allow_bucket_creation=True,
            )  # fmt: skip
            filesystem.create_dir(BUCKET)
            yield S3Server(port)
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class Proxy:
    """Passes connections on to a port of this machine, slowly or in part.

    `delay` is in seconds, before anything is passed on. Once `bytes_left` have gone to the server,
    every connection is cut, then and later, until it is None again.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay = 0.0
        self.bytes_left: int | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            time.sleep(self.delay)
            if self.bytes_left is not None and self.bytes_left <= 0:
                return
            with socket.create_connection(("127.0.0.1", self._to)) as server:
                back = threading.Thread(target=_pour, args=(server, client), daemon=True)
                back.start()
                while data := client.recv(4096):
                    if self.bytes_left is not None:
                        self.bytes_left -= len(data)
                        if self.bytes_left <= 0:
                            _shut(client)
                            _shut(server)
                            return
                    server.sendall(data)
                _shut(server)
                back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
