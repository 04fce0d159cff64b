"""An object store that speaks S3 on this machine's loopback: SeaweedFS in one process, with one user."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
KEY, SECRET = "reader", "a secret of the tests"
PARTS = ("master", "volume", "filer", "s3")
USER = {
    "name": KEY,
    "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
PORTS = range(15_000, 32_000)  # below those the kernel lends to outgoing connections
PATIENCE_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server: the folder of its data and, by part, its ports for HTTP and for gRPC.

    clients: those that fsspec made for it, each of which takes a quarter of a second to make.
    """

    place: Path
    ports: dict[str, int]
    grpc: dict[str, int]
    clients: dict[str, object] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads every S3 client to this server, whatever the account's own settings are."""
        nothing = str(self.place / "none")
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    @property
    def options(self) -> dict[str, str]:
        """The same for one fsspec file system: `fsspec.filesystem("s3", **server.options)`."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.endpoint}

    def url(self, bucket: str) -> str:
        """A bucket's URL. S3 wants names of 3 to 63 lower-case letters, digits and hyphens."""
        return f"s3://{bucket}"

    def create(self, bucket: str) -> str:
        """The URL of a new, empty bucket."""
        import fsspec  # type: ignore[import-untyped]

        fsspec.filesystem("s3", **self.options).mkdir(bucket)
        return self.url(bucket)

    @property
    def sockets(self) -> list[Path]:
        """Socket files the server makes outside its folder, and leaves when it is killed."""
        return [Path("/tmp") / f"seaweedfs-{part}-grpc-{port}.sock" for part, port in self.grpc.items()]

    @property
    def line(self) -> list[str]:
        """The command, to be run in `place`."""
        ports = [f"-{part}.port={port}" for part, port in self.ports.items()]
        grpc = [f"-{part}.port.grpc={port}" for part, port in self.grpc.items()]
        return [
            *(str(program()), "-logtostderr=true", "server", f"-ip={HOST}", f"-ip.bind={HOST}", "-dir=."),
            *("-master.telemetry=false", "-master.peers=none", "-master.volumeSizeLimitMB=64", "-volume.max=1000"),
            *("-s3", "-s3.config=s3.json", "-s3.iam=false", "-s3.autoCreateBucket=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
            *(*ports, *grpc),
        ]

    def ready(self) -> bool:
        """Whether buckets can be made and bytes have a volume to go to."""
        return answers(f"{self.endpoint}/status") and answers(f"http://{HOST}:{self.ports['master']}/dir/assign")


def program() -> Path | None:
    """The server's binary, from this interpreter's environment or else from the path."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    return Path(found) if found else None


def answers(url: str) -> bool:
    """Whether a GET on loopback succeeds within a second."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1):
            return True
    except OSError:
        return False


def free(port: int) -> bool:
    """Whether nobody holds the port."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different ports, free a moment ago."""
    return [port for port in random.SystemRandom().sample(PORTS, 20 * count) if free(port)][:count]


def start(server: S3Server) -> subprocess.Popen[bytes]:
    """The process, in a group of its own, writing `log`. One volume per bucket, not the usual seven."""
    (server.place / "s3.json").write_text(json.dumps({"identities": [USER]}))
    environment = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    with (server.place / "log").open("wb") as log:
        return subprocess.Popen(
            server.line,
            cwd=server.place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Until the server can be used. RuntimeError, with the end of its log, if it stops or takes too long."""
    until = time.monotonic() + PATIENCE_S
    while not server.ready():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"weed did not start:\n{(server.place / 'log').read_text()[-2000:]}")
        time.sleep(0.05)


@contextmanager
def serving(place: Path) -> Iterator[S3Server]:
    """A server with its data in the empty folder `place`, killed when the block ends."""
    ports = free_ports(2 * len(PARTS))
    server = S3Server(place, dict(zip(PARTS, ports, strict=False)), dict(zip(PARTS, ports[len(PARTS) :], strict=True)))
    process = start(server)
    try:
        wait(server, process)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in server.sockets:
            path.unlink(missing_ok=True)
