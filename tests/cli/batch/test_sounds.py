"""Rows of a batch whose takes go on from sounds or follow tunes; the engine is the model that comes with musicgen."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.store import Artifact, Store
from tests.support.batches import RunRows, takes_in
from tests.support.command_line import MUSICGEN, Run
from tests.support.fakes import exported, tone

LOCAL = ("--local", "--model", "nano")


@pytest.fixture
def source(musicgen: Run, store_path: Path) -> Artifact:
    """Return a stored take of the bundled model."""
    done = musicgen("generate", "calm piano", "-d", "1", "--seed", "7", "--top-k", "50", "-q", *LOCAL)
    assert done.code == 0, done.err
    return Store(store_path).get("last")


def rows(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_row_that_continues_has_the_prompt_and_the_parameters_of_its_source(
    batch: RunRows, source: Artifact, store_path: Path
) -> None:
    """Unless it, or an option of the command, gives them; the parent is the source. Again, nothing is left to do."""
    text = rows({"continue": source.id}, {"continue": source.id[9:15], "prompt": "techno", "seed": 3, "overlap": 5})
    done = batch(text, *LOCAL, name="rows.jsonl")
    assert done.code == 0, done.err
    first, second = sorted(takes_in(store_path)[1:], key=lambda take: take.prompt)
    again = batch(text, *LOCAL, name="rows.jsonl")

    assert (first.prompt, first.params["top_k"], first.duration, first.requested_duration) == (
        "calm piano",
        50,
        1.5,
        1.5,
    )
    assert (second.prompt, second.seed, second.params["top_k"]) == ("techno", 3, 50)
    assert {first.parent_id, second.parent_id} == {source.id}
    assert first.seed != source.seed
    assert ((first.extra or {})["continue"]["context_s"], (second.extra or {})["overlap"]) == (1.0, 5)
    assert "2 to make, 1.0 s of sound" in done.err
    assert (again.code, again.out) == (0, "")
    assert "skipped 2" in again.err


def test_a_sweep_goes_on_from_several_sounds(batch: RunRows, musicgen: Run, source: Artifact, store_path: Path) -> None:
    """Each with its own prompt; combined with the other fields."""
    musicgen("generate", "techno", "-d", "1", "-q", *LOCAL)
    other = Store(store_path).get("last")
    sweeps = ("--sweep", f"continue={source.id},{other.id}", "--sweep", "seed=1..2", "--sweep", "overlap=1,2")
    done = batch(rows({"top_p": 0.5}), *LOCAL, *sweeps, name="rows.jsonl")
    assert done.code == 0, done.err

    made = takes_in(store_path)[2:]
    assert {(take.parent_id, take.prompt, take.seed, (take.extra or {})["overlap"]) for take in made} == {
        (take.id, take.prompt, seed, overlap) for take in (source, other) for seed in (1, 2) for overlap in (1, 2)
    }


def test_a_file_is_part_of_the_request_by_its_sound(
    batch: RunRows, musicgen: Run, source: Artifact, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is one below the current folder. Another sound in the file is another request, another name is not."""
    monkeypatch.chdir(tmp_path)
    assert musicgen("export", source.id, "-o", "a.wav", "--no-metadata").code == 0
    assert batch("continue,seed\na.wav,3\n", *LOCAL, name="rows.csv").code == 0
    Path("a.wav").rename("b.wav")
    renamed = batch("continue,seed\nb.wav,3\n", *LOCAL, name="rows.csv")
    by_id = batch(f"continue,seed\n{source.id},3\n", *LOCAL, name="rows.csv")
    musicgen("generate", "techno", "-d", "1", "-q", *LOCAL)
    assert musicgen("export", "last", "-o", "b.wav", "--no-metadata", "--force").code == 0
    changed = batch("continue,seed\nb.wav,3\n", *LOCAL, "-q", name="rows.csv")

    assert "skipped 1" in renamed.err
    assert "skipped 1" in by_id.err
    assert len(changed.lines) == 1
    assert [take.parent_id for take in takes_in(store_path)] == [None, source.id, None, takes_in(store_path)[2].id]


def test_a_dry_run_imports_nothing(batch: RunRows, store_path: Path, tmp_path: Path) -> None:
    """It reads the files, and says what would be made."""
    (tmp_path / "tune.wav").write_bytes(tone(1.0))
    done = batch(rows({"continue": str(tmp_path / "tune.wav")}), *LOCAL, "--dry-run", "--json", name="rows.jsonl")

    assert done.code == 0, done.err
    assert json.loads(done.out)["row"]["continue"] == str(tmp_path / "tune.wav")
    assert not store_path.exists()


