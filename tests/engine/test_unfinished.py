"""Clips that were cut off go on from their last window."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine.base import NO_INPUTS, Clip, Inputs, Origin, Recipe
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.unfinished import UnfinishedClips, key_of
from tests.support import clips
from tests.support.listeners import RaisingListener, RecordingListener
from tests.support.programs import environment
from tests.support.service_process import ServiceProcess
from tests.support.waiting import wait_until

ORIGIN = Origin("local", "nano", "onnx", "int8", "cpu")
KEY = "0" * 64
CODES = np.arange(4 * 1500, dtype=np.int64).reshape(4, 1500) % 2048
KNOWN: dict[str, Any] = {"codebooks": 4, "vocab": 2048, "ends": {900, 1500}}
TIMEOUT_S = 240


def test_codes_come_back(tmp_path: Path) -> None:
    """Until they are removed; the folder and the file are this user's alone."""
    clips_ = UnfinishedClips(tmp_path / "a" / "b")
    assert clips_.load(KEY, **KNOWN) is None
    clips_.remove(KEY)
    clips_.save(KEY, CODES[:, :900])
    clips_.save(KEY, CODES)

    codes = clips_.load(KEY, **KNOWN)
    assert codes is not None
    assert np.array_equal(codes, CODES)
    (path,) = (tmp_path / "a" / "b").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert path.stat().st_size < 12_100
    clips_.remove(KEY)
    assert clips_.load(KEY, **KNOWN) is None


@pytest.mark.parametrize(
    "known", [{"codebooks": 8}, {"vocab": 2047}, {"ends": {1499}}, {"codebooks": 0}, {"ends": set()}]
)
def test_codes_of_another_form_are_not_used(tmp_path: Path, known: dict[str, Any]) -> None:
    """Of another model, or that end where no window does."""
    kept = UnfinishedClips(tmp_path)
    kept.save(KEY, CODES)

    assert kept.load(KEY, **{**KNOWN, **known}) is None


def test_a_damaged_file_is_not_used(tmp_path: Path) -> None:
    """Whichever byte is wrong or missing; nor is one of another clip, of another user, a link or a pipe."""
    kept = UnfinishedClips(tmp_path)
    kept.save(KEY, CODES)
    path = tmp_path / f"{KEY}.codes"
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    damaged += [whole[:size] for size in (0, 1, 17, 22, 23, 55, len(whole) - 1)] + [whole + b"\0", whole * 1000]
    for content in damaged:
        path.write_bytes(content)
        assert kept.load(KEY, **KNOWN) is None
    path.write_bytes(whole)
    assert kept.load(KEY, **KNOWN) is not None

    (tmp_path / f"{'1' * 64}.codes").write_bytes(whole)
    assert kept.load("1" * 64, **KNOWN) is None
    path.chmod(0o666)
    assert kept.load(KEY, **KNOWN) is None
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.load(KEY, **KNOWN) is None
    path.unlink()
    os.mkfifo(path)
    assert kept.load(KEY, **KNOWN) is None


def test_the_folder_holds_a_bounded_number_for_some_days(tmp_path: Path) -> None:
    """The oldest go first, and what a crash has left goes too; other files stay."""
    kept = UnfinishedClips(tmp_path)
    old = time.time() - 8 * 24 * 3600
    for number in range(70):
        kept.save(f"{number:064}", CODES[:, :1])
        os.utime(tmp_path / f"{number:064}.codes", (old + 7.5 * 24 * 3600 + number,) * 2)
    (tmp_path / ".tmp-1-left").touch()
    os.utime(tmp_path / ".tmp-1-left", (old, old))
    (tmp_path / "other").touch()
    os.utime(tmp_path / "other", (old, old))
    kept.save(KEY, CODES)

    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 64 + 1
    assert "other" in names
    assert f"{KEY}.codes" in names
    assert f"{6:064}.codes" not in names


def test_a_folder_that_cant_be_written_costs_nothing(tmp_path: Path) -> None:
    """The clip is made all the same."""
    (tmp_path / "file").touch()
    kept = UnfinishedClips(tmp_path / "file")
    kept.save(KEY, CODES)

    assert kept.load(KEY, **KNOWN) is None


