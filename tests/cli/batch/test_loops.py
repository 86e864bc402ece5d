"""`musicgen batch` cuts the files of its rows into loops."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.batches import RunRows, serving, takes_in
from tests.support.beats import beats
from tests.support.command_line import Run


def drums(body: dict[str, Any]) -> tuple[int, bytes]:
    """Answer with drums at 120 beats per minute, of the length that was asked for."""
    answer = fakes.good_answer(body)
    answer["audio_base64"] = base64.b64encode(beats(120, body["duration"])).decode()
    return 200, json.dumps(answer).encode()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    with serving(drums) as url:
        monkeypatch.setenv("MUSICGEN_URL", url)
        yield path


def seconds(path: Path) -> float:
    return round(inspect(path.read_bytes()).duration, 2)


def test_a_row_may_ask_for_a_loop(batch: RunRows, here: Path, store_path: Path) -> None:
    """Of some bars, for which its take is long enough; the take in the store is whole."""
    done = batch(
        "prompt,output,loop,bars,bpm\n"
        'drums 120 bpm,a.wav,TRUE,2,\n"drums, slower",b.wav,true,1.0,100\npiano,c.wav,,,\npiano,d.wav,false,1,120\n'
    )

    assert done.code == 0, done.err
    assert [seconds(here / f"{name}.wav") for name in "abcd"] == [4.0, 2.4, 0.5, 2.0]
    assert sorted(take.duration for take in takes_in(store_path)) == [0.5, 2.0, 3.4, 5.0]
    assert "wrote a.wav, loop: 2 bars at 120.0 bpm (measured, " in done.err
    assert "wrote b.wav, loop: 1 bar at 100.0 bpm (as given)" in done.err
    assert "wrote c.wav\n" in done.err


def test_all_files_of_a_batch_can_be_loops(batch: RunRows, here: Path) -> None:
    """Of all bars that fit, or of as many as the options say; a row may say otherwise."""
    rows = '{"prompt": "a", "output": "a.wav"}\n{"prompt": "b", "output": "b.wav", "loop": false}\n{"prompt": "c"}\n'
    done = batch(rows, "-d", "8", "--loop", "-o", "out", name="rows.jsonl")

    assert done.code == 0, done.err
    assert [seconds(here / "out" / f"{name}.wav") for name in "ab"] == [6.0, 8.0]
    (other,) = here.glob("out/c-*.wav")
    assert seconds(other) == 6.0
    assert batch('{"prompt": "a"}\n', "-d", "8", "--loop", "--bars", "1", "-o", "bar/", name="rows.jsonl").code == 0
    (bar,) = here.glob("bar/*.wav")
    assert seconds(bar) == 2.0


def test_a_file_is_cut_anew_when_its_row_is_changed(batch: RunRows, here: Path, store_path: Path) -> None:
    """From the stored take, in both directions, and also in a folder; a file that was edited stays."""
    for output in ("a.wav", "out/"):
        for loop, length in ((True, 4.0), (False, 5.0), (True, 4.0)):
            row = {"prompt": "a 120 bpm", "duration": 5, "seed": 1, "output": output, "loop": loop}
            for wrote in (1, 0):
                done = batch(json.dumps(row), name="rows.jsonl")
                assert (done.code, done.err.count("wrote")) == (0, wrote), done.err
            (file,) = here.glob(f"{output.removesuffix('a.wav')}*.wav")
            assert seconds(file) == length
    (here / "a.wav").write_bytes(file.read_bytes()[:-1] + b"\1")
    done = batch(json.dumps(row | {"output": "a.wav", "loop": False}), name="rows.jsonl")
    assert "kept 1 file, which is not as a batch wrote it" in done.err
    assert len(takes_in(store_path)) == 1


def test_failed_rows_keep_their_loops(batch: RunRows, here: Path, musicgen: Run) -> None:
    """The file of failed rows makes the same loops."""
    (here / "a.wav").write_bytes(b"somebody's")
    row = {"prompt": "a 120 bpm", "output": "a.wav", "loop": True, "bars": 1}
    done = batch(json.dumps(row), "--failed", "failed.jsonl", name="rows.jsonl")
    assert done.code == 1
    (here / "a.wav").unlink()
    assert musicgen("batch", "failed.jsonl").code == 0

    assert seconds(here / "a.wav") == 2.0


def test_a_loop_in_mp3_is_warned_of_once(batch: RunRows) -> None:
    """Not once for each row."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    done = batch("prompt,output\na,a.mp3\nb,b.mp3\n", "-d", "3", "--loop", "-q")

    assert done.code == 0, done.err
    assert done.err == "warning: mp3 adds silence at both ends, so a loop has a gap; wav, flac and ogg have none\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"loop": True}, "loop is about a file, and the row has no output"),
        ({"loop": "yes", "output": "a.wav"}, "loop must be true or false, got 'yes'"),
        ({"loop": True, "output": "a.wav", "bars": 1}, "1 bar need a tempo"),
        ({"loop": True, "output": "a.wav", "bpm": 1}, "bpm must be 30-300 beats per minute, got 1"),
        ({"prompt": "x 120 bpm", "bars": 4, "duration": 2}, "bars and duration contradict each other"),
        ({"bpm": 120}, "bpm needs bars"),
    ],
)
def test_a_row_that_cannot_be_cut_is_wrong(batch: RunRows, row: dict[str, object], message: str) -> None:
    """It is named with its line, before anything is made."""
    done = batch(json.dumps({"prompt": "a"} | row), name="rows.jsonl")

    assert done.code == 2
    assert f"line 1: {message}" in done.err


def test_a_take_that_is_too_short_for_its_loop_is_kept(batch: RunRows, here: Path, store_path: Path) -> None:
    """Its file alone fails, with a hint that is true: the same command again would fail again."""
    row = {"prompt": "a", "duration": 7, "output": "a.wav", "loop": True, "bars": 4}
    done = batch(json.dumps(row), name="rows.jsonl")

    assert done.code == 1
    assert "4 bars at 120.0 bpm take 8.00 s, the take has 7.00 s" in done.err
    assert "hint: once these rows are changed, the same command again makes what is missing" in done.err
    assert len([*Store(store_path).newest(None)]) == 1
    assert not (here / "a.wav").exists()


def test_wrong_options_for_loops_are_one_error(batch: RunRows) -> None:
    """The error is not repeated for each row."""
    for words, message in (
        (["--bars", "4"], "bars and duration contradict each other"),
        (["--bars", "0", "--loop"], "bars must be a whole number"),
    ):
        done = batch("a\nb\n", *words)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert message in done.err
