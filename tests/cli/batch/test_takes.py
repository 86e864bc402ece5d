"""`musicgen batch` makes a take of each row, each variation and each value of a sweep."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.batches import RunRows, good, serving, takes_in
from tests.support.command_line import MUSICGEN, Run
from tests.support.terminal import on_terminal


@pytest.mark.usefixtures("url")
def test_each_row_becomes_a_take(batch: RunRows, store_path: Path) -> None:
    """A row's values override the options, tags of both are stored, and JSON says from which line a take is."""
    done = batch(
        '{"prompt": "a", "seed": 1, "tags": ["x"], "creator": "me", "duration": 0.6}\n\n{"prompt": "b"}\n',
        *("-t", "night", "-g", "5", "--json"),
    )

    assert done.code == 0, done.err
    first, second = map(json.loads, done.lines)
    assert (first["line"], first["prompt"], first["seed"], first["creator"], first["duration"]) == (
        1,
        "a",
        1,
        "me",
        0.6,
    )
    assert first["tags"][4:] == ["night", "x"]
    assert (second["line"], second["params"]["guidance_scale"], second["tags"][4:]) == (3, 5.0, ["night"])
    assert first["id"] == takes_in(store_path)[0].id


@pytest.mark.usefixtures("url")
def test_sweeps_and_variations_multiply(batch: RunRows, store_path: Path) -> None:
    """Each row is made with each combination of values; its variations are one set, and their seeds count up."""
    words = ("--sweep", "guidance_scale=3,5", "--sweep", "seed=10..11", "-n", "2", "-q")
    assert len(batch("a\nb\n", *words).lines) == 16

    takes = takes_in(store_path)
    assert [(take.prompt, take.params["guidance_scale"], take.seed) for take in takes[:5]] == [
        ("a", 3.0, 10), ("a", 3.0, 11), ("a", 3.0, 11), ("a", 3.0, 12), ("a", 5.0, 10),
    ]  # fmt: skip
    assert [take.variation_index for take in takes] == [0, 1] * 8
    assert len({take.variation_set_id for take in takes}) == 8
    Store(store_path).remove([takes[1].id])
    (id_,) = batch("a\nb\n", *words).lines
    artifact = Store(store_path).get(id_)
    assert (artifact.variation_set_id, artifact.variation_index) == (takes[0].variation_set_id, 1)


@pytest.mark.usefixtures("url")
def test_rows_may_join_sets_and_have_parents(batch: RunRows, store_path: Path) -> None:
    """A row's variation index is the next one of its set in the store."""
    (parent,) = batch("x\n", "-q").lines
    row = json.dumps({"prompt": "y", "variation_set_id": "night", "parent_id": parent[9:15]})
    assert batch(f"{row}\n{row}\n", "-q").code == 0
    assert batch(f"{row}\n{row}\n{row}\n{json.dumps({'parent_id': 'last'})}\n", "-q").code == 0

    takes = takes_in(store_path)[1:]
    assert [take.variation_index for take in takes] == [0, 1, 2, None]
    assert [take.parent_id for take in takes] == [parent] * 3 + [takes[1].id]


@pytest.mark.usefixtures("url")
def test_rows_may_come_from_stdin(store_path: Path) -> None:
    """With `-q` only ids are on stdout, and nothing is on stderr."""
    done = subprocess.run(
        [*MUSICGEN, "batch", "-", "-q", "-d", "0.5"], input=b"a\nb\n", capture_output=True, check=True
    )

    assert done.stdout.decode().split() == [take.id for take in takes_in(store_path)]
    assert done.stderr == b""


@pytest.mark.usefixtures("url")
def test_a_terminal_shows_progress_and_a_summary(tmp_path: Path, store_path: Path) -> None:
    """Bars show how many takes are done and which are being made; then there is one line about the whole batch."""
    (tmp_path / "rows").write_text("a [bold]b[/]\nc\n")
    code, shown = on_terminal("-m", "musicgen_cli", "batch", str(tmp_path / "rows"), "-d", "0.5")

    assert code == 0, shown
    assert "2 to make, 1.0 s of sound" in shown
    assert "0/2" in shown
    assert "a [bold]b[/]" in shown
    assert "made 2; 1.0 s of sound in " in shown
    assert len(takes_in(store_path)) == 2


@pytest.mark.usefixtures("url")
def test_each_take_is_exported_to_its_output(batch: RunRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing files are not replaced, and no take is made for them; a file that is missing later is exported again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.wav").write_bytes(b"precious")
    lines = "prompt,seed,output\na,1,a.wav\nb,2,b.wav\nc,3,many/\n"

    done = batch(lines, "-q")
    assert done.code == 1
    assert "line 3: b.wav exists already" in done.err
    assert len(done.lines) == 2
    assert fakes.exported(tmp_path / "a.wav") == fakes.tone(0.5, seed=1)
    assert (tmp_path / "b.wav").read_bytes() == b"precious"

    (named,) = (tmp_path / "many").iterdir()
    for file in (named, tmp_path / "a.wav", tmp_path / "b.wav"):
        file.unlink()
    done = batch(lines, "-q")
    assert (done.code, len(done.lines)) == (0, 3), done.err
    assert named.exists()
    assert (tmp_path / "a.wav").exists()
    assert batch(lines, "-q").lines == []


def test_local_rows_share_one_model(batch: RunRows, store_path: Path) -> None:
    """The bundled model makes them; over HTTP the same rows are already made."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    lines = '{"prompt": "low drone", "seed": 7}\n{"prompt": "chime"}\n'
    done = batch(lines, "--local", "--model", "nano", "--json")

    assert done.code == 0, done.err
    assert [json.loads(line)["origin"]["kind"] for line in done.lines] == ["local", "local"]
    with serving(good) as url:
        assert batch(lines, "--url", url).out == ""
    assert len(takes_in(store_path)) == 2


def test_an_imported_sound_is_no_start_of_a_batch(batch: RunRows, musicgen: Run, tmp_path: Path) -> None:
    """As for `generate --from`: nothing is known of how it was made."""
    (tmp_path / "a.wav").write_bytes(fakes.tone())
    musicgen("import", tmp_path / "a.wav")
    done = batch("x\n", "--from", "last")

    assert done.code == 2
    assert "it was imported" in done.err
