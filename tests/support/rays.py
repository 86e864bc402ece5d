"""A real Ray cluster of two nodes on this machine, with our service on it."""

import contextlib
import json
import os
import signal
import socket
from pathlib import Path
from unittest import mock

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.service.cluster import Arguments, application, build
from tests.support.fake_engine import FakeEngine
from tests.support.programs import TOP

KEY = "a-key"
OBJECTS_BYTES = 100_000_000


class ToldEngine(FakeEngine):
    """Writes each request to a file, by which the test hears of it."""

    def generate(self, request, listener):
        with Path(os.environ["TOLD_TO"]).open("a") as told:
            told.write(request.model_dump_json() + "\n")
        return super().generate(request, listener)


class Told:
    """The engines of all replicas, as the test sees them."""

    sound = staticmethod(FakeEngine.sound)

    def __init__(self, path):
        self._path = path

    @property
    def requests(self):
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [GenerateRequest(**json.loads(line)) for line in lines]


class Service:
    """The service behind Serve's proxy, and a client of it that has the key."""

    def __init__(self, url, engine=None):
        self.url, self.engine = url, engine
        headers = {"Authorization": f"Bearer {KEY}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def post(self, body=None, **options):
        if isinstance(body, bytes):
            options.setdefault("headers", {}).setdefault("Content-Type", "application/json")
            return self.client.post("/predict", content=body, **options)
        return self.client.post("/predict", json={"duration": 0.5} | (body or {}), **options)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def counts(self):
        return self.get("/health").json()["queue"]


class Rays:
    """Two nodes, and Serve's proxy on the first."""

    def __init__(self, folder):
        self._told = folder / "told"
        self._services = []
        node = {"num_cpus": 2, "object_store_memory": OBJECTS_BYTES}
        inherited = {
            "PYTHONPATH": str(TOP),
            "RAY_USAGE_STATS_ENABLED": "0",
            "TOLD_TO": str(self._told),
        }
        with mock.patch.dict(os.environ, inherited):
            self._cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
            self._second = self._cluster.add_node(**node)
            ray.init(address=self._cluster.address, logging_level="warning", log_to_driver=False)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": self._port})

    def serve_fakes(self):
        with mock.patch.dict(os.environ, {"MUSICGEN_API_KEY": KEY}):
            return self._serve(application(ToldEngine, Arguments(cpus=1)), Told(self._told))

    def serve_nano(self, **arguments):
        with mock.patch.dict(os.environ, {"MUSICGEN_API_KEY": KEY}):
            return self._serve(build(Arguments(model="nano", **arguments)))

    def _serve(self, application, engine=None):
        serve.run(application, name="musicgen", route_prefix="/")
        self._services.append(Service(f"http://127.0.0.1:{self._port}", engine))
        return self._services[-1]

    def replicas(self):
        """Return the processes of the replicas."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"ray::ServeReplica:musicgen"):
                    found.append(int(path.parent.name))
        return found

    def kill_a_replica(self):
        os.kill(self.replicas()[0], signal.SIGKILL)

    def lose_a_node(self):
        self._cluster.remove_node(self._second)

    def end(self):
        for service in self._services:
            service.client.close()
        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()
