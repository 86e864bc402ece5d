from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.onnx.sound_encoder import OnnxSoundEncoder
from musicgen_cli.errors import ModelAbsentError
from tests.support.model_fixtures import Write


def encoder_of(
    checkpoint: Checkpoint, cache_dir: Path, notes: list[str] | None = None, threads: int = 1
) -> OnnxSoundEncoder:
    note = (notes if notes is not None else []).append
    return OnnxSoundEncoder(checkpoint, Shape.of(checkpoint.config), cache_dir=cache_dir, threads=threads, note=note)


def noise(frames: int) -> Any:
    return np.random.default_rng(2).normal(size=(1, 640 * frames)).astype(np.float32) * np.float32(0.3)


def test_the_graphs_are_built_once(listening: Checkpoint, tmp_path: Path) -> None:
    """When a sound is first encoded, which is noted; another process finds them, and damaged ones are built again."""
    cache, notes = tmp_path / "cache", list[str]()
    encoder = encoder_of(listening, cache, notes)
    assert not cache.exists()
    codes = encoder.encode(noise(70))

    assert codes.shape == (4, 70)
    assert codes.min() >= 0
    assert codes.max() < 1024
    assert notes == ["preparing mine for listening to sounds, once"]
    assert np.array_equal(encoder_of(listening, cache, notes, threads=2).encode(noise(70)), codes)
    assert len(notes) == 1
    next(cache.rglob("codes.data")).write_bytes(b"damaged")
    assert np.array_equal(encoder_of(listening, cache, notes).encode(noise(70)), codes)
    assert len(notes) == 2


def test_a_cache_that_cant_be_written_is_done_without(listening: Checkpoint, tmp_path: Path) -> None:
    """The graphs are in a temporary folder until the encoder is closed."""
    (tmp_path / "file").touch()
    notes: list[str] = []
    encoder = encoder_of(listening, tmp_path / "file", notes)

    assert encoder.encode(noise(3)).shape == (4, 3)
    assert "for this run only" in notes[-1]
    assert encoder.encode(noise(3)).shape == (4, 3)
    assert len(notes) == 2
    encoder.close()


def test_a_model_without_an_audio_encoder_is_known(
    nano: Checkpoint, listening: Checkpoint, write: Write, tmp_path: Path
) -> None:
    """That of nano is of zeros; another model has none at all. Nothing is built to find that out."""
    cache = tmp_path / "cache"
    for checkpoint in (nano, find_checkpoint(str(write("deaf")), tmp_path)):
        assert not encoder_of(checkpoint, cache).is_available
    assert encoder_of(listening, cache).is_available
    assert not cache.exists()


def test_a_pulled_model_can_encode_without_its_weights(listening: Checkpoint, tmp_path: Path, musicgen: Any) -> None:
    """The pull builds the encoder before it removes them; without either, a hint says how to get it back."""
    from musicgen_cli.settings import models_dir

    expected = encoder_of(listening, tmp_path / "cache").encode(noise(5))
    done = musicgen("model", "pull", listening.directory)
    assert done.code == 0, done.err
    assert "preparing mine for listening to sounds" in done.err
    pulled = find_checkpoint("mine", models_dir())
    assert pulled.weights == ()
    assert np.array_equal(encoder_of(pulled, pulled.directory).encode(noise(5)), expected)

    shutil.rmtree(next(pulled.directory.glob("graphs/*-encoder-*")))
    with pytest.raises(ModelAbsentError) as err:
        encoder_of(pulled, pulled.directory).encode(noise(5))
    assert "model pull mine" in (err.value.hint or "")
