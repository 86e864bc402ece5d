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


def random_codes(frames: int, codebooks: int = 4) -> Any:
    return np.random.default_rng(frames).integers(0, 512, (codebooks, frames))


def decode_in_parts(stream: AudioStream, codes: Any, bounds: list[int]) -> Any:
    """Return the samples of a stream to which codes are pushed in parts that end at `bounds`."""
    return np.concatenate([*(stream.push(part) for part in np.split(codes, bounds, axis=1)), stream.end()], axis=1)


@pytest.fixture
def model(engine: OnnxEngine) -> OnnxModel:
    return engine.model


def test_chunks_join_without_a_seam(model: OnnxModel) -> None:
    """Apart from rounding, decoding chunk by chunk gives the samples of decoding all frames at once."""
    codes = random_codes(200)
    features, _ = model.run_codec_lstm(codes[None], 0, 200, np.zeros((2, 1, 512), np.float32))
    at_once = model.run_codec_decoder(features)
    in_chunks = decode_in_parts(model.audio_stream(), codes, [])

    assert in_chunks.shape == at_once.shape == (1, 200 * 640)
    assert np.abs(in_chunks - at_once).max() <= 3e-6 * np.abs(at_once).max()


@pytest.mark.parametrize("frames", [1, 25, 26, 28, 57, 58, 60, 100])
def test_samples_do_not_depend_on_the_portions_of_codes(model: OnnxModel, frames: int) -> None:
    """One by one, all at once or in any parts, the samples are the same to the bit."""
    codes, rng = random_codes(frames), np.random.default_rng(1)
    at_once = decode_in_parts(model.audio_stream(), codes, [])

    assert at_once.shape == (1, frames * 640)
    assert np.array_equal(decode_in_parts(model.audio_stream(), codes, list(range(frames))), at_once)
    for _ in range(3):
        bounds = sorted(rng.integers(0, frames + 1, 5).tolist())
        assert np.array_equal(decode_in_parts(model.audio_stream(), codes, bounds), at_once)


def test_streams_do_not_affect_each_other(model: OnnxModel) -> None:
    """Each stream has an LSTM state of its own."""
    clips = [random_codes(70), random_codes(90)]
    alone = [decode_in_parts(model.audio_stream(), codes, []) for codes in clips]
    streams = [model.audio_stream(), model.audio_stream()]
    chunks: list[list[Any]] = [[], []]
    for t in range(90):
        for stream, codes, received in zip(streams, clips, chunks, strict=True):
            received.append(stream.push(codes[:, t : t + 1]))
    together = [np.concatenate([*received, s.end()], axis=1) for s, received in zip(streams, chunks, strict=True)]

    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


class EchoCodec:
    """A codec whose samples are the codes of the first codebook, and which records the sizes of its inputs."""

    def __init__(self) -> None:
        self.input_shapes: list[tuple[int, ...]] = []
        self.lstm_frames: list[int] = []

    def run_codec_lstm(self, codes: Any, start: int, end: int, lstm_state: Any) -> tuple[Any, Any]:
        self.input_shapes.append(codes.shape)
        self.lstm_frames += codes[0, 0, start:end].tolist()
        return np.repeat(codes[:, :1, start:end], SHAPE.top_filters, axis=1).astype(np.float32), lstm_state

    def run_codec_decoder(self, features: Any) -> Any:
        self.input_shapes.append(features.shape)
        return np.repeat(features[:, 0], SHAPE.hop, axis=1)


def test_each_frame_passes_the_lstm_once_and_memory_stays_constant() -> None:
    """In order, each channel by itself; the chunks of a long clip have no more context than those of a short one."""
    codec = EchoCodec()
    stream = AudioStream(codec, SHAPE, codebooks=8, channels=2)
    codes = np.arange(1000) + np.array([[0], [5000], *[[0]] * 6])
    samples = decode_in_parts(stream, codes, list(range(1000)))

    assert codec.lstm_frames == list(range(1000))
    assert np.array_equal(samples, np.repeat(np.stack([np.arange(1000), np.arange(1000) + 5000]), SHAPE.hop, axis=1))
    assert max(shape[2] for shape in codec.input_shapes) == 32 + 6  # a chunk and the first convolution's context
    assert {shape[:2] for shape in codec.input_shapes} == {(2, 4), (2, SHAPE.top_filters)}


def test_a_chunk_is_decoded_as_soon_as_its_lookahead_is_there() -> None:
    """The first chunk has 25 frames, each further one 32."""
    stream = AudioStream(EchoCodec(), SHAPE, codebooks=4, channels=1)
    chunks = [(t + 1, stream.push(random_codes(1)).shape[1] // SHAPE.hop) for t in range(100)]
    lookahead = SHAPE.receptive_radius + 3  # half of the first convolution's context

    assert [chunk for chunk in chunks if chunk[1]] == [(25 + lookahead, 25), (57 + lookahead, 32), (89 + lookahead, 32)]
    assert stream.end().shape[1] == 11 * SHAPE.hop
    assert stream.end().shape[1] == 0
