"""`musicgen batch` exports each take to its `output`, and replaces its own files alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli.actions.library.metadata import embedded_record
from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.batches import RunRows, serving, takes_in
from tests.support.command_line import Run

pytestmark = pytest.mark.usefixtures("url")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def rows(**seeds: int) -> str:
    """Return a CSV with a row for each file."""
    return "prompt,seed,output\n" + "".join(f"{name},{seed},{name}.wav\n" for name, seed in seeds.items())


def seed_of(path: Path) -> int | None:
    """Return the seed whose sound a file has; None if it is none of an export."""
    record = embedded_record(path.read_bytes())
    if record is None or fakes.exported(path) != fakes.tone(0.5, seed=record["seed"]):
        return None
    return int(record["seed"])


def test_a_changed_row_replaces_its_own_file(batch: RunRows, here: Path, store_path: Path) -> None:
    """The row may be changed back, too; the sounds that it replaced are in the store."""
    for door, made in ((1, 2), (2, 1), (1, 0), (3, 1)):
        done = batch(rows(door=door, bell=9))
        assert done.code == 0, done.err
        assert "wrote door.wav" in done.err
        assert f"made {made}; " in done.err
        assert "nothing is left" not in done.err
        assert (seed_of(here / "door.wav"), seed_of(here / "bell.wav")) == (door, 9)
    assert sorted(take.seed or 0 for take in takes_in(store_path)) == [1, 2, 3, 9]
    done = batch(rows(door=3, bell=9))
    assert (done.code, done.out) == (0, "")
    assert "wrote" not in done.err
    assert "nothing is left to do" in done.err


def test_rows_may_swap_their_files(batch: RunRows, here: Path) -> None:
    """Both files are those of an earlier run."""
    assert batch(rows(a=1, b=2)).code == 0
    done = batch("prompt,seed,output\na,1,b.wav\nb,2,a.wav\n")

    assert done.code == 0, done.err
    assert "made 0; skipped 2 that are in the store; exported 2 of these; " in done.err
    assert (seed_of(here / "a.wav"), seed_of(here / "b.wav")) == (2, 1)


def test_a_row_whose_take_was_removed_replaces_its_file(batch: RunRows, here: Path, store_path: Path) -> None:
    """Its audio is in the store until it is collected."""
    assert batch(rows(door=1)).code == 0
    Store(store_path).remove(["last"])

    assert batch(rows(door=2)).code == 0
    assert seed_of(here / "door.wav") == 2


@pytest.mark.parametrize("name", ["door.flac", "door.ogg", "door.mp3"])
def test_files_of_other_formats_are_replaced_as_well(batch: RunRows, musicgen: Run, here: Path, name: str) -> None:
    """Their metadata and their sound are compared."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    for number, seed in enumerate((1, 2, 1)):
        done = batch(f"prompt,seed,output\ndoor,{seed},{name}\n", "-d", "1")
        assert done.code == 0, done.err
        taken = musicgen("import", name, "--store", here / f"store{number}", "--json")
        assert json.loads(taken.out)["seed"] == seed
    assert batch(f"prompt,seed,output\ndoor,1,{name}\n", "-d", "1").err.count("wrote") == 0


def edited(path: Path) -> None:
    wav = bytearray(path.read_bytes())
    wav[1000] ^= 1
    path.write_bytes(wav)


def without_metadata(path: Path) -> None:
    path.write_bytes(fakes.exported(path))


def renamed(path: Path) -> None:
    path.with_name("other.wav").rename(path)


def linked(path: Path) -> None:
    path.rename(path.with_name("target.wav"))
    path.symlink_to("target.wav")


def not_in_the_store(path: Path) -> None:
    subprocess.run(["find", path.parent.parent, "-path", "*/blobs/*", "-name", "*.wav", "-delete"], check=True)


