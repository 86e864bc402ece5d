"""The one way from settings to an engine, pulling included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli import generate, settings
from musicgen_cli.actions.engines import (
    EngineConfig,
    LogReporter,
    check_local_options,
    configure,
    for_jobs,
    open_engine,
    prepare,
)
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NullListener
from musicgen_cli.errors import AbsentError, InvalidValueError, ModelAbsentError, UnknownModelError, UsageError
from tests.support.hubs import Hub, running_hub

MODEL = "someone/mine"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, write: Any) -> Iterator[Hub]:
    """Run a hub that has nano under another name."""
    with running_hub(monkeypatch) as running:
        running.publish(MODEL, write("published"))
        yield running


def test_a_model_that_is_absent_is_pulled_when_its_engine_is_opened(hub: Hub) -> None:
    """It is fetched once, and what happens is reported."""
    lines: list[str] = []
    config = EngineConfig(local=True, model=MODEL)
    engine = open_engine(config, LogReporter(lines.append), threads=1)
    clip = engine.generate(GenerateRequest(prompt="x", duration=0.5, seed=1), NullListener())
    engine.close()

    assert clip.origin.model == "someone--mine"
    assert any(line.startswith(f"downloading {MODEL}, revision ") for line in lines)
    requests = len(hub.requests)
    prepare(config, LogReporter(lines.append))
    assert len(hub.requests) == requests


def test_python_pulls_a_model_as_the_command_does(hub: Hub, store_path: Path) -> None:
    """`generate(local=True, model=…)` works where `generate --local --model …` does."""
    (artifact,) = generate("x", duration=0.5, local=True, model=MODEL)

    assert artifact.origin["model"] == "someone--mine"
    for model, error in (("nobody/nothing", UnknownModelError), ("large", ModelAbsentError)):
        with pytest.raises(error):
            generate("x", duration=0.5, local=True, model=model)


def test_a_service_needs_no_model(hub: Hub) -> None:
    """Nothing is fetched for it, whatever the setting of the model is."""
    loaded = settings.load({"model": MODEL, "url": "http://gpubox:2006"})
    config = configure(loaded)

    assert config == EngineConfig(local=False, url="http://gpubox:2006", timeout=600, max_wait=120)
    prepare(config, LogReporter(pytest.fail))
    assert hub.requests == []


def test_a_local_configuration_is_checked_before_anything_is_loaded() -> None:
    """Names that no backend has, and those that the chosen one hasn't."""
    loaded = settings.load({"local": True})

    assert configure(loaded, precision="fp32") == EngineConfig(local=True, precision="fp32")
    with pytest.raises(InvalidValueError, match="device must be one of"):
        configure(loaded, device="tpu")
    with pytest.raises(AbsentError, match="the engine onnx has no device 'cuda'"):
        configure(loaded, device="cuda")


def test_options_of_a_local_model_are_refused_for_a_service() -> None:
    """The message names the option and what it needs."""
    with pytest.raises(UsageError, match="--device needs --local"):
        check_local_options(settings.load(), {"model": None, "device": "cpu"})
    check_local_options(settings.load({"local": True}), {"device": "cpu"})


def test_a_job_gets_no_password_and_no_relative_path(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a job may be read by others, and its runner has another working directory."""
    with pytest.raises(UsageError, match="a job can't have an address with a password"):
        for_jobs(configure(settings.load({"url": "http://me:secret@gpubox"})))
    folder = write("mine")
    monkeypatch.chdir(tmp_path)

    assert for_jobs(EngineConfig(local=True, model="mine")).model == str(folder)
    assert for_jobs(EngineConfig(local=True, model="nano")).model == "nano"
