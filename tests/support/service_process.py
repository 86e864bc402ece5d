"""A process of `musicgen serve` with the bundled model, for tests on the real thing."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.waiting import wait_until

TIMEOUT_S = 60


class ServiceProcess:
    """A process of `musicgen serve`, its log, and an honest client of it."""

    def __init__(self, log: Path, *options: str, files: int | None = None) -> None:
        """
        Start the service with `nano`, and wait until it is ready.

        Args:
            log: The file for its standard error.
            options: Of `musicgen serve`.
            files: How many files it may have open; as many as this process if None.
        """
        serve = [sys.executable, "-W", "error", "-m", "musicgen_cli", "serve", "--model", "nano", "--port", "0"]
        limit = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen([*limit, *serve, *options], stderr=stderr)
        self.port = int(wait_until(self._announced_port, TIMEOUT_S))
        self.client = self.client_from("127.0.0.1")

    def _announced_port(self) -> str:
        log = self.log.read_text()
        assert self.process.poll() is None, log
        match = re.search(r"serving on http://127\.0\.0\.1:(\d+)", log)
        return match[1] if match else ""

    def client_from(self, address: str) -> httpx.Client:
        """Return a client with an address of loopback; it keeps no connection, because idle ones may be closed."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.HTTPTransport(local_address=address, limits=limits)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", transport=transport, timeout=TIMEOUT_S)

    def connect(self, data: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        """Open a connection and send bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S, source_address=(address, 0))
        with contextlib.suppress(ConnectionError):  # the service may close it before it has read everything
            connection.sendall(data)
        return connection

    def generate(self) -> str:
        """Generate a clip for the honest client; return it as base64."""
        answer = self.client.post("/predict", json={"duration": 0.5, "seed": 1})
        assert answer.status_code == 200, answer.text
        sound: str = answer.json()["audio_base64"]
        return sound

    def memory_mb(self, *, peak: bool = False) -> float:
        """Return how much memory the service has, or has had at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) / 1024

    def files(self) -> int:
        """Return how many files the service has open, connections included."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208  # a folder that changes meanwhile

    def cpu_s(self) -> float:
        """Return the time that the service has computed."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> str:
        """Stop the service, which must end without an error, and return its log."""
        self.client.close()
        self.process.terminate()
        assert self.process.wait(TIMEOUT_S) == 0
        return self.log.read_text()

    def requests(self) -> int:
        """Return how many requests run or wait."""
        return self.count("running") + self.count("waiting")

    def count(self, name: str) -> int:
        count: int = self.client.get("/health").json()["queue"][name]
        return count
