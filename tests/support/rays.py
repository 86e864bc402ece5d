"""A real Ray cluster of two nodes on this machine, with the service on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray import serve
from ray.cluster_utils import Cluster

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Clip, Inputs, ProgressListener
from musicgen_cli.service.cluster import Arguments, application, build
from tests.support.fake_engine import FakeEngine
from tests.support.programs import TOP
from tests.support.services import EngineView, ServiceClient

KEY = "a-key"
OBJECTS_BYTES = 100_000_000
_REQUESTS_FILE = "FAKE_ENGINE_REQUESTS"  # the environment variable that names it


class RecordingEngine(FakeEngine):
    """Writes each request to a file, because it runs in another process than the test."""

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        with Path(os.environ[_REQUESTS_FILE]).open("a") as file:
            file.write(request.model_dump_json() + "\n")
        return super().generate(request, listener, inputs)


class RecordedEngines:
    """What the test sees of the engines of all replicas."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def sound(request: GenerateRequest) -> bytes:
        return FakeEngine.sound(request)

    @property
    def requests(self) -> Sequence[GenerateRequest]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [GenerateRequest(**json.loads(line)) for line in lines]


class RayService(ServiceClient):
    """A client, with the key, of the service behind Ray Serve's proxy."""

    def __init__(self, url: str, engine: EngineView | None = None) -> None:
        super().__init__(url, headers={"Authorization": f"Bearer {KEY}"}, timeout_s=60)
        if engine is not None:
            self.engine = engine


class RayCluster:
    """Two nodes, with Ray Serve's proxy on the first."""

    def __init__(self, folder: Path) -> None:
        self._requests_file = folder / "requests"
        self._services: list[RayService] = []
        node = {"num_cpus": 2, "object_store_memory": OBJECTS_BYTES}
        inherited = {
            "PYTHONPATH": str(TOP),
            "RAY_USAGE_STATS_ENABLED": "0",
            _REQUESTS_FILE: str(self._requests_file),
        }
        with mock.patch.dict(os.environ, inherited):
            self._cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
            self._second = self._cluster.add_node(**node)
            ray.init(address=self._cluster.address, logging_level="warning", log_to_driver=False)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": self._port})

    def serve_fakes(self) -> RayService:
        """Serve fake engines."""
        with mock.patch.dict(os.environ, {"MUSICGEN_API_KEY": KEY}):
            return self._serve(application(RecordingEngine, Arguments(cpus=1)), RecordedEngines(self._requests_file))

    def serve_nano(self, **arguments: Any) -> RayService:
        """Serve the bundled model."""
        with mock.patch.dict(os.environ, {"MUSICGEN_API_KEY": KEY}):
            return self._serve(build(Arguments(model="nano", **arguments)))

    def _serve(self, application: Any, engine: EngineView | None = None) -> RayService:
        serve.run(application, name="musicgen", route_prefix="/")
        self._services.append(RayService(f"http://127.0.0.1:{self._port}", engine))
        return self._services[-1]

    def replicas(self) -> list[int]:
        """Return the process ids of the replicas."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"ray::ServeReplica:musicgen"):
                    pids.append(int(path.parent.name))
        return pids

    def kill_a_replica(self) -> None:
        os.kill(self.replicas()[0], signal.SIGKILL)

    def lose_a_node(self) -> None:
        self._cluster.remove_node(self._second)

    def end(self) -> None:
        for service in self._services:
            service.client.close()
        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()
