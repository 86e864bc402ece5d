"""The suite of tests for engines, run over each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.engine.suite")

from musicgen_cli.engine import client
from musicgen_cli.engine.base import Origin
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.fleet import Fleet
from tests.engine.suite import EngineCase, EngineSuite
from tests.support.fake_engine import FakeEngine


def fake(_: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open the fake engine that other tests use."""
    yield EngineCase(FakeEngine(), FakeEngine, FakeEngine.origin, streams_sound=False)


def fleet(_: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open a fleet of two fake engines."""

    def open_fleet() -> Fleet:
        return Fleet([FakeEngine(), FakeEngine()], model="fake", max_outage_s=1, warn=pytest.fail)

    yield EngineCase(open_fleet(), open_fleet, FakeEngine.origin, streams_sound=False)


def service(fixtures: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open a client of a running service, which has the bundled model."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    from musicgen_cli.engine.onnx.engine import OnnxEngine
    from tests.support.services import Service

    nano, cache_dir = fixtures.getfixturevalue("nano"), fixtures.getfixturevalue("session_cache")
    running = Service(lambda: OnnxEngine(nano, cache_dir=cache_dir, threads=1, slots=4))
    assert running.ready.wait(60)

    def open_client() -> RemoteEngine:
        return RemoteEngine(running.url, timeout_s=60, max_wait_s=60)

    origin = Origin("http", model="nano", engine="onnx", precision="int8", device="cpu", url=running.url)
    yield EngineCase(
        open_client(), open_client, origin, draws_seeds=False, reports_every_step=False, streams_sound=False
    )
    running.end()


def onnx(fixtures: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open the bundled model on ONNX Runtime; the second engine has another number of threads."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("tokenizers", reason="needs the extra local")
    from musicgen_cli.engine.onnx.engine import OnnxEngine

    nano, cache_dir = fixtures.getfixturevalue("nano"), fixtures.getfixturevalue("session_cache")
    origin = Origin("local", model="nano", engine="onnx", precision="int8", device="cpu")
    yield EngineCase(
        fixtures.getfixturevalue("engine"), lambda: OnnxEngine(nano, cache_dir=cache_dir, threads=2), origin
    )


def native(fixtures: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open the bundled model with the native decoder; the second engine has another number of threads."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("tokenizers", reason="needs the extra local")
    from musicgen_cli.engine.native import library

    if not library.LIBRARY.exists():
        pytest.skip("the native library isn't built: `python -m native.compile`")
    from musicgen_cli.engine.native.engine import NativeEngine

    nano, cache_dir = fixtures.getfixturevalue("nano"), fixtures.getfixturevalue("session_cache")
    origin = Origin("local", model="nano", engine="native", precision="int8", device="cpu")
    engine = NativeEngine(nano, cache_dir=cache_dir, threads=1, slots=4)
    yield EngineCase(engine, lambda: NativeEngine(nano, cache_dir=cache_dir, threads=2), origin)
    engine.close()


def torch(fixtures: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open the bundled model on PyTorch; the second engine has another number of slots."""
    pytest.importorskip("torch", reason="needs the extra torch")
    pytest.importorskip("transformers", reason="needs the extra torch")
    from musicgen_cli.engine.torch.engine import TorchEngine

    nano = fixtures.getfixturevalue("nano")
    origin = Origin("local", model="nano", engine="torch", precision="fp32", device="cpu")
    engine = TorchEngine(nano, device="cpu")
    yield EngineCase(engine, lambda: TorchEngine(nano, device="cpu", slots=2), origin)
    engine.close()


@pytest.fixture(
    scope="module",
    params=[fake, fleet, service, onnx, native, pytest.param(torch, marks=pytest.mark.oracle, id="torch")],
)
def case(request: pytest.FixtureRequest) -> Iterator[EngineCase]:
    """Open one engine after the other; each runs the whole suite."""
    yield from request.param(request)


class TestEveryEngine(EngineSuite):
    """The suite, over each `case`."""

    @pytest.fixture(autouse=True)
    def _poll_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the client ask for progress while a short clip is generated."""
        monkeypatch.setattr(client, "_PROGRESS_S", 0.01)