def test_a_key_depends_on_everything_that_codes_depend_on() -> None:
    """The client's own id is nothing of that."""
    request = clips.request()
    recipe = Recipe(request, NO_INPUTS, "a")
    keys = [
        key_of(ORIGIN, "a", request, NO_INPUTS),
        key_of(ORIGIN, "b", request, NO_INPUTS),
        key_of(Origin("local", "nano", "native", "int8", "cpu"), "a", request, NO_INPUTS),
        key_of(Origin("local", "nano", "onnx", "fp32", "cpu"), "a", request, NO_INPUTS),
        *(
            key_of(ORIGIN, "a", clips.request(**field), NO_INPUTS)
            for field in ({"seed": 2}, {"prompt": ""}, {"duration": 2.0}, {"top_k": 5}, {"do_sample": False})
        ),
        *(
            key_of(ORIGIN, "a", request, inputs)
            for inputs in (
                Inputs(overlap=2.0),
                Inputs(continue_wav=b"a"),
                Inputs(melody_wav=b"a"),
                Inputs(continue_wav=b"a", continue_offset_s=1),
                Inputs(continue_wav=b"a", recipe=recipe),
                Inputs(continue_wav=b"a", recipe=Recipe(request, NO_INPUTS, "b")),
                Inputs(continue_wav=b"a", recipe=Recipe(request, Inputs(recipe=recipe), "a")),
            )
        ),
    ]

    assert len(set(keys)) == len(keys)
    assert key_of(ORIGIN, "a", clips.request(client_job_id="x"), NO_INPUTS) == keys[0]


class Case:
    """An engine that keeps codes, and one that doesn't."""

    def __init__(self, checkpoint: Checkpoint, cache_dir: Path, folder: Path) -> None:
        self.plain = OnnxEngine(checkpoint, cache_dir=cache_dir, threads=1, slots=1)
        self.keeping = OnnxEngine(checkpoint, cache_dir=cache_dir, threads=1, slots=1)
        self.folder = folder
        self.keeping.unfinished = UnfinishedClips(folder)

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.exists() else []

    def check(self, cut_at: int, first_done: int, inputs: Inputs = NO_INPUTS, **fields: Any) -> Clip:
        """Cut a clip off at a step; the second try begins with `first_done` steps and has the usual bytes."""
        request = clips.request(**fields)
        whole = self.plain.generate(request, RecordingListener(), inputs)
        with pytest.raises(ZeroDivisionError):
            self.keeping.generate(request, RaisingListener(ZeroDivisionError(), at=cut_at), inputs)
        assert self.files()
        listener = RecordingListener()
        again = self.keeping.generate(request, listener, inputs)
        assert again.wav == whole.wav
        assert again.extra == whole.extra
        assert listener.steps[0][0] == first_done
        assert listener.steps[-1] == (listener.steps[-1][1],) * 2
        assert listener.pcm == whole.wav[44:]
        assert any("were made before" in note for note in listener.notes)
        assert self.files() == []
        return whole


@pytest.fixture
def case(nano: Checkpoint, session_cache: Path, tmp_path: Path) -> Case:
    return Case(nano, session_cache, tmp_path / "unfinished")


def test_a_clip_that_was_cut_off_goes_on_from_its_last_window(case: Case) -> None:
    """With the bytes of one that was made at once; then its codes are forgotten."""
    case.check(cut_at=2600, first_done=1503, duration=60.0, seed=3)


def test_a_clip_that_makes_its_source_again_goes_on_from_that(case: Case) -> None:
    """Each of its parts counts as a window."""
    first = case.plain.generate(clips.request(duration=2.0, seed=1), RecordingListener())
    recipe = Recipe(clips.request(duration=2.0, seed=1), NO_INPUTS, first.extra["checkpoint"])
    inputs = Inputs(continue_wav=first.wav, recipe=recipe)
    case.check(cut_at=120, first_done=103, inputs=inputs, duration=1.0, seed=2)