@pytest.mark.parametrize("change", [edited, without_metadata, renamed, linked, not_in_the_store])
def test_any_other_file_is_replaced_only_if_forced(batch: RunRows, here: Path, change: Callable[[Path], None]) -> None:
    """Nothing is made for it, and the hint says what helps."""
    assert batch(rows(door=1, other=2)).code == 0
    change(here / "door.wav")
    content = (here / "door.wav").read_bytes()

    done = batch(rows(door=3, new=4))
    assert (done.code, len(done.lines)) == (1, 1)
    assert "error: line 2: door.wav exists already, and is not as a batch wrote it" in done.err
    assert done.err.endswith("error: 1 of 2 failed\nhint: `--force` replaces the file that is there\n")
    assert (here / "door.wav").read_bytes() == content
    done = batch(rows(door=3, new=4), "--force")
    assert (done.code, len(done.lines)) == (0, 1), done.err
    assert seed_of(here / "door.wav") == 3


def test_a_file_that_was_edited_stays_until_it_is_forced(batch: RunRows, here: Path) -> None:
    """The batch can be run again, and says so once for all such files."""
    lines = rows(a=1, b=2, c=3, d=4)
    assert batch(lines).code == 0
    for name in ("a", "b"):
        (here / f"{name}.wav").write_bytes(b"louder")
    edited(here / "c.wav")

    done = batch(lines)
    assert (done.code, done.out) == (0, "")
    assert "kept 2 files, which are not as a batch wrote them; --force replaces them" in done.err
    assert "nothing is left to do" not in done.err
    done = batch(lines, "--force")
    assert done.code == 0
    assert done.err.count("wrote") == 3
    assert [seed_of(here / f"{name}.wav") for name in "abcd"] == [1, 2, 3, 4]


def test_the_last_hint_fits_what_failed(batch: RunRows, here: Path) -> None:
    """A file in the way, a path that can't be written, and a service that fails need different things."""
    (here / "a.wav").write_bytes(b"mine")
    (here / "file").write_bytes(b"")
    unwritable = "u,2,file/u.wav\n"
    again = "the same command again makes what is missing"
    done = batch("prompt,seed,output\n" + unwritable)
    assert done.err.endswith(f"hint: once these rows are changed, {again}\n")
    done = batch("prompt,seed,output\n" + unwritable, "--json")
    assert json.loads(done.lines[-1])["error"]["hint"].endswith("another `output` names another place")
    with serving(lambda _: (500, b"")) as url:
        done = batch(rows(a=1, b=2), "--url", url, "--retry", "0")
        assert done.err.endswith(f"hint: {again}, with `--force` also over the file that is there\n")
        done = batch(rows(b=2), "--url", url, "--retry", "0")
        assert done.err.endswith(f"hint: {again}\n")


def test_outputs_are_below_the_folder_of_the_command(batch: RunRows, here: Path) -> None:
    """The folder need not exist; a row without an output gets a name there."""
    lines = "prompt,seed,output\na,1,a.wav\nb,2,ui/b.wav\nc,3,\nd,4,many/\n"

    assert batch(lines, "-o", "out").code == 0
    names = {str(path.relative_to(here)) for path in here.rglob("*.wav")}
    assert {"out/a.wav", "out/ui/b.wav"} < names
    assert len(names) == 4
    assert sum(name.startswith("out/many/d-4-") for name in names) == 1
    assert sum(name.startswith("out/c-3-") for name in names) == 1
    assert "wrote" not in batch(lines, "-o", "out/").err


@pytest.mark.parametrize("output", ["../a.wav", "/tmp/a.wav", "x/../../a.wav"])
def test_an_output_does_not_leave_that_folder(batch: RunRows, here: Path, output: str) -> None:
    """The row is wrong, and nothing is made."""
    done = batch(f"prompt,output\na,{output}\n", "-o", "out/")

    assert done.code == 2
    assert f"output '{output}' is not below 'out/', the folder of -o" in done.err
    assert list(here.iterdir()) == []


def test_two_rows_never_share_a_file(batch: RunRows, here: Path) -> None:
    """Not even through a link to its folder."""
    (here / "x").mkdir()
    (here / "y").symlink_to("x")
    done = batch("prompt,output\na,x/a.wav\nb,y/../x/./a.wav\nc,y/a.wav\n")

    assert done.code == 2
    assert "error: line 3: output 'y/../x/./a.wav' is also that of line 2" in done.err
    assert "error: line 4: output 'y/a.wav' is also that of line 2" in done.err


