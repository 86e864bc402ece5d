"""`musicgen batch` makes only what is missing, also after it was killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.batches import Answer, RunRows, good, serving, takes_in
from tests.support.command_line import MUSICGEN, Run


@pytest.mark.usefixtures("url")
def test_a_stored_take_is_not_made_again(batch: RunRows, store_path: Path) -> None:
    """Equal rows are as many takes, and random seeds make no difference; `--run` and `--redo` make all again."""
    lines = "piano\npiano\ntechno\n"
    assert len(batch(lines, "-q").lines) == 3

    again = batch(lines)
    assert (again.code, again.out) == (0, "")
    assert "skipped 3 that are in the store" in again.err
    assert "--redo" in again.err
    assert "--run" in again.err
    assert len(batch(lines + "piano\n", "-q").lines) == 1
    assert len(batch(lines, "-q", "--run", "monday").lines) == 3
    assert batch(lines, "-q", "--run", "monday").lines == []
    assert len(batch(lines, "-q", "--redo").lines) == 3
    assert len({take.seed for take in takes_in(store_path)}) == 10
    Store(store_path).remove(["last"])
    assert batch(lines, "-q").lines == []  # the same request was made before, too


def test_another_model_makes_takes_of_its_own(batch: RunRows) -> None:
    """The service names its model; a service that names none counts as one more model."""
    for model, expected in (("nano", 1), ("small", 1), (None, 1), ("nano", 0), (None, 0)):
        with serving(lambda body: (200, json.dumps(_without_model(body)).encode()), model=model) as url:
            assert len(batch("x\n", "-q", "--url", url).lines) == expected


@pytest.mark.timeout(600)
def test_rows_that_are_changed_after_a_kill_get_their_files(tmp_path: Path, store_path: Path) -> None:
    """
    The loop of a game's developer: 400 rows, killed at 70, ten of them changed, run again.

    In the end each file has the sound of its row, nothing is in the way, and no hint says otherwise.
    """
    rows, out = tmp_path / "cues.csv", tmp_path / "out"
    seeds = {f"{i % 3}/cue{i}.wav": i for i in range(400)}

    def write() -> None:
        rows.write_text("prompt,seed,output\n" + "".join(f"cue,{seed},{name}\n" for name, seed in seeds.items()))

    write()
    with serving(good) as url:
        words = [*MUSICGEN, "batch", str(rows), "-o", str(out), "-d", "0.5", "--url", url]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 300
        while len([*out.rglob("*.wav")]) < 70:
            assert child.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.005)
        child.kill()
        assert child.wait(60) == -signal.SIGKILL
        for name in [*seeds][5::40]:
            seeds[name] += 500
        write()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        again = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "hint" not in done.stderr
    sounds = {take.seed: take.content_hash for take in takes_in(store_path)}
    assert len({*sounds.values()}) == len(sounds) >= 400
    files = {str(path.relative_to(out)): sha256(fakes.exported(path)).hexdigest() for path in out.rglob("*.wav")}
    assert files == {name: sounds[seed] for name, seed in seeds.items()}
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing is left to do" in again.stderr


def _without_model(body: dict[str, Any]) -> dict[str, Any]:
    return fakes.good_answer(body, metadata={"seed": body["seed"]})


def test_failed_rows_can_be_run_from_their_file(
    batch: RunRows, musicgen: Run, store_path: Path, tmp_path: Path
) -> None:
    """They make the same takes as the whole batch would. A file with anything but rows in it is not replaced."""
    failing = True

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        if failing and body["prompt"] == "b":
            return 500, b'{"detail": "out of luck"}'
        return good(body)

    failed = tmp_path / "failed.jsonl"
    lines = '{"prompt": "a"}\n{"prompt": "b", "variations": 2, "tags": ["x"]}\n{"prompt": "b"}\n'
    with serving(answer) as url:
        words = ("--url", url, "--failed", failed, "--sweep", "top_k=10,20")
        done = batch(lines, *words, "--json")
        assert done.code == 1
        assert "6 of 8 failed" in done.err
        assert json.loads(done.lines[-1])["error"]["message"] == "the service answered 500: out of luck"
        assert len(failed.read_text().splitlines()) == 6
        failing = False
        assert musicgen("batch", failed, "--url", url, "--failed", failed).code == 1
        done = musicgen("batch", failed, "--url", url, "-q")
        assert (done.code, len(done.lines)) == (0, 6), done.err
        assert batch(lines, *words).out == ""
        assert failed.read_text() == ""
        failed.write_text("precious\n")
        assert batch(lines, *words).code == 1
    assert failed.read_text() == "precious\n"
    takes = [take for take in takes_in(store_path) if "x" in take.tags]
    assert sorted((take.params["top_k"], take.variation_index) for take in takes) == [
        (10, 0),
        (10, 1),
        (20, 0),
        (20, 1),
    ]
    assert len({take.variation_set_id for take in takes}) == 2


def flaky(chance: random.Random) -> Answer:
    def answer(body: dict[str, Any]) -> tuple[int, bytes] | None:
        match chance.randrange(12):
            case 0:
                return 429, b""
            case 1:
                return 503, b'{"detail": "Service is busy"}'
            case 2:
                return 500, b'{"detail": "Internal server error"}'
            case 3:
                return None
            case 4:
                return 200, b"\x00\xff not json"
            case 5:
                return 200, good(body)[1].replace(b"UklGR", b"AAAAA")
        return good(body)

    return answer


def test_a_batch_that_is_killed_twice_makes_each_take_once(tmp_path: Path, store_path: Path) -> None:
    """Of 200 rows, with a service that fails in many ways, none is lost or made twice."""
    rows = tmp_path / "rows.csv"
    rows.write_text("prompt,seed\n" + "".join(f"prompt {i},{i}\n" for i in range(150)) + "the same,\n" * 50)
    index = store_path / "index.jsonl"
    with serving(flaky(random.Random(1))) as url:
        words = [*MUSICGEN, "batch", str(rows), "-d", "0.5", "--url", url, "--jobs", "4", "--retry", "30", "-q"]
        for line_count in (60, 120):
            child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            give_up = time.monotonic() + 60
            while not index.exists() or index.read_bytes().count(b"\n") < line_count:
                assert child.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
            child.kill()
            assert child.wait(60) == -signal.SIGKILL
        before = len(takes_in(store_path))
        done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    takes = takes_in(store_path)
    assert len(done.stdout.split()) == len(takes) - before
    assert len(takes) == len({take.fingerprint for take in takes}) == 200
    assert sorted(take.params["seed"] for take in takes if take.prompt != "the same") == [*range(150)]
    assert Store(store_path).stats().bad_lines == 0