def test_a_clip_of_one_window_is_not_kept(case: Case) -> None:
    """It takes too little time to be worth it."""
    with pytest.raises(ZeroDivisionError):
        case.keeping.generate(clips.request(duration=30.0), RaisingListener(ZeroDivisionError(), at=1400))
    assert case.files() == []


def codes_in(cache: Path) -> list[Path]:
    return list((cache / "musicgen" / "unfinished").glob("*.codes"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_process_that_was_killed_between_windows(tmp_path: Path) -> None:
    """The same command with the same seed goes on, and stores what it would have stored."""
    env = {**environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    base = [sys.executable, "-m", "musicgen_cli", "generate", "calm piano", "-d", "100", "--seed", "7", "--local"]
    command = [*base, "--model", "nano"]

    def run(store: str) -> tuple[bytes, str]:
        result = subprocess.run(
            command, env={**env, "MUSICGEN_STORE": str(tmp_path / store)}, capture_output=True, timeout=TIMEOUT_S
        )
        assert result.returncode == 0, result.stderr
        (blob,) = (tmp_path / store).rglob("*.wav")
        return blob.read_bytes(), result.stderr.decode()

    killed = subprocess.Popen(command, env={**env, "MUSICGEN_STORE": str(tmp_path / "first")}, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: codes_in(tmp_path / "cache") or killed.poll() is not None, TIMEOUT_S)
    finally:
        killed.kill()
        _, said_before = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, said_before
    assert not list((tmp_path / "first").rglob("*.wav"))

    again, said = run("first")
    assert "were made before, by a try that was cut off" in said
    assert not codes_in(tmp_path / "cache")
    whole, said = run("second")
    assert "made before" not in said
    assert again == whole
    assert inspect(whole).frames == 100 * 32_000


def test_a_service_that_was_killed_between_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request goes on in the next process of the service; its client has to send it again."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = {"prompt": "calm piano", "duration": 100, "seed": 7}

    def start(number: int) -> ServiceProcess:
        return ServiceProcess(tmp_path / f"log{number}", "--max-duration", "600")

    first = start(1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(first.client.post, "/predict", json=body)
        try:
            wait_until(lambda: codes_in(tmp_path / "cache"), TIMEOUT_S)
        finally:
            first.process.kill()
            first.process.wait(TIMEOUT_S)
        with pytest.raises(httpx.HTTPError):
            answer.result(TIMEOUT_S)
    first.client.close()

    second = start(2)
    try:
        again = second.client.post("/predict", json={**body, "client_job_id": "again"}, timeout=TIMEOUT_S).json()
        assert not codes_in(tmp_path / "cache")
        whole = second.client.post("/predict", json=body, timeout=TIMEOUT_S).json()
    finally:
        log = second.stop()
    assert again["audio_base64"] == whole["audio_base64"]
    assert again["metadata"]["windows"] == whole["metadata"]["windows"] == 5
    assert "Traceback" not in log


def test_a_client_goes_on_when_the_service_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits while the service is restarted, and says so; the clip has the bytes that it has without that."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = ServiceProcess(tmp_path / "log1", "--max-duration", "600")
    url = f"http://127.0.0.1:{first.port}"
    client = RemoteEngine(url, timeout_s=TIMEOUT_S, max_wait_s=120)
    request = clips.request(duration=100.0, seed=8)
    listener = RecordingListener()
    with ThreadPoolExecutor(1) as pool:
        clip = pool.submit(client.generate, request, listener)
        try:
            wait_until(lambda: codes_in(tmp_path / "cache"), TIMEOUT_S)
        finally:
            first.process.kill()
            first.process.wait(TIMEOUT_S)
            first.client.close()
        wait_until(lambda: listener.notes, TIMEOUT_S)
        second = ServiceProcess(tmp_path / "log2", "--max-duration", "600", "--port", str(first.port))
        try:
            again = clip.result(TIMEOUT_S)
            assert again.wav == client.generate(request, RecordingListener()).wav
        finally:
            second.stop()
    assert re.search("broke before the answer was complete, trying again", listener.notes[0])
    assert not codes_in(tmp_path / "cache")
