"""`import` takes what other programs write: WAVs from pipes, FLAC, Ogg and MP3, and the folders of a Mac."""

from __future__ import annotations

import builtins
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.actions.library.export import export, resolve_target
from musicgen_cli.actions.library.import_ import Duplicate, Imported, Importer, ImportFailure, Result
from musicgen_cli.audio.wav import inspect, pcm16_wav, samples
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes

TONE = fakes.tone(0.5, channels=2, rate=44_100)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sounds"
    path.mkdir()
    return path


@pytest.fixture(params=["soundfile", "ffmpeg"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decode with soundfile, or without it."""
    if request.param == "soundfile":
        pytest.importorskip("soundfile", reason="needs the extra audio")
    else:
        without_soundfile(monkeypatch)
    return str(request.param)


def without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *words: Any, **more: Any) -> Any:
        if name == "soundfile":
            raise ModuleNotFoundError("No module named 'soundfile'", name="soundfile")
        return real_import(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without)


def ffmpeg(*words: str, given: bytes = TONE) -> bytes:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg isn't installed")
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", *words]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=120).stdout


def import_(store: Store, *paths: Path) -> list[Result]:
    return list(Importer(store, creator="me", warn=print).run(paths))


def imported(store: Store, path: Path) -> tuple[Artifact, bytes]:
    (result,) = import_(store, path)
    assert isinstance(result, Imported), result
    return result.artifact, store.read_blob(result.artifact)


@pytest.mark.parametrize("words", [["-f", "wav"], ["-f", "wav", "-rf64", "always"]], ids=["WAV", "RF64"])
def test_what_ffmpeg_writes_to_a_pipe_is_imported(store: Store, folder: Path, words: list[str]) -> None:
    """Its header has no sizes; the samples are the same."""
    piped = ffmpeg(*words, "-bitexact", "pipe:1")
    (folder / "piped.wav").write_bytes(piped)

    assert b"\xff" * 4 in piped[:100]
    assert imported(store, folder / "piped.wav")[1] == TONE


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("flac", ["-f", "flac"]),
        ("flac", ["-sample_fmt", "s32", "-f", "flac"]),
        ("ogg", ["-c:a", "libvorbis", "-f", "ogg"]),
        ("mp3", ["-f", "mp3"]),
        ("mp3", ["-f", "mp3", "-id3v2_version", "0", "-write_xing", "0"]),
    ],
    ids=["FLAC", "FLAC of 24 bits", "Ogg", "MP3", "MP3 without a tag"],
)
@pytest.mark.parametrize("decoder", ["soundfile", "ffmpeg"], indirect=True)
def test_flac_ogg_and_mp3_are_imported(store: Store, folder: Path, decoder: str, ending: str, words: list[str]) -> None:
    """They are stored as WAV; twice the same file is one take."""
    (folder / f"x.{ending}").write_bytes(ffmpeg(*words, "pipe:1"))

    _, wav = imported(store, folder)

    info, wanted = inspect(wav), inspect(TONE)
    assert (info.sample_rate, info.channels, info.is_float) == (44_100, 2, False), decoder
    assert info.bits == (24 if "s32" in words else 16)
    assert abs(info.frames - wanted.frames) <= 2500  # the padding of MP3
    assert (wav == TONE) is (words == ["-f", "flac"])
    peak = max(map(abs, samples(wav, info).values)) / samples(wav, info).full_scale
    assert 0.2 < peak < 0.35
    (again,) = import_(store, folder)
    assert isinstance(again, Duplicate)


def test_a_decoder_that_overshoots_does_not_wrap_round(store: Store, folder: Path, decoder: str) -> None:
    """Loud sounds in Vorbis decode to more than full scale."""
    square = b"".join((b"\xff\x7f" if i // 37 % 2 else b"\1\x80") for i in range(32_000))
    loud = pcm16_wav(square, sample_rate=32_000, channels=1)
    (folder / "loud.ogg").write_bytes(ffmpeg("-c:a", "libvorbis", "-f", "ogg", "pipe:1", given=loud))

    _, wav = imported(store, folder)

    values = samples(wav, inspect(wav)).values
    assert max(values) == 32_767
    assert min(values) == -32_768
    loud_parts = [
        each for each, pcm in zip(values, samples(loud, inspect(loud)).values, strict=False) if each * pcm < 0
    ]
    assert len(loud_parts) < 2000, decoder


@pytest.mark.parametrize("format_", ["flac", "ogg", "mp3"])
@pytest.mark.parametrize("has_soundfile", [True, False])
def test_an_exported_file_keeps_its_record(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, format_: str, *, has_soundfile: bool
) -> None:
    """A FLAC is even known to be the take that is stored."""
    pytest.importorskip("soundfile", reason="export needs the extra audio")
    draft = ArtifactDraft(("type:audio",), "rain; = # \\ é", {"top_k": 9}, "me", {"kind": "http"}, seed=7)
    take = store.put(fakes.tone(0.5), draft)
    export(take, store, resolve_target(str(folder / f"x.{format_}")), set())
    if not has_soundfile:
        ffmpeg("-f", "null", "-")  # skips where it is absent
        without_soundfile(monkeypatch)

    (result,) = import_(store, folder)

    if format_ == "flac":
        assert result == Duplicate(str(folder / "x.flac"), take.id)
    else:
        assert isinstance(result, Imported)
        assert (result.artifact.prompt, result.artifact.seed) == (take.prompt, 7)


def test_without_a_decoder_one_line_says_so(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many files there are; the WAVs beside them are imported."""
    without_soundfile(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    (folder / "a.wav").write_bytes(TONE)
    for i in range(3):
        (folder / f"{i}.flac").write_bytes(b"fLaC\0\0\0\x22" + bytes(34))

    first, second = import_(store, folder)
    (alone,) = import_(store, folder / "0.flac")

    assert isinstance(first, Imported)
    assert isinstance(second, ImportFailure)
    assert str(second.error) == "its 3 FLAC, Ogg and MP3 files can't be read without the extra 'audio' or ffmpeg"
    assert isinstance(alone, ImportFailure)
    assert str(alone.error) == "FLAC needs the extra 'audio' or ffmpeg, and neither is here"


@pytest.mark.parametrize("data", [b"fLaC", b"OggS" + bytes(100), b"ID3\4" + bytes(60), b"\xff\xfb\x90\0" * 20])
def test_a_damaged_file_is_a_failure(store: Store, folder: Path, decoder: str, data: bytes) -> None:
    """One line that says which format it seemed to have."""
    if decoder != "soundfile" and shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg isn't installed")
    (folder / "x.mp3").write_bytes(data)

    (result,) = import_(store, folder)

    assert isinstance(result, ImportFailure)
    assert "can't" in str(result.error)


@pytest.mark.usefixtures("decoder")
def test_a_flac_that_is_cut_off_is_a_failure(store: Store, folder: Path) -> None:
    """Decoders shorten it silently."""
    ffmpeg("-f", "flac", str(folder / "x.flac"))
    whole = (folder / "x.flac").read_bytes()
    (folder / "x.flac").write_bytes(whole[: len(whole) * 3 // 4])

    (result,) = import_(store, folder / "x.flac")

    assert isinstance(result, ImportFailure)


def test_what_macos_puts_beside_files_is_passed_over(store: Store, folder: Path) -> None:
    """These are no sounds, though their names end like those of sounds."""
    (folder / "a.wav").write_bytes(TONE)
    (folder / "._a.wav").write_bytes(b"\0\5\x16\7" + bytes(100))
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "b.wav").write_bytes(b"\0\5\x16\7" + bytes(100))

    (result,) = import_(store, folder)

    assert isinstance(result, Imported)
