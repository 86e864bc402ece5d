"""Long takes, and takes that go on from sounds, with the model that comes with musicgen and one that can listen."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli import settings
from musicgen_cli.actions.jobs.job_queue import JobQueue
from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.store import Store
from tests.support.command_line import MUSICGEN, Run
from tests.support.fakes import exported, tone

NANO = ("--local", "--model", "nano")
WAIT_S = 120  # for what takes seconds on an idle machine


@pytest.fixture(autouse=True)
def _own_store(store_path: Path) -> None:
    """Give every test a store of its own."""


def pcm(wav: bytes) -> Any:
    """Return the samples of a 16-bit mono WAV."""
    return np.frombuffer(wav, "<i2", offset=inspect(wav).data_start).astype(int)


def generate(musicgen: Run, *words: object) -> dict[str, Any]:
    done = musicgen("generate", *words, "--json")
    assert done.code == 0, done.err
    record: dict[str, Any] = json.loads(done.out)
    return record


def poll(musicgen: Run) -> dict[str, Any]:
    done = musicgen("job", "poll", "--timeout-ms", "30000", "--mode", "all")
    result: dict[str, Any] = json.loads(done.out)
    return result


def test_a_take_goes_on_and_on(musicgen: Run, store_path: Path) -> None:
    """From a long one, twice: the samples of the source stay as they are, and the records tell what was read."""
    first = generate(musicgen, "calm ambient piano", "-d", "35", "--seed", "7", "--overlap", "5", *NANO)
    second = generate(musicgen, "--continue", "last", "-d", "2", *NANO)
    third = generate(musicgen, "--continue", second["id"][9:], "techno", "-d", "1.5", *NANO)
    store = Store(store_path)
    sounds = [pcm(store.read_blob(take)) for take in reversed([*store.newest(None)])]

    assert [take["duration"] for take in (first, second, third)] == [35.0, 37.0, 38.5]
    assert [take["requested_duration"] for take in (first, second, third)] == [35.0, 37.0, 38.5]
    assert (first["extra"]["windows"], first["extra"]["overlap"]) == (2, 5.0)
    assert second["extra"]["continue"] == {
        "id": first["id"], "content_hash": first["content_hash"], "duration": 35.0, "context_s": 28.0,
    }  # fmt: skip
    assert (second["prompt"], third["prompt"]) == ("calm ambient piano", "techno")
    assert (second["parent_id"], third["parent_id"]) == (first["id"], second["id"])
    for before, after in pairwise(sounds):
        kept = len(before) - 320  # the last 10 ms fade into the new sound
        assert np.array_equal(before[:kept], after[:kept])


def test_a_file_needs_a_model_that_can_listen(musicgen: Run, tmp_path: Path, listening: Checkpoint) -> None:
    """The bundled one says so; one with an audio encoder goes on from an import, and again from that take."""
    tune = tmp_path / "tune.wav"
    tune.write_bytes(tone(1.0))
    refused = musicgen("generate", "--continue", tune, "-d", "1", *NANO)
    local = ("--local", "--model", listening.directory)
    first = generate(musicgen, "--continue", tune, "-d", "1", *local)
    again = generate(musicgen, "--from", first["id"], *local)
    copy = generate(musicgen, "--continue", tune, "-d", "1", "--seed", first["seed"], *local)
    takes = musicgen("list", "-q").lines

    assert refused.code == 2
    assert "error: nano has no audio encoder, so it can only go on from takes that it made itself" in refused.err
    assert "hint: a model with an audio encoder can go on from any sound: `--model small`, for one" in refused.err
    assert again["content_hash"] == copy["content_hash"] == first["content_hash"]
    assert len(takes) == 4  # with one import
    record = json.loads(musicgen("show", first["parent_id"], "--json").out)
    assert (record["name"], record["origin"]["kind"], "phase:import" in record["tags"]) == ("tune", "import", True)


def test_a_continuation_is_exported_and_played_like_any_other(musicgen: Run, tmp_path: Path) -> None:
    """`-o` writes all of it, and so does standard output."""
    first = generate(musicgen, "piano", "-d", "1", "--seed", "1", *NANO)
    path = tmp_path / "longer.wav"
    generate(musicgen, "--continue", first["id"], "-d", "1", "-o", path, *NANO)

    assert inspect(exported(path)).duration == 2.0


def test_a_job_goes_on_from_a_sound(musicgen: Run, tmp_path: Path) -> None:
    """It makes what the command would have made at once; the file that it goes on from may be gone by then."""
    first = generate(musicgen, "piano", "-d", "1", "--seed", "1", *NANO)
    path = tmp_path / "tune.wav"
    assert musicgen("export", "last", "-o", path, "--no-metadata").code == 0
    words = ("--continue", path, "-d", "1", "--seed", "2", *NANO)
    queued = musicgen("generate", *words, "--detach", "-q")
    assert queued.code == 0, queued.err
    path.unlink()
    polled = poll(musicgen)
    at_once = generate(musicgen, "--continue", first["id"], "-d", "1", "--seed", "2", *NANO)

    result = polled["results"][queued.out.strip()]
    assert (result["output_hash"], result["duration"]) == (at_once["content_hash"], 2.0)
    take = json.loads(musicgen("show", result["artifact_id"], "--json").out)
    assert (take["parent_id"], take["extra"]) == (first["id"], at_once["extra"])


def test_a_job_whose_source_was_removed_meanwhile_fails_with_a_sentence(musicgen: Run, store_path: Path) -> None:
    """Its hint is true: `undo` and the same command make the take."""
    source = generate(musicgen, "piano", "-d", "1", "--seed", "1", *NANO)["id"]
    words = ("generate", "--continue", source, "-d", "1", "--seed", "2", *NANO)
    with JobQueue(Store(store_path), settings.state_dir()).as_runner():  # so that none is started yet
        id_ = musicgen(*words, "--detach", "-q").out.strip()
        assert musicgen("rm", source, "--yes").code == 0
    polled = poll(musicgen)
    job = json.loads(musicgen("job", "show", id_, "--json").out)
    assert musicgen("undo").code == 0

    assert polled["failed"] == [id_]
    assert (job["state"], job["error"]["code"]) == ("failed", "source-gone")
    assert job["error"]["message"] == f"{source}, which the take is made from, was removed"
    assert musicgen(*words).code == 0


def test_ctrl_c_stores_nothing_half(musicgen: Run, store_path: Path) -> None:
    """A take of ten minutes is stopped on its way."""
    musicgen("generate", "piano", "-d", "0.5", "-q", *NANO)
    words = [*MUSICGEN, "generate", "piano", "-d", "600", "-q", *NANO]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)  # it takes far longer
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_S)

    assert (process.returncode, out) == (130, ""), err
    assert len([*Store(store_path).newest(None)]) == 1
    assert len([*store_path.glob("blobs/*/*")]) == 1


@pytest.mark.parametrize(
    "wrong", [["--detach", "--play"], ["-o", "tune.wav"], ["-o", "x.aiff"], ["--precision", "int9"], ["--top-k", "-1"]]
)
def test_a_mistake_elsewhere_imports_nothing(
    musicgen: Run, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    """Whatever can be told before is told before."""
    monkeypatch.chdir(tmp_path)
    Path("tune.wav").write_bytes(tone(1.0))

    assert musicgen("generate", "--continue", "tune.wav", *wrong, *NANO).code in {1, 2}
    assert not store_path.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-d", "601"], 2, "duration must be 0.5-600 s, got 601"),
        (["--overlap", "30"], 2, "overlap must be 1-25 s, got 30"),
        (["--overlap", "long"], 2, "must be a number such as 0.5, got 'long'"),
        (["--continue", ""], 2, "must not be empty"),
        (["--continue", "x.wav"], 2, "there is no file 'x.wav'"),
        (["--continue", "last"], 3, "there is no last take: the store is empty"),
        (["--continue", "a", "--melody", "b"], 2, "continue and melody contradict each other"),
    ],
)
def test_what_cant_be_is_a_sentence(musicgen: Run, store_path: Path, words: list[str], code: int, message: str) -> None:
    """Before a model is loaded, and nothing is stored."""
    done = musicgen("generate", *words, *NANO)

    assert done.code == code
    assert message in done.err
    assert not store_path.exists()
