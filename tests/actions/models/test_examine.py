from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.actions.models.examine import Finding, examine, spectral_flatness, summary
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.actions.models.published import CLIPS, PublishedClip, clips_of
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.settings import cache_dir, models_dir
from tests.support.model_fixtures import Write
from tests.support.variants import int8_variant

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test a cache of its own: what is prepared there is examined, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def findings_of(folder: Path, clips: tuple[PublishedClip, ...] = ()) -> dict[str, Finding]:
    checkpoint = find_checkpoint(str(folder), folder)
    return {finding.name: finding for finding in examine(checkpoint, clips, cache_dir(), lambda _: None)}


def test_nano_is_well(musicgen: Run) -> None:
    """A line for each finding, and one that sums them up, with versions and processor."""
    done = musicgen("model", "check", "nano")

    assert done.code == 0, done.err
    assert [line.split("\t")[0] for line in done.lines[:-1]] == [
        "files",
        "tokenizer",
        "tensors",
        "sound",
        int8_variant(),
    ]
    assert done.lines[-1].startswith("musicgen-cli ")
    for words in (
        ": model nano, ",
        "tokenizer ok, tensors ok, sound ok (",
        f"{int8_variant()} ok (",
        "; onnxruntime 1.",
    ):
        assert words in done.lines[-1]


def test_findings_are_objects_with_json(musicgen: Run) -> None:
    """The summary is the last one."""
    lines = [json.loads(line) for line in musicgen("model", "check", "nano", "--json").lines]

    assert [set(line) for line in lines] == [{"name", "state", "text"}] * 5 + [{"summary"}]


def test_without_a_name_the_default_model_is_checked(musicgen: Run) -> None:
    """Which is nano where none was pulled."""
    assert ": model nano, " in musicgen("model", "check").lines[-1]


@pytest.mark.parametrize(("name", "code"), [("small", 8), ("no such", 3)])
def test_a_model_that_isnt_here_cant_be_checked(musicgen: Run, name: str, code: int) -> None:
    """The hint says how to get it, or which names there are."""
    assert musicgen("model", "check", name).code == code


def test_a_pulled_model_without_weights_is_checked_as_far_as_possible(musicgen: Run, write: Write) -> None:
    """That its weights weren't kept is no problem."""
    musicgen("model", "pull", write("mine"))
    done = musicgen("model", "check", "mine")

    assert done.code == 0, done.err
    assert "tensors not checked" in done.lines[-1]
    assert f"{int8_variant()} ok" in done.lines[-1]


def test_a_damaged_file_is_exit_7(musicgen: Run, write: Write) -> None:
    """It is found by its hash, before anything is run."""
    musicgen("model", "pull", write("mine"))
    graph = next((models_dir() / "mine" / "graphs").rglob("sound.data"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = musicgen("model", "check", "mine")

    assert (done.code, done.out) == (7, "")
    assert "sound.data" in done.err


@pytest.mark.parametrize("value", [None, np.nan])
def test_a_missing_or_unusable_tensor_is_a_problem(
    musicgen: Run, write: Write, nano_tensors: Mapping[str, Any], value: float | None
) -> None:
    """It is named, and the exit code is 1."""
    name = "audio_encoder.decoder.layers.1.lstm.weight_hh_l0"
    tensors = {key: values for key, values in nano_tensors.items() if key != name}
    if value is not None:
        tensors[name] = np.full_like(nano_tensors[name], value)
    done = musicgen("model", "check", write(tensors=tensors))

    assert done.code == 1
    assert "tensors\twrong: " in done.out
    assert name in done.lines[2]
    assert "1 problem was found" in done.err


def test_silence_is_a_problem(write: Write, nano_tensors: Mapping[str, Any]) -> None:
    """The last convolution of this codec gives nothing."""
    last = "audio_encoder.decoder.layers.17.conv."
    silent = {key: np.zeros_like(values) for key, values in nano_tensors.items() if key == f"{last}bias"}
    norm = f"{last}parametrizations.weight.original0"
    silent[norm] = np.zeros_like(nano_tensors[norm])
    finding = findings_of(write(tensors={**nano_tensors, **silent}))["sound"]

    assert (finding.state, finding.text) == ("wrong", "a take is silent")


def test_flatness_tells_noise_from_tones() -> None:
    """Noise has nearly 1, also if it is quiet; a chord, with some noise, nearly 0."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(64_000).astype(np.float32) * np.float32(0.001)
    time = np.arange(64_000, dtype=np.float32) / 32_000
    chord = sum(np.sin(2 * np.pi * frequency * time) for frequency in (220, 277, 330)).astype(np.float32)

    assert spectral_flatness(noise) > 0.9
    assert spectral_flatness(chord + noise) < 0.01


def test_clips_are_known_of_the_published_models(nano: Checkpoint) -> None:
    """By their names; each channel has as many samples."""
    assert set(CLIPS) == {"small", "stereo-small", "melody"}
    assert [clip.has_tune for clip in CLIPS["melody"]].count(True) == 1
    assert clips_of(nano) == ()
    for name, clips in CLIPS.items():
        for clip in clips:
            assert {len(samples) for samples in clip.samples} in ({16}, {10})
            assert len(clip.samples) == (2 if name == "stereo-small" else 1)


def test_other_values_than_the_published_ones_are_a_problem(write: Write) -> None:
    """The finding says how far off they are; the graphs that only this needed are removed again."""
    folder = write("mine")
    finding = findings_of(folder, (PublishedClip("piano", 3.0, 10, [[0.5] * 16]),))["published values"]

    assert finding.state == "wrong"
    assert finding.text.startswith("not transformers' published values: up to 3")
    assert "times the tolerance of 0.0001 off" in finding.text
    assert list(prepared_graphs(find_checkpoint(str(folder), folder), cache_dir())) == [int8_variant()]


def test_published_values_need_float32(musicgen: Run, write: Write) -> None:
    """Where neither its graphs nor the weights are, the hint says which pull brings them."""
    musicgen("model", "pull", write("mine"))
    checkpoint = find_checkpoint("mine", models_dir())
    findings = list(examine(checkpoint, CLIPS["small"], cache_dir(), lambda _: None))

    assert (findings[-1].name, findings[-1].state) == ("published values", "not checked")
    assert "`musicgen model pull mine --keep-weights`" in findings[-1].text
    assert "published values not checked; " in summary(checkpoint, findings)
