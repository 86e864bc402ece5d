"""The whole way, with nothing faked: the command, the service, the bundled model and a store on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.audio.wav import inspect, is_silent

pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("uvicorn", reason="needs the extra serve")

MUSICGEN = [sys.executable, "-m", "musicgen_cli"]


def musicgen(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MUSICGEN, *words], env=os.environ | env, capture_output=True, text=True, check=False)


def make_take(*words: str, **env: str) -> dict[str, Any]:
    """Make one take and return its record."""
    done = musicgen("generate", *words, "--json", **env)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`musicgen serve --model nano` on a free port, stopped by SIGTERM in the end."""
    log = tmp_path_factory.mktemp("service") / "log"
    with log.open("wb") as file:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MUSICGEN_")}
        child = subprocess.Popen([*MUSICGEN, "serve", "--model", "nano", "--port", "0"], stderr=file, env=env)
    give_up = time.monotonic() + 60
    while not (match := re.search(r"http://[\d.]+:\d+", log.read_text())):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    try:
        yield match[0]
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0, log.read_text()


@pytest.fixture
def url(service_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MUSICGEN_URL", service_url)
    return service_url


@pytest.mark.usefixtures("url")
def test_http_and_local_make_the_same_take(store_path: Path) -> None:
    """Byte for byte, and the same record but for id, origin, job id and times."""
    words = ("calm ambient piano", "-d", "1.5", "-g", "4", "--top-k", "100", "--seed", "11", "-t", "cue:menu")
    http, local = make_take(*words), make_take(*words, "--local", "--model", "nano")

    apart = {"id", "artifact_id", "created", "elapsed_s", "client_job_id", "origin"}
    assert {name: value for name, value in http.items() if name not in apart} == {
        name: value for name, value in local.items() if name not in apart
    }
    assert local["id"] == f"{http['id']}-2"
    for name in ("model", "engine", "precision", "device", "version"):
        assert http["origin"][name] == local["origin"][name]
    assert (http["origin"]["kind"], local["origin"]["kind"]) == ("http", "local")
    assert http["license"] == "MIT"
    (blob,) = store_path.glob("blobs/*/*.wav")
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.stem == http["content_hash"]


@pytest.mark.usefixtures("url", "store_path")
@pytest.mark.parametrize("where", [[], ["--local"]])
@pytest.mark.parametrize(("prompt", "seconds"), [("techno beat", 0.5), ("techno beat", 1.01), (None, 2.347)])
def test_the_length_is_exact_and_the_audio_is_not_silent(where: list[str], prompt: str | None, seconds: float) -> None:
    """Over HTTP and locally, with a prompt and without."""
    record = make_take(*([prompt] if prompt else []), "-d", str(seconds), "--seed", "3", *where)

    assert record["frames"] == round(seconds * 32_000)
    assert (record["sample_rate"], record["channels"]) == (32_000, 1)
    sound = Path(musicgen("show", record["id"], "--path").stdout.strip()).read_bytes()
    assert not is_silent(sound, inspect(sound))


@pytest.mark.usefixtures("url")
@pytest.mark.skipif(not shutil.which("jq"), reason="jq isn't installed")
def test_sixteen_processes_at_once_lose_nothing(store_path: Path) -> None:
    """Every printed id is listed once, and jq reads every line of the index."""
    words = [*MUSICGEN, "generate", "low drone", "-d", "0.5", "-q", "--max-wait", "100"]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(16)]
    printed = [child.communicate()[0].strip() for child in children]

    assert [child.returncode for child in children] == [0] * 16
    assert len(set(printed)) == 16
    assert sorted(musicgen("list", "--all", "-q").stdout.split()) == sorted(printed)
    read = subprocess.run(["jq", "-r", ".op", store_path / "index.jsonl"], capture_output=True, text=True, check=True)
    assert read.stdout.split() == ["head", *["put"] * 16]
    stats = json.loads(musicgen("store", "stats", "--json").stdout)
    assert (stats["artifacts"], stats["bad_lines"], stats["temporaries"]) == (16, 0, 0)


@pytest.mark.usefixtures("url", "store_path")
def test_the_service_names_the_values_that_it_clamped(service_url: str) -> None:
    """In the metadata of its answer, with the values that were asked for."""
    import httpx

    body = {"prompt": None, "duration": 0.1, "temperature": 9, "seed": 1}
    answer = httpx.post(f"{service_url}/predict", json=body, timeout=60).json()

    assert answer["metadata"]["clamped"] == {"duration": 0.1, "temperature": 9}
    assert answer["num_samples"] == 16_000
    health = httpx.get(f"{service_url}/health").json()
    assert (health["status"], health["service"], health["model"]) == ("ok", "musicgen", "nano")


def test_ctrl_c_between_two_steps_leaves_nothing(store_path: Path) -> None:
    """The exit code is 130 at once, and no take is stored."""
    words = ["generate", "x", "-d", "30", "-n", "8", "--local"]  # side by side, or a fast machine would be done
    child = subprocess.Popen([*MUSICGEN, *words], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while "nano" not in (line := child.stderr.readline()):  # then the model is chosen; loading follows, then steps
        assert "no native decoder" in line  # which is said once, and first
    time.sleep(1.5)
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 130
    assert time.monotonic() - started < 5
    child.stderr.close()
    assert not list(store_path.rglob("*.wav"))
    assert musicgen("list").stdout == ""


def test_onnx_runtime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """Its telemetry would leave a device id in the cache folder."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MUSICGEN_STORE": str(tmp_path / "store")}
    make_take("x", "-d", "0.5", "--local", **env)

    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["musicgen"]
