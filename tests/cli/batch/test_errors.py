"""`musicgen batch` checks rows, options and files before anything is made, and reports what fails later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from tests.support.batches import RunRows, good, serving, takes_in
from tests.support.command_line import Run


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"promt": "x"}', "unknown field 'promt', the nearest known one is 'prompt'"),
        ('{"duration": 601, "top_k": 1.5}', "duration must be 0.5-600 s, got 601; top_k must be a whole number"),
        ('{"prompt": 5}', "prompt must be text, got 5"),
        ('{"prompt": "a\\u0000"}', "prompt must not contain control characters"),
        ('{"prompt": "\\ud800"}', "it is not one whole JSON object"),
        ('{"prompt": "' + 2001 * "x" + '"}', "prompt must be at most 2000 characters"),
        ('{"seed": "7"}', "seed must be a whole number"),
        ('{"seed": 9007199254740991, "variations": 2}', "seed must be 0-9007199254740991 for every variation"),
        ('{"variations": 65}', "variations must be a whole number, 1-64, got 65"),
        ('{"variations": true}', "variations must be a whole number"),
        ('{"tags": ["a,b"]}', "tag"),
        ('{"tags": 5}', "tags must be a list of texts"),
        ('{"creator": ""}', "creator must be 1-128"),
        ('{"creator": 1}', "creator must be text"),
        ('{"variation_set_id": " "}', "variation_set_id must be"),
        ('{"output": "x.opus"}', "no export to"),
        ('{"output": "x.wav", "variations": 2}', "several takes can't go into the one file"),
        ('{"output": "first.wav"}', "output 'first.wav' is also that of line 1"),
        ('{"client_job_id": "a b"}', "client_job_id must be"),
        ('{"parent_id": "deadbeef"}', "no take matches 'deadbeef'"),
        ('{"occurrence": -1}', "occurrence must be a whole number, 0 or more"),
        ('{"prompt": "first", "occurrence": 0}', "line 1 has the same request and the same occurrence"),
        ("{", "it is not one whole JSON object"),
    ],
)
def test_wrong_rows_are_reported_before_anything_is_made(
    batch: RunRows, service: HTTPServer, store_path: Path, row: str, message: str
) -> None:
    """Each row is reported with its line, the exit code is 2, and nothing is sent or stored."""
    lines = f'{{"prompt": "first", "output": "first.wav"}}\n{row}\n\n{row}\n'
    done = batch(lines)

    assert (done.code, done.out) == (2, "")
    errors = done.err.splitlines()
    assert message in errors[0]
    assert errors[0].startswith("error: line 2: ")
    assert errors[1].startswith("error: line 4: ")
    assert errors[2:] == ["error: 2 rows are wrong, nothing was made", "hint: `--skip-invalid` makes the valid ones"]
    assert service.log == []
    assert not store_path.exists()


def test_rows_that_are_all_wrong_can_not_be_left_out(batch: RunRows) -> None:
    """The hint about it is not given."""
    done = batch('{"seed": -1}\n{"seed": -2}\n')

    assert done.code == 2
    assert done.err.endswith("error: 2 rows are wrong, nothing was made\n")


@pytest.mark.usefixtures("url")
def test_wrong_rows_can_be_left_out(batch: RunRows) -> None:
    """`--skip-invalid` reports them and makes the others."""
    done = batch('{"prompt": "a"}\n{"seed": -1}\n{"parent_id": "dead"}\n', "--skip-invalid", "--json")

    assert done.code == 0, done.err
    assert [json.loads(line)["line"] for line in done.lines] == [2, 3, 1]
    assert json.loads(done.lines[0])["error"]["code"] == "invalid-value"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "jobs must be a whole number, 1-256, got 0"),
        (["--retry", "-1"], "retry must be a whole number, 0-1000, got -1"),
        (["--max-failures", "0"], "max_failures must be a whole number, 1 or more"),
        (["--input-format", "xml"], "--input-format must be one of jsonl, csv, text"),
        (["--sweep", "seed"], "a sweep must be like"),
        (["--sweep", "seed=1..99999999"], "a batch has at most 10,000,000 takes"),
        (["-g", "16"], "guidance_scale must be 1-15, got 16"),
        (["--local", "--jobs", "2"], "for services"),
        (["--model", "nano"], "--model needs --local"),
        (["-t", "a,b"], "tag"),
    ],
)
def test_wrong_options_are_one_error(batch: RunRows, words: list[str], message: str) -> None:
    """The error is not repeated for each row."""
    done = batch("a\nb\n", *words)

    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("file", "message"),
    [("/", "is a directory"), ("/nowhere", "no such file"), (os.devnull, "there is no row"), ("a\0b", "can't read")],
)
def test_a_file_without_rows_is_wrong_usage(musicgen: Run, file: str, message: str) -> None:
    """An empty file is no empty batch: whatever should have written the file has failed."""
    done = musicgen("batch", file)

    assert done.code == 2
    assert message in done.err


def test_a_batch_ends_after_max_failures(batch: RunRows, tmp_path: Path) -> None:
    """No more takes are begun, and failures are counted by their cause."""
    with serving(lambda _: (500, b"")) as url:
        done = batch("x\n" * 50, "--url", url, "--max-failures", "3", "--retry", "0")

    assert done.code == 1
    assert "made 0; failed 3 (3 service-error)" in done.err
    assert "3 of 50 failed, no more were begun" in done.err


def test_a_connection_that_broke_is_tried_again_a_second_later(batch: RunRows) -> None:
    """What is restarting breaks the connections that it still accepts."""
    first: list[float] = []

    def answer(body: dict[str, Any]) -> tuple[int, bytes] | None:
        first[:] = first or [time.monotonic()]
        return None if time.monotonic() - first[0] < 0.5 else good(body)

    with serving(answer) as url:
        done = batch("x\n", "--url", url)

    assert done.code == 0, done.err
    assert done.err.count("broke before the answer was complete, trying again") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.usefixtures("url")
def test_a_full_disk_ends_the_batch(batch: RunRows, small_disk: Path) -> None:
    """It ends at the first take that fails, and what is stored stays."""
    done = batch("".join(f"{i}\n" for i in range(100)), "--store", small_disk / "store", "-q")

    assert done.code == 1
    assert "can't write to" in done.err
    assert "failed" not in done.err
    assert 1 < len(done.lines) < 15
    assert [take.id for take in takes_in(small_disk / "store")] == done.lines
