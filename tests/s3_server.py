"""Object storage for tests: a server on the loopback, and a proxy that spoils connections.

The server is moto's, or the one that MTL_S3_SERVER names: `KEY:SECRET@PORT` of this machine.

    python -m tests.s3_server PORT [SECONDS]    moto's, which answers each request after SECONDS
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from mtl.store import Store
from mtl.store.clients import S3Client
from mtl.store.objects import ObjectStorage

BUCKET = "bucket"


@dataclass(frozen=True)
class S3Server:
    """Where a server is, and what a client needs."""

    port: int
    key: str = "test"
    secret: str = "test"
    is_moto: bool = True

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which a client finds credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> None:
        """Make the bucket of the tests unless it is there."""
        client = boto3.session.Session().client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1",
            aws_access_key_id=self.key, aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        with contextlib.suppress(
            client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
        ):
            client.create_bucket(Bucket=BUCKET)

    def address(self, prefix: str, *, port: int | None = None, bucket: str = BUCKET) -> str:
        """Return the address of a prefix, by way of `port` if a proxy is there."""
        options = f"endpoint_override=127.0.0.1:{port or self.port}&scheme=http&region=us-east-1"
        return f"s3://{bucket}/{prefix}?{options}"

    @contextlib.contextmanager
    def refusing_all(self) -> Iterator[None]:
        """Refuse everybody meanwhile: the server knows nobody's credentials."""
        if not self.is_moto:
            pytest.skip("only moto forgets whom it knows")
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
def running_s3_server(seconds: float = 0.0) -> Iterator[S3Server]:
    """Start a server with a bucket, which answers after `seconds`; end it after."""
    named = os.environ.get("MTL_S3_SERVER")
    if named:
        account, _, port = named.rpartition("@")
        server = S3Server(int(port), *account.split(":"), is_moto=False)
        server.make_bucket()
        yield server
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server", str(port), str(seconds)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    ) as process:
        try:
            _wait_for(port)
            server = S3Server(port)
            server.make_bucket()
            yield server
        finally:
            process.kill()


def serve(port: int, seconds: float) -> None:
    """Run moto's server until this process is killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(seconds)
        if {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}.isdisjoint(environ):
            return moto(environ, start_response)
        with one_at_a_time:  # moto looks and writes then, where S3 does both in one
            return moto(environ, start_response)

    run_simple("127.0.0.1", port, answer, threaded=True)


@contextlib.contextmanager
def counted(store: Store) -> Iterator[Counter[str]]:
    """Count the requests of this process to the server of a store, by operation of S3."""
    assert isinstance(store.storage, ObjectStorage)
    assert isinstance(store.storage._client, S3Client)
    events = store.storage._client.boto3.meta.events
    counts: Counter[str] = Counter()

    def count(event_name: str, **_: object) -> None:
        counts[event_name.rpartition(".")[2]] += 1

    events.register("before-send.s3", count)
    try:
        yield counts
    finally:
        events.unregister("before-send.s3", count)


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


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
