"""Files that somebody else made: a pipe, a device, a sparse file, a link; a command says what is wrong and ends."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.store import Store
from tests.support.bounded import MOST_BYTES, Bounded, run_bounded
from tests.support.command_line import MUSICGEN
from tests.support.index_lines import draft, sound
from tests.support.programs import environment

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices have names on POSIX alone")

NANO = Path(__file__).parents[2] / "musicgen_cli" / "models" / "nano"
HUGE = 50 << 30  # bytes, sparse


def musicgen(*words: object) -> Bounded:
    done = run_bounded([*MUSICGEN, *map(str, words)], env=environment())
    assert "Traceback" not in done.err, done.err
    assert done.peak_bytes < MOST_BYTES, done
    return done


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, HUGE)


Plant = Callable[[Path], None]
plants = pytest.mark.parametrize("plant", [fifo, zeros, sparse])


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Make a store with two takes, as somebody else could hand it over."""
    store = Store(tmp_path / "other")
    for seed in range(2):
        store.put(sound(seed), draft(f"take {seed}"))
    return store.root


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Copy the bundled model, as somebody else could hand it over."""
    folder = tmp_path / "model"
    shutil.copytree(NANO, folder)
    return folder


@plants
def test_the_config_file(plant: Plant, tmp_path: Path) -> None:
    """Every command reads it."""
    path = settings.config_file()
    path.parent.mkdir(parents=True)
    plant(path)

    done = musicgen("list")

    assert done.code == 2
    assert "can't read" in done.err


@pytest.mark.parametrize("plant", [fifo, zeros])
@pytest.mark.parametrize("command", [["list"], ["show", "last"], ["store", "check"], ["import"]])
def test_the_index_of_a_store(plant: Plant, other: Path, store_path: Path, command: list[str]) -> None:
    """It is not waited for, whether the store is used or imported."""
    plant(other / "index.jsonl")

    done = musicgen(*command, other) if command == ["import"] else musicgen(*command, "--store", other)

    assert done.code != 0 or "is not a file" in done.out + done.err, done
    assert "index.jsonl" in done.out + done.err


def test_an_index_of_one_endless_line(other: Path) -> None:
    """A line of a gigabyte costs time to read, but no memory, and what comes after it is there."""
    lines = (other / "index.jsonl").read_bytes().splitlines(keepends=True)
    (other / "index.jsonl").unlink()
    with (other / "index.jsonl").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"\n" + b"".join(lines[1:]))

    done = musicgen("list", "--store", other)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    checked = musicgen("store", "check", "--store", other)

    assert checked.code == 1
    assert "damaged" in checked.out + checked.err


@plants
@pytest.mark.parametrize("command", ["export", "import", "check"])
def test_a_blob_of_a_store(plant: Plant, other: Path, store_path: Path, tmp_path: Path, command: str) -> None:
    """It is not what was stored; the other take is."""
    blob = next((other / "blobs").rglob("*.wav"))
    plant(blob)

    if command == "import":
        done = musicgen("import", other)
        assert "1 imported" in done.out + done.err or done.out.count("artifact_") == 1, done
    elif command == "export":
        id_ = f"artifact_{blob.name[:12]}"
        done = musicgen("export", id_, "--store", other, "-o", tmp_path / "x.wav")
        assert not (tmp_path / "x.wav").exists()
    else:
        done = musicgen("store", "check", "--full", "--store", other)

    assert done.code != 0
    assert blob.name in done.out + done.err or "audio" in done.out + done.err


@plants
def test_a_sound_file_to_import(plant: Plant, store_path: Path, tmp_path: Path) -> None:
    """Neither it nor a pipe in the place of its sidecar is waited for."""
    plant(tmp_path / "a.wav")
    done = musicgen("import", tmp_path / "a.wav")
    assert done.code == 1
    assert not store_path.exists()

    (tmp_path / "a.wav").unlink()
    (tmp_path / "a.wav").write_bytes(sound())
    plant(tmp_path / "a.json")

    assert musicgen("import", tmp_path / "a.wav").code == 0


def test_a_wav_of_a_million_chunks(store_path: Path, tmp_path: Path) -> None:
    """An empty chunk has eight bytes of zeros; they are not counted to the end."""
    size = 200 << 20
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size - 8) + b"WAVE")
        file.truncate(size)

    done = musicgen("import", tmp_path / "a.wav")

    assert done.code == 1
    assert "the WAV has no data chunk" in done.err


@plants
def test_a_batch_file(plant: Plant, store_path: Path, tmp_path: Path) -> None:
    """A named pipe is refused; the shell's own and standard input are read."""
    plant(tmp_path / "rows.jsonl")
    done = musicgen("batch", tmp_path / "rows.jsonl", "--dry-run", "--local")
    assert done.code == 2, done

    words = " ".join(MUSICGEN)
    rows = run_bounded(["bash", "-c", f"{words} batch <(echo calm) --dry-run --local"], env=environment())

    assert rows.code == 0, rows.err
    assert "calm" in rows.out + rows.err


