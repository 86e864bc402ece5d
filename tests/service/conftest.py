"""Services over a fake engine: on uvicorn, on a free port of loopback, and on Ray Serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from musicgen_cli.engine.base import Engine
from musicgen_cli.service.log import KeyValueFormatter
from tests.support.fake_engine import FakeEngine
from tests.support.services import FakeService, Logged, ServiceClient, StartService

if TYPE_CHECKING:
    from tests.support.rays import RayCluster


@pytest.fixture
def start() -> Iterator[StartService]:
    """Start services that end with the test."""
    services: list[FakeService] = []

    def start_service(
        engine: FakeEngine | None = None, *, make_engine: Callable[[], Engine] | None = None, **options: Any
    ) -> FakeService:
        services.append(FakeService(engine, make_engine=make_engine, **options))
        return services[-1]

    yield start_service
    for service in services:
        service.end()


@pytest.fixture
def service(start: StartService) -> FakeService:
    """Start a service with the default options."""
    return start()


@pytest.fixture(scope="module")
def start_shared() -> Iterator[Callable[..., FakeService]]:
    """Start services that the tests of a module share, because they leave nothing behind in them."""
    services: list[FakeService] = []

    def start_service(**options: Any) -> FakeService:
        services.append(FakeService(**options))
        return services[-1]

    yield start_service
    for service in services:
        service.end()


@pytest.fixture(scope="module", params=["uvicorn", "ray"])
def shared(request: pytest.FixtureRequest) -> ServiceClient:
    """Share a service with the default options: in this process, and in replicas on Ray Serve."""
    if request.param == "uvicorn":
        service: ServiceClient = request.getfixturevalue("start_shared")()
        return service
    pytest.importorskip("ray", reason="needs the extra cluster")
    cluster: RayCluster = request.getfixturevalue("ray_cluster")
    return cluster.serve_fakes()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Start Ray with two nodes on this machine."""
    from tests.support.rays import RayCluster

    cluster = RayCluster(tmp_path_factory.mktemp("ray"))
    yield cluster
    cluster.end()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Return the lines of the log so far that contain some words."""
    caplog.set_level("INFO", "musicgen_cli.service")

    def lines(*words: str) -> list[str]:
        formatted = (KeyValueFormatter().format(record) for record in caplog.records)
        return [line for line in formatted if all(word in line for word in words)]

    return lines
