from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.checkpoint.shape import CodecShape
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.onnx.engine import OnnxEngine, OnnxModel

SHAPE = CodecShape(
    rate=16_000,
    codes=64,
    width=4,
    filters=1,
    kernel=7,
    last_kernel=7,
    residual_kernel=3,
    residual_layers=1,
    dilation_growth=2,
    compress=2,
    lstm_layers=2,
    strides=(5, 4),
    causal=False,
    trim_right=1.0,
    pad_mode="reflect",
    conv_shortcut=False,
)


def codes_of(frames: int, codebooks: int = 4) -> Any:
    return np.random.default_rng(frames).integers(0, 512, (codebooks, frames))


def streamed(stream: AudioStream, codes: Any, bounds: list[int]) -> Any:
    return np.concatenate([*(stream.push(part) for part in np.split(codes, bounds, axis=1)), stream.end()], axis=1)


@pytest.fixture
def model(engine: OnnxEngine) -> OnnxModel:
    return engine._model


def test_chunks_of_sound_join_without_a_seam(model: OnnxModel) -> None:
    """What is made chunk by chunk is what one piece would be, but for rounding."""
    codes = codes_of(200)
    states, _ = model.states(codes[None], 0, 200, np.zeros((2, 1, 384), np.float32))
    whole = model.samples(states)
    chunks = streamed(model.audio_stream(), codes, [])

    assert chunks.shape == whole.shape == (1, 200 * 640)
    assert np.abs(chunks - whole).max() <= 3e-6 * np.abs(whole).max()


@pytest.mark.parametrize("frames", [1, 25, 26, 28, 57, 58, 60, 100])
def test_how_codes_come_changes_nothing(model: OnnxModel, frames: int) -> None:
    """One by one, all at once or in any parts: the same samples to the bit."""
    codes, random = codes_of(frames), np.random.default_rng(1)
    once = streamed(model.audio_stream(), codes, [])

    assert once.shape == (1, frames * 640)
    assert np.array_equal(streamed(model.audio_stream(), codes, list(range(frames))), once)
    for _ in range(3):
        bounds = sorted(random.integers(0, frames + 1, 5).tolist())
        assert np.array_equal(streamed(model.audio_stream(), codes, bounds), once)


def test_streams_dont_disturb_each_other(model: OnnxModel) -> None:
    """Each has a memory of its own."""
    takes = [codes_of(70), codes_of(90)]
    alone = [streamed(model.audio_stream(), codes, []) for codes in takes]
    streams = [model.audio_stream(), model.audio_stream()]
    heard: list[list[Any]] = [[], []]
    for t in range(90):
        for stream, codes, chunks in zip(streams, takes, heard, strict=True):
            chunks.append(stream.push(codes[:, t : t + 1]))
    together = [np.concatenate([*chunks, s.end()], axis=1) for s, chunks in zip(streams, heard, strict=True)]

    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


class Echo:
    """A codec whose samples tell their frame, and whose inputs are kept."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.order: list[int] = []

    def states(self, codes: Any, start: int, end: int, memory: Any) -> tuple[Any, Any]:
        self.sizes.append(codes.shape)
        self.order += codes[0, 0, start:end].tolist()
        return np.repeat(codes[:, :1, start:end], SHAPE.top_filters, axis=1).astype(np.float32), memory

    def samples(self, states: Any) -> Any:
        self.sizes.append(states.shape)
        return np.repeat(states[:, 0], SHAPE.hop, axis=1)


def test_each_frame_is_made_once_and_memory_stays_flat() -> None:
    """In order, each channel by itself; a long clip's chunks have no more around them than a short one's."""
    echo = Echo()
    stream = AudioStream(echo, SHAPE, codebooks=8, channels=2)
    codes = np.arange(1000) + np.array([[0], [5000], *[[0]] * 6])
    heard = streamed(stream, codes, list(range(1000)))

    assert echo.order == list(range(1000))
    assert np.array_equal(heard, np.repeat(np.stack([np.arange(1000), np.arange(1000) + 5000]), SHAPE.hop, axis=1))
    assert max(size[2] for size in echo.sizes) == 32 + 6  # what the first convolution looks at; `sound` looks at less
    assert {size[:2] for size in echo.sizes} == {(2, 4), (2, SHAPE.top_filters)}


def test_a_chunk_comes_as_soon_as_what_it_looks_ahead_to() -> None:
    """The first of 25 frames, then of 32."""
    stream = AudioStream(Echo(), SHAPE, codebooks=4, channels=1)
    came = [(t + 1, stream.push(codes_of(1)).shape[1] // SHAPE.hop) for t in range(100)]
    ahead = SHAPE.receptive_radius + 3  # of the convolution's seven frames

    assert [chunk for chunk in came if chunk[1]] == [(25 + ahead, 25), (57 + ahead, 32), (89 + ahead, 32)]
    assert stream.end().shape[1] == 11 * SHAPE.hop
    assert stream.end().shape[1] == 0