def test_two_rows_never_share_a_file_of_a_disk_that_ignores_case(batch: RunRows) -> None:
    """Nor of one to which an accent is the same, however it is written: the batch can run on any machine."""
    done = batch("prompt,output\na,é.wav\nb,É.WAV\nc,e\u0301.wav\n")

    assert done.code == 2
    assert "line 3: output 'É.WAV' is also that of line 2, 'é.wav', on a disk that ignores case" in done.err
    assert "line 4: output 'e\u0301.wav' is also that of line 2" in done.err


def test_the_sound_of_a_batch_does_not_go_to_stdout(batch: RunRows) -> None:
    """Many sounds in a stream could not be told apart."""
    done = batch(rows(a=1), "-o", "-")

    assert (done.code, done.out) == (2, "")
    assert "-o of a batch is a folder, got '-'" in done.err


def test_failed_rows_keep_their_files(batch: RunRows, musicgen: Run, here: Path) -> None:
    """With the same options or without, and in another folder."""
    with serving(lambda _: (500, b"")) as url:
        assert batch(rows(a=1, b=2), "-o", "out", "--url", url, "--retry", "0", "--failed", "failed.jsonl").code == 1
    assert musicgen("batch", "failed.jsonl", "-o", "out").code == 0
    (here / "out/a.wav").unlink()
    assert musicgen("batch", "failed.jsonl").code == 0

    assert sorted(path.name for path in here.rglob("*.wav")) == ["a.wav", "b.wav"]
    done = batch(rows(a=3, b=2), "-o", "out")
    assert done.code == 0, done.err
    assert seed_of(here / "out/a.wav") == 3


def test_exports_may_be_named_by_their_output(batch: RunRows, musicgen: Run, here: Path) -> None:
    """The name is in the record; takes without one leave it out."""
    ids = batch("prompt,seed,output\na,1,sfx/Door open.wav\nb,2,\n", "-o", "out", "-q").lines

    done = musicgen("export", *ids, "-o", "pack/", "--name", "{output}-{seed}")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (here / "pack").iterdir()) == ["2.wav", "door-open-1.wav"]


def test_a_dry_run_shows_what_would_be_made_and_changes_nothing(batch: RunRows, here: Path, store_path: Path) -> None:
    """Its lines have the action, the line, the length, the output and the prompt; `--json` has the whole row."""
    done = batch(rows(a=1, b=2), "--dry-run", "--json")
    assert done.code == 0, done.err
    shown = [json.loads(line) for line in done.lines]
    assert [(each["action"], each["line"], each["row"]["seed"]) for each in shown] == [("make", 2, 1), ("make", 3, 2)]
    assert not store_path.exists()
    assert list(here.iterdir()) == []

    assert batch(rows(a=1, b=2, c=3)).code == 0
    (here / "b.wav").unlink()
    (here / "c.wav").write_bytes(b"mine")
    before = {path: path.stat().st_mtime_ns for path in [*here.iterdir(), *store_path.rglob("*")]}
    done = batch(rows(a=4, b=2, c=3, d=5), "--dry-run")
    assert (done.code, done.lines) == (
        0, ["export\t3\t0.5\tb.wav\tb", "make\t2\t0.5\ta.wav\ta", "make\t5\t0.5\td.wav\td"]
    )  # fmt: skip
    assert "2 to make, 1.0 s of sound; 2 are in the store; 1 of these to export; 1 file is" in done.err
    done = batch(rows(c=6), "--dry-run")
    assert (done.code, done.out) == (1, "")
    assert "error: line 2: c.wav exists already" in done.err
    assert done.err.endswith("error: 1 of 1 would fail\nhint: `--force` replaces files\n")
    assert {path: path.stat().st_mtime_ns for path in [*here.iterdir(), *store_path.rglob("*")]} == before


def test_a_dry_run_loads_and_pulls_no_model(batch: RunRows, here: Path) -> None:
    """What a local model made is recognised all the same."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    assert batch(rows(a=1), "--local").code == 0

    assert batch(rows(a=1), "--local", "--dry-run").out == ""
    assert batch(rows(a=1), "--local", "--model", "small", "--dry-run").lines == ["make\t2\t0.5\ta.wav\ta"]
