from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.actions.library.export import export, resolve_target
from musicgen_cli.actions.library.import_ import Duplicate, Imported, Importer
from musicgen_cli.actions.library.metadata import embedded_record, with_metadata, without_metadata
from musicgen_cli.audio.wav import inspect, read_info, with_info, without_last_info
from musicgen_cli.errors import InvalidWavError
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
    said = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    tags = said["format"].get("tags", {}) | said["streams"][0].get("tags", {})
    return {name.lower(): text for name, text in tags.items()} | {"duration": float(said["format"]["duration"])}


def test_a_wav_says_what_it_is_behind_its_samples(store: Store) -> None:
    """The blob's bytes but for the size, then a chunk; readers find the same samples."""
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


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_other_programs_read_what_is_exported(store: Store, tmp_path: Path, form: str) -> None:
    """Length, title, licence and the whole record."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    artifact = take(store)
    said = probed(export(artifact, store, resolve_target(str(tmp_path / f"x.{form}")), set()))

    assert said["duration"] == pytest.approx(0.5, abs=0.12 if form == "mp3" else 0.001)
    assert json.loads(said["comment"])["prompt"] == PROMPT
    assert json.loads(said["comment"])["id"] == artifact.id
    if form == "mp3":  # where libsndfile's words would be read as Latin-1
        assert said["title"].startswith(r"elan \x1b[31m\u202e?piano? ??")
    else:
        assert said["title"] == r"élan \x1b[31m\u202e“piano” 音楽"
        assert said["copyright"] == "CC-BY-NC-4.0"
        assert "musicgen-cli" in said.get("software", said.get("encoder"))


def test_lossless_is_lossless(store: Store, tmp_path: Path) -> None:
    """FLAC holds the very samples, of 16 and of 24 bits."""
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    deep = bytearray(fakes.tone(0.5))  # its bytes as 24-bit samples
    deep[28:36] = struct.pack("<IHH", 96_000, 3, 24)
    deep = deep[:40] + struct.pack("<I", 31_998) + deep[44 : 44 + 31_998]
    deep[4:8] = struct.pack("<I", len(deep) - 8)
    for wav, kind in ((fakes.tone(0.5, channels=2), "int16"), (bytes(deep), "int32")):
        path = export(take(store, wav), store, resolve_target(f"{tmp_path}/out/", format_="flac"), set())
        read = [soundfile.read(file, dtype=kind)[0].tobytes() for file in (path, store.blob_path(store.get("last")))]
        assert read[0] == read[1]


def test_a_form_that_a_format_cannot_hold_is_explained(store: Store, tmp_path: Path) -> None:
    """MP3 has nine sample rates."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    with pytest.raises(InvalidWavError, match="mp3 can't hold 1 channels at 96000 Hz"):
        export(take(store, fakes.tone(0.1, rate=96_000)), store, resolve_target(str(tmp_path / "x.mp3")), set())
    assert list(tmp_path.glob("*.mp3")) == []


def bring(store: Store, path: Path, warned: list[str]) -> Any:
    (result,) = Importer(store, creator="importer", warn=warned.append).run([path])
    return result


def test_an_exported_wav_is_the_take_again(store: Store, tmp_path: Path) -> None:
    """In its own store it is known; in another it has the same bytes, prompt and parameters."""
    artifact = take(store)
    path = export(artifact, store, resolve_target(str(tmp_path / "x.wav")), set())
    assert path.read_bytes() != store.read_blob(artifact)

    result = bring(store, path, warned := [])
    assert isinstance(result, Duplicate)
    assert result.id == artifact.id
    other = Store(tmp_path / "other")
    result = bring(other, path, warned)
    assert isinstance(result, Imported)
    again = result.artifact
    assert (again.id, again.prompt, again.params) == (artifact.id, artifact.prompt, artifact.params)
    assert (again.seed, again.license, again.creator, again.extra) == (7, "CC-BY-NC-4.0", "me", {"checkpoint": "abc"})
    assert again.origin["kind"] == "import"
    assert other.read_blob(again) == store.read_blob(artifact)
    assert warned == []


def test_a_changed_copy_keeps_its_own_bytes(store: Store, tmp_path: Path) -> None:
    """A loop is another sound; what it says of its making is read all the same."""
    artifact = take(store)
    path = export(artifact, store, resolve_target(str(tmp_path / "x.wav"), loop=True), set())
    result = bring(store, path, warned := [])

    assert isinstance(result, Imported)
    assert store.read_blob(result.artifact) == path.read_bytes()
    assert result.artifact.params == artifact.params
    assert warned == []


def test_a_sidecar_goes_before_what_a_wav_says(store: Store, tmp_path: Path) -> None:
    """Somebody may have written it since."""
    path = export(take(store), store, resolve_target(str(tmp_path / "x.wav")), set())
    path.with_suffix(".json").write_text('{"prompt": "mine"}')

    assert bring(store, path, []).artifact.prompt == "mine"


@pytest.mark.parametrize("comment", ["nice", "{", "[1]", '{"a": 1}', "{" * 9999, '{"a":' * 9999, '{"prompt": ""}'])
def test_a_comment_that_is_none_of_ours_costs_nothing(store: Store, tmp_path: Path, comment: str) -> None:
    """Other programs write there, too."""
    (tmp_path / "x.wav").write_bytes(with_info(fakes.tone(0.5), {"ICMT": comment}))
    result = bring(store, tmp_path / "x.wav", warned := [])

    assert store.read_blob(result.artifact) == (tmp_path / "x.wav").read_bytes()
    assert (result.artifact.prompt, result.artifact.params) == ("", {})
    assert warned == []


@pytest.mark.parametrize("record", [{"prompt": 7}, {"tags": "x"}, {"prompt": "x", "tags": ["a,b"]}, {"seed": "1"}])
def test_a_record_that_cannot_be_kept_is_left_out(store: Store, tmp_path: Path, record: dict[str, Any]) -> None:
    """With a word about it; the sound is stored."""
    (tmp_path / "x.wav").write_bytes(with_info(fakes.tone(0.5), {"ICMT": json.dumps(record)}))
    result = bring(store, tmp_path / "x.wav", warned := [])

    assert isinstance(result, Imported)
    assert len(warned) == 1
    assert "the metadata of" in warned[0]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["INAM", "ICMT", "ICOP"]), st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_comes_back(texts: dict[str, str]) -> None:
    """NUL, which ends a text there, is left out."""
    wav = with_info(fakes.tone(0.01), texts)

    inspect(wav)
    assert read_info(wav) == {name: text.replace("\0", "") for name, text in texts.items()}
    assert without_last_info(wav) == fakes.tone(0.01)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_break_the_reader(junk: bytes, at: int) -> None:
    """Whatever comes is read, or isn't there."""
    wav = with_info(fakes.tone(0.003), {"ICMT": '{"prompt": "x"}'})
    embedded_record(wav[:at] + junk + wav[at:])
    without_last_info(wav[:at] + junk + wav[at:])
