from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.actions.library.export import export, resolve_target
from musicgen_cli.actions.library.import_ import Duplicate, Imported, Importer, Result
from musicgen_cli.actions.library.loops import LoopOptions
from musicgen_cli.actions.library.metadata import embedded_record, with_metadata, without_metadata
from musicgen_cli.audio.wav import inspect, read_info, with_info, without_last_info
from musicgen_cli.errors import InvalidWavError, MissingExtraError
from musicgen_cli.limits import CREATOR
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes

PROMPT = "élan \x1b[31m\u202e“piano”\n\t音楽"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def take(store: Store, wav: bytes = b"", **more: Any) -> Artifact:
    draft = {
        "tags": ("type:audio", "night"), "prompt": PROMPT, "params": {"top_k": 250, "duration": 0.5}, "creator": "me",
        "origin": {"kind": "http", "model": "small", "engine": "onnx", "url": "http://secret.example"}, "seed": 7,
        "license": "CC-BY-NC-4.0", "requested_duration": 0.5, "extra": {"checkpoint": "abc"},
    }  # fmt: skip
    return store.put(wav or fakes.tone(0.5), ArtifactDraft(**{**draft, **more}))


def probed(path: Path) -> dict[str, Any]:
    """Read a file as ffmpeg does: its length, and its tags with lower-case names."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("ffmpeg isn't installed")
    words = [program, "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    report = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    tags = report["format"].get("tags", {}) | report["streams"][0].get("tags", {})
    return {name.lower(): text for name, text in tags.items()} | {"duration": float(report["format"]["duration"])}


def test_the_metadata_of_a_wav_stands_behind_its_samples(store: Store) -> None:
    """The blob's bytes except the size, then a chunk; readers find the same samples."""
    artifact = take(store)
    blob = store.read_blob(artifact)
    wav = with_metadata(blob, artifact)

    assert wav[8 : len(blob)] == blob[8:]
    assert inspect(wav) == inspect(blob)
    texts = read_info(wav)
    assert texts["INAM"] == r"élan \x1b[31m\u202e“piano” 音楽"
    assert (texts["ICOP"], texts["IART"]) == ("CC-BY-NC-4.0", "me")
    assert texts["ISFT"].startswith("musicgen-cli ")
    record = json.loads(texts["ICMT"])
    assert (record["id"], record["prompt"], record["params"]["top_k"]) == (artifact.id, PROMPT, 250)
    assert texts["ICMT"].isascii()
    assert "secret" not in texts["ICMT"]
    assert without_metadata(wav, record) == blob


