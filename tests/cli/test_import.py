from __future__ import annotations

import json
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.command_line import Run
from tests.support.index_lines import draft, sound
from tests.support.terminal import on_terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "söunds \u202e[b]\udcff"
    path.mkdir()
    for seed in range(2):
        (path / f"{seed}.wav").write_bytes(sound(seed))
    return path


@pytest.mark.usefixtures("store_path")
def test_imported_takes_are_printed(musicgen: Run, folder: Path) -> None:
    """They come as lines, as ids alone, or as JSON that says from which file each is."""
    done = musicgen("import", folder / "0.wav", "-t", "found", "--creator", "anna", "-q")
    assert (done.code, done.err) == (0, "")
    assert done.lines == musicgen("list", "-q", "--tag", "found", "--creator", "anna").lines

    done = musicgen("import", folder, "--creator", "anna", "--json")

    (record,) = map(json.loads, done.lines)
    assert (record["source"], record["creator"]) == (str(folder / "1.wav"), "anna")
    assert done.out.replace("\n", "").isprintable()


@pytest.mark.usefixtures("store_path")
def test_an_imported_file_keeps_its_name(musicgen: Run, tmp_path: Path) -> None:
    """It is the title in lists and in the gallery, and `{name}` in the names of exports."""
    (tmp_path / "Kick 01.wav").write_bytes(sound())
    (line,) = musicgen("import", tmp_path / "Kick 01.wav").lines
    id_ = line.split("\t")[0]

    assert line.split("\t")[-1] == "Kick 01"
    assert musicgen("list", "--search", "kick", "-q").lines == [id_]
    assert musicgen("export", "last", "-o", f"{tmp_path}/o/", "--name", "{name}").lines == [f"{tmp_path}/o/kick-01.wav"]
    assert musicgen("export", "last", "-o", f"{tmp_path}/o/").lines == [f"{tmp_path}/o/kick-01-{id_[9:]}.wav"]
    page = Path(musicgen("gallery", "-o", tmp_path / "g", "-q").out.strip()).read_text()
    assert 'dir="auto">Kick 01</h2>' in page
    assert 'value="name:' not in page
    code, shown = on_terminal("-m", "musicgen_cli", "list")
    assert code == 0
    assert "Kick 01" in shown
    assert "name:" not in shown


@pytest.mark.usefixtures("store_path")
def test_a_stored_sound_is_reported_with_its_id(musicgen: Run, folder: Path) -> None:
    """The note on stderr is printable, and the exit code is 0."""
    (first, second) = musicgen("import", folder, "-q").lines

    done = musicgen("import", folder)

    assert (done.code, done.out) == (0, "")
    assert [line.rpartition(" ")[2] for line in done.err.splitlines()] == [first, second]
    assert done.err.replace("\n", "").isprintable()


@pytest.mark.usefixtures("store_path")
def test_a_file_that_fails_does_not_stop_the_others(musicgen: Run, folder: Path) -> None:
    """It is reported even with `-q`, and the exit code is 1; with `--json` the last line is one error object."""
    (folder / "0.wav").write_bytes(b"\x1b[2J")

    done = musicgen("import", folder, folder / "absent", "-q")

    assert done.code == 1
    assert len(done.lines) == 1
    assert "0.wav: not a WAV" in done.err
    assert "absent: can't be read" in done.err
    assert done.err.endswith("error: 2 failed, 1 imported\n")
    assert done.err.replace("\n", "").isprintable()
    done = musicgen("import", folder, "--json")
    assert [[*json.loads(line)] for line in done.err.splitlines()] == [["warning"], ["note"], ["error"]]
    assert json.loads(done.err.splitlines()[-1])["error"]["exit_code"] == 1


def test_importing_a_store_reports_changed_ids(musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """The old and the new id are on stderr, or in each record with `--json`."""
    there = Store(tmp_path / "there")
    take = there.put(sound(), draft("theirs"))
    Store(store_path).put(sound(), draft("mine"))

    done = musicgen("import", there.root)

    assert (done.code, done.err) == (0, f"{take.id} -> {take.id}-2\n")
    assert done.out.startswith(f"{take.id}-2\t{take.created}\t")
    there.put(sound(1), draft())
    (record,) = map(json.loads, musicgen("import", there.root, "--json").lines)
    assert record["source_id"] == record["id"]


def test_an_exported_take_is_imported_from_its_sidecar(musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """Another store gets it with its prompt, seed and time; the store that has it already gets nothing."""
    take = Store(store_path).put(sound(), draft("rain", seed=7))
    musicgen("export", take.id, "-o", tmp_path / "x.wav", "--sidecar")

    done = musicgen("import", tmp_path / "x.wav", "--store", tmp_path / "new", "--json")

    record = json.loads(done.out)
    assert (record["prompt"], record["seed"], record["created"]) == ("rain", 7, take.created)
    done = musicgen("import", tmp_path / "x.wav")
    assert (done.code, done.out) == (0, "")
    assert f"is already stored: {take.id}" in done.err


@pytest.mark.parametrize(
    ("words", "code"), [([], 2), (["{store}"], 2), (["{store}/blobs"], 2), (["{folder}", "-t", "a,b"], 2)]
)
def test_wrong_usage_imports_nothing(
    musicgen: Run, store_path: Path, folder: Path, words: list[str], code: int
) -> None:
    """No path, the store itself, a folder within it, or an invalid tag is exit 2."""
    store = Store(store_path)
    store.put(sound(9), draft())

    done = musicgen("import", *(word.format(store=store_path, folder=folder) for word in words))

    assert done.code == code
    assert store.stats().artifacts == 1