def test_failed_rows_for_a_pipe_that_nobody_reads(store_path: Path, tmp_path: Path) -> None:
    """It is an error at once, not a wait for a reader."""
    fifo(tmp_path / "failed")
    (tmp_path / "rows.txt").write_text("calm\n")

    done = musicgen("batch", tmp_path / "rows.txt", "--failed", tmp_path / "failed", "--local")

    assert done.code == 1
    assert "can't write" in done.err


@plants
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "README.md", "manifest.json"])
def test_a_file_of_a_model(plant: Plant, model: Path, store_path: Path, name: str) -> None:
    """A card that can't be read has no licence; without any of the others there is no model."""
    plant(model / name)

    done = musicgen("generate", "calm", "--local", "--model", model, "-d", "0.5")

    if name == "README.md":
        assert done.code == 0, done.err
    else:
        assert done.code != 0
        assert name in done.err, done.err
    shown = musicgen("model", "show", model)
    if name != "tokenizer.json":  # which is needed only if the difference between precisions isn't cached
        assert shown.code == done.code


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("audio_encoder", {"num_lstm_layers": 10**9}),
        ("audio_encoder", {"upsampling_ratios": [1] * 10**5}),
        ("audio_encoder", {"upsampling_ratios": [1, 1, 1, 1]}),
        ("audio_encoder", {"num_residual_layers": 16, "dilation_growth_rate": 16}),
        ("audio_encoder", {"sampling_rate": 10**400}),
        ("audio_encoder", {"num_filters": 1 << 16}),
        ("decoder", {"num_hidden_layers": 10**9}),
        ("decoder", {"hidden_size": 10**9, "num_attention_heads": 1}),
        ("decoder", {"num_codebooks": 2**40}),
        ("text_encoder", {"vocab_size": 10**12}),
        ("text_encoder", {"num_layers": 1e308}),
        ("text_encoder", {"d_model": [[[]]]}),
    ],
)
def test_numbers_of_a_config(model: Path, store_path: Path, section: str, changes: dict[str, object]) -> None:
    """Each has a type and a range, which are checked before anything is made of it."""
    config = json.loads((model / "config.json").read_bytes())
    config[section] |= changes
    (model / "config.json").write_text(json.dumps(config))

    done = musicgen("generate", "calm", "--local", "--model", model, "-d", "0.5")

    assert done.code == 1
    assert f"config.json: {section}." in done.err
    assert len(done.err) < 1000


def test_front_matter_of_line_feeds(model: Path, store_path: Path) -> None:
    """It is read in one pass."""
    (model / "README.md").write_text("---\n" + "\n" * 60_000 + "x")

    done = musicgen("model", "show", model, "--json")

    assert done.code == 0, done.err
    assert json.loads(done.out)["license"] is None


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o20600, os.makedev(1, 3))])
def test_force_replaces_files_alone(make: Plant, other: Path, tmp_path: Path) -> None:
    """A pipe stays, and so does a device such as /dev/null."""
    try:
        make(tmp_path / "x.wav")
    except PermissionError:
        pytest.skip("only root makes devices")

    for words in (
        ["export", "last", "-o", tmp_path / "x.wav"],
        ["export", "last", "-o", tmp_path / "x.wav", "--force"],
    ):
        done = musicgen(*words, "--store", other)
        assert done.code == 1
        assert "not a regular file" in done.err
    assert not (tmp_path / "x.wav").is_file()


def test_force_keeps_a_pipe_in_the_place_of_a_gallery_s_page(other: Path, tmp_path: Path) -> None:
    """It is found before any sound is copied."""
    (tmp_path / "gallery").mkdir()
    os.mkfifo(tmp_path / "gallery" / "index.html")

    done = musicgen("gallery", "-o", tmp_path / "gallery", "--force", "--store", other)

    assert done.code == 1
    assert "not a regular file" in done.err
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["index.html"]