@pytest.fixture(params=["soundfile", "ffmpeg"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let soundfile encode, or ffmpeg where soundfile isn't installed."""
    if request.param == "soundfile":
        pytest.importorskip("soundfile", reason="needs the extra audio")
    elif shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg isn't installed")
    else:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    return str(request.param)


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_other_programs_read_the_metadata(store: Store, tmp_path: Path, form: str, encoder: str) -> None:
    """They find length, title, licence and the whole record."""
    artifact = take(store)
    probe = probed(export(artifact, store, resolve_target(str(tmp_path / f"x.{form}")), set()))

    assert probe["duration"] == pytest.approx(0.5, abs=0.12 if form == "mp3" else 0.001)
    assert json.loads(probe["comment"])["prompt"] == PROMPT
    assert json.loads(probe["comment"])["id"] == artifact.id
    assert probe["artist"] == "me"
    if form == "mp3" and encoder == "soundfile":  # whose texts other programs would read as Latin-1
        assert probe["title"].startswith(r"elan \x1b[31m\u202e?piano? ??")
    else:
        assert probe["title"] == r"élan \x1b[31m\u202e“piano” 音楽"
        assert probe["copyright"] == "CC-BY-NC-4.0"
        assert "musicgen-cli" in (probe["software"] if "software" in probe else probe["encoder"])


def test_texts_that_a_format_of_metadata_uses_itself_survive(store: Store, tmp_path: Path, encoder: str) -> None:
    """Signs that have a meaning in ffmpeg's files of metadata are only text in a prompt."""
    prompt = r"a=b; #1 \ [x] %s ; comment=evil"
    path = export(take(store, prompt=prompt), store, resolve_target(str(tmp_path / "x.flac")), set())

    assert (probed(path)["title"], probed(path)["artist"]) == (prompt, "me")
    assert json.loads(probed(path)["comment"])["prompt"] == prompt


def test_the_artist_is_what_the_user_has_set_or_absent(store: Store, tmp_path: Path) -> None:
    """A music player should not show the name of this program as an artist."""
    path = export(take(store, creator=CREATOR), store, resolve_target(str(tmp_path / "x.wav")), set())

    assert "IART" not in read_info(path.read_bytes())
    assert json.loads(read_info(path.read_bytes())["ICMT"])["creator"] == CREATOR


def test_lossless_is_lossless(store: Store, tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAC has the same samples, of 16 and of 24 bits."""
    deep = bytearray(fakes.tone(0.5))  # its bytes as 24-bit samples
    deep[28:36] = struct.pack("<IHH", 96_000, 3, 24)
    deep = deep[:40] + struct.pack("<I", 31_998) + deep[44 : 44 + 31_998]
    deep[4:8] = struct.pack("<I", len(deep) - 8)
    for wav, kind in ((fakes.tone(0.5, channels=2), "int16"), (bytes(deep), "int32")):
        path = export(take(store, wav), store, resolve_target(f"{tmp_path}/out/", format_="flac"), set())
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "soundfile")
            soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
            blob = store.blob_path(store.get("last"))
            read = [soundfile.read(file, dtype=kind)[0].tobytes() for file in (path, blob)]
        assert read[0] == read[1]


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize(("form", "rate", "channels"), [("mp3", 96_000, 1), ("flac", 700_000, 1), ("flac", 32_000, 9)])
def test_a_sample_rate_that_a_format_cannot_hold_is_an_error(
    store: Store, tmp_path: Path, form: str, rate: int, channels: int
) -> None:
    """MP3 has nine sample rates; the sound isn't changed without a word."""
    noun = "1 channel" if channels == 1 else f"{channels} channels"
    sound = take(store, fakes.tone(0.1, rate=rate, channels=channels))
    with pytest.raises(InvalidWavError, match=f"{form} can't hold {noun} at {rate} Hz"):
        export(sound, store, resolve_target(str(tmp_path / f"x.{form}")), set())
    assert list(tmp_path.glob(f"*.{form}")) == []


def test_without_an_encoder_the_message_names_both(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made: the extra, or ffmpeg."""
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingExtraError, match="OGG needs the extra 'audio' or ffmpeg, and neither is here") as caught:
        resolve_target(str(tmp_path / "x.ogg"))
    assert "install" in (caught.value.hint or "")


def import_(store: Store, path: Path) -> tuple[Result, list[str]]:
    """Import one file; return the result and the warnings."""
    warnings: list[str] = []
    (result,) = Importer(store, creator="importer", warn=warnings.append).run([path])
    return result, warnings


def imported(store: Store, path: Path) -> Artifact:
    """Import one file without a warning, and return the take."""
    result, warnings = import_(store, path)
    assert isinstance(result, Imported)
    assert warnings == []
    return result.artifact


def test_an_exported_wav_is_the_take_again(store: Store, tmp_path: Path) -> None:
    """In its own store it is a duplicate; in another it has the same bytes, prompt and parameters."""
    artifact = take(store)
    path = export(artifact, store, resolve_target(str(tmp_path / "x.wav")), set())
    assert path.read_bytes() != store.read_blob(artifact)

    assert import_(store, path) == (Duplicate(str(path), artifact.id), [])
    other = Store(tmp_path / "other")
    again = imported(other, path)
    assert (again.id, again.prompt, again.params) == (artifact.id, artifact.prompt, artifact.params)
    assert (again.seed, again.license, again.creator, again.extra) == (7, "CC-BY-NC-4.0", "me", {"checkpoint": "abc"})
    assert again.origin["kind"] == "import"
    assert other.read_blob(again) == store.read_blob(artifact)


def test_a_changed_copy_has_its_own_bytes_and_the_same_parameters(store: Store, tmp_path: Path) -> None:
    """A loop is another sound, and its metadata is read all the same."""
    artifact = take(store)
    path = export(artifact, store, resolve_target(str(tmp_path / "x.wav"), loop=LoopOptions()), set())
    loop = imported(store, path)

    assert store.read_blob(loop) == path.read_bytes()
    assert loop.params == artifact.params


def test_a_sidecar_takes_precedence_over_metadata(store: Store, tmp_path: Path) -> None:
    """Somebody may have edited it since the export."""
    path = export(take(store), store, resolve_target(str(tmp_path / "x.wav")), set())
    path.with_suffix(".json").write_text('{"prompt": "mine"}')

    assert imported(store, path).prompt == "mine"


@pytest.mark.parametrize("comment", ["nice", "{", "[1]", '{"a": 1}', "{" * 9999, '{"a":' * 9999, '{"prompt": ""}'])
def test_a_comment_that_is_no_record_is_ignored(store: Store, tmp_path: Path, comment: str) -> None:
    """Other programs write comments, too."""
    (tmp_path / "x.wav").write_bytes(with_info(fakes.tone(0.5), {"ICMT": comment}))
    artifact = imported(store, tmp_path / "x.wav")

    assert store.read_blob(artifact) == (tmp_path / "x.wav").read_bytes()
    assert (artifact.prompt, artifact.params) == ("", {})


@pytest.mark.parametrize("record", [{"prompt": 7}, {"tags": "x"}, {"prompt": "x", "tags": ["a,b"]}, {"seed": "1"}])
def test_an_unusable_record_is_ignored_with_a_warning(store: Store, tmp_path: Path, record: dict[str, Any]) -> None:
    """The sound is stored."""
    (tmp_path / "x.wav").write_bytes(with_info(fakes.tone(0.5), {"ICMT": json.dumps(record)}))
    result, (warning,) = import_(store, tmp_path / "x.wav")

    assert isinstance(result, Imported)
    assert "the metadata of" in warning


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["INAM", "ICMT", "ICOP"]), st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_is_read_back(texts: dict[str, str]) -> None:
    """Only NUL is missing, which would end a text in a WAV."""
    wav = with_info(fakes.tone(0.01), texts)

    inspect(wav)
    assert read_info(wav) == {name: text.replace("\0", "") for name, text in texts.items()}
    assert without_last_info(wav) == fakes.tone(0.01)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_break_the_reader(junk: bytes, at: int) -> None:
    """Whatever the bytes are, the reader returns a record or None."""
    wav = with_info(fakes.tone(0.003), {"ICMT": '{"prompt": "x"}'})
    embedded_record(wav[:at] + junk + wav[at:])
    without_last_info(wav[:at] + junk + wav[at:])