def test_rows_that_fail_can_be_run_again_from_any_folder(
    batch: RunRows, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled model can't go on from a file; the row that failed names it by its whole path."""
    monkeypatch.chdir(tmp_path)
    Path("tune.wav").write_bytes(tone(1.0))
    failed = tmp_path / "failed.jsonl"
    done = batch(rows({"continue": "tune.wav"}), *LOCAL, "--failed", failed, name="rows.jsonl")

    assert done.code == 1
    assert "nano has no audio encoder, so it can only go on from takes that it made itself" in done.err
    assert "hint: they fail again as they are: other rows help, or another model" in done.err
    row = json.loads(failed.read_text())
    assert (row["continue"], row["prompt"], row["duration"]) == (str(tmp_path / "tune.wav"), "", 0.5)
    (imported,) = takes_in(store_path)
    assert imported.name == "tune"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"continue": "missing.wav"}, "there is no file 'missing.wav'"),
        ({"continue": "0123beef"}, "no take matches '0123beef'"),
        ({"continue": "last"}, "'last' is another take whenever a batch runs: a row names its sounds by id or path"),
        ({"melody": 5}, "melody must be text, got 5"),
        ({"overlap": 26}, "overlap must be 1-25 s, got 26"),
        ({"overlap": "long"}, "overlap must be 1-25 s, got 'long'"),
        ({"continue": "silent.wav"}, "'silent.wav' is silent"),
        ({"continue": "tune.wav", "melody": "tune.wav"}, "continue and melody contradict each other"),
        ({"continue": "tune.wav", "loop": True, "bars": 1, "bpm": 120, "output": "x.wav"}, "loop and bars contradict"),
    ],
)
def test_a_row_with_a_wrong_sound_is_refused_before_anything_is_made(
    batch: RunRows, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], message: str
) -> None:
    """With its line, and nothing is imported."""
    monkeypatch.chdir(tmp_path)
    Path("tune.wav").write_bytes(tone(1.0))
    Path("silent.wav").write_bytes(tone(1.0)[:44] + bytes(64_000))
    done = batch(rows({"prompt": "x"}, row), *LOCAL, name="rows.jsonl")

    assert done.code == 2
    assert f"line 2: {message}" in done.err
    assert not store_path.exists()


def test_options_of_the_command_are_sounds_for_all_rows(
    batch: RunRows, musicgen: Run, source: Artifact, store_path: Path
) -> None:
    """A row's own sound replaces that of an option, and `--from` lends the sound of its take."""
    musicgen("generate", "techno", "-d", "1", "-q", *LOCAL)
    other = Store(store_path).get("last")
    assert batch(rows({"seed": 1}, {"continue": other.id}), *LOCAL, "--continue", source.id, name="a.jsonl").code == 0
    first, second = sorted(takes_in(store_path)[2:], key=lambda take: take.prompt)
    assert (first.parent_id, first.prompt, second.parent_id, second.prompt) == (
        *(source.id, "calm piano"),
        *(other.id, "techno"),
    )
    assert batch(rows({"seed": 9}), *LOCAL, "--from", first.id, name="b.jsonl").code == 0
    third = takes_in(store_path)[-1]
    assert (third.parent_id, (third.extra or {})["continue"]["id"], third.duration) == (first.id, source.id, 1.5)


def test_a_prompt_may_begin_with_the_name_of_a_sounds_field(batch: RunRows) -> None:
    """`melody, soft piano` is no header."""
    done = batch("melody, soft piano\ncontinue\n", *LOCAL, "--dry-run")

    assert [line.split("\t")[-1] for line in done.lines] == ["melody, soft piano", "continue"]


@pytest.mark.timeout(600)
def test_a_killed_batch_of_continuations_makes_exactly_what_is_missing(
    source: Artifact, musicgen: Run, store_path: Path, tmp_path: Path
) -> None:
    """Ten of them from one file, killed twice; each has the bytes that it would have had alone, and one parent."""
    assert musicgen("export", source.id, "-o", tmp_path / "tune.wav", "--no-metadata").code == 0
    file = tmp_path / "rows.jsonl"
    file.write_text(rows(*({"continue": str(tmp_path / "tune.wav"), "duration": 1, "seed": n} for n in range(10))))
    words = [*MUSICGEN, "batch", str(file), *LOCAL, "-q"]
    for wanted in (3, 6):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while len(takes_in(store_path)) <= wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = len(takes_in(store_path))
    done = musicgen(*words[len(MUSICGEN) :])

    assert done.code == 0, done.err
    assert len(done.lines) == 11 - before
    made = takes_in(store_path)[1:]
    assert sorted(take.seed or 0 for take in made) == [*range(10)]
    assert {take.parent_id for take in made} == {source.id}
    musicgen("generate", "--continue", source.id, "-d", "1", "--seed", "9", "-o", tmp_path / "alone.wav", *LOCAL, "-q")
    (ninth,) = (take for take in made if take.seed == 9)
    assert exported(tmp_path / "alone.wav") == Store(store_path).read_blob(ninth)
