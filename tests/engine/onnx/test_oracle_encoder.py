"""Compares EnCodec's encoder on ONNX Runtime with transformers: the same values before quantization, the same codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.checkpoint.shape import CodecShape, Shape
from musicgen_cli.engine.decoding import sound_encoder
from musicgen_cli.engine.onnx.graph_cache import CODEC_ENCODER, CODEC_QUANTIZER, prepare_encoder_graphs
from musicgen_cli.engine.onnx.session import open_session
from musicgen_cli.engine.onnx.sound_encoder import OnnxSoundEncoder
from tests.support.oracle import (
    MODELS,
    num_distinct,
    quiet,  # noqa: F401  # a fixture
    random_model,
)

pytestmark = pytest.mark.oracle

PUBLISHED = {
    "sampling_rate": 32_000,
    "num_filters": 64,
    "upsampling_ratios": [8, 5, 4, 4],
    "hidden_size": 128,
    "codebook_size": 2048,
}
CONFIGS = {**MODELS, "the published codec": ({}, {"num_layers": 1}, PUBLISHED)}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Make a random model of each config, whose codebooks are of vectors that its encoder gives, and save it."""
    theirs = random_model(20 + list(CONFIGS).index(request.param), *CONFIGS[request.param])
    with torch.no_grad():
        for name, values in theirs.audio_encoder.encoder.named_parameters():
            if name.endswith("original0"):
                values.mul_(2)  # so that the sound matters more than the biases
        left = theirs.audio_encoder.encoder(torch.randn(1, 1, 100_000) * 0.3)
        for layer in theirs.audio_encoder.quantizer.layers:
            vectors = left[0].T[torch.randint(left.shape[2], (len(layer.codebook.embed),))]
            layer.codebook.embed.copy_(0.7 * vectors)
            layer.codebook.embed[theirs.config.decoder.vocab_size :] = 1e3  # never the nearest
            left = left - layer.decode(layer.encode(left))
    folder = tmp_path_factory.mktemp("model")
    theirs.save_pretrained(folder)
    return theirs.audio_encoder, folder


def sound(shape: CodecShape, frames: int, channels: int) -> Any:
    """Return noise whose loudness changes, with a tone."""
    length = frames * shape.hop
    rng = np.random.default_rng(frames)
    time = np.arange(length)
    loudness = 0.3 * (1 + np.sin(time / length * 40))
    return (rng.normal(size=(channels, length)) * loudness * 0.5 + 0.4 * np.sin(time * 0.05)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 2, 7, 63, 64, 65, 130, 1000])
def test_codes_are_equal(model: tuple[Any, Path], frames: int) -> None:
    """Of 999 in 1000 frames; and the values before quantization, to a ten-thousandth of the largest."""
    theirs, folder = model
    checkpoint = find_checkpoint(str(folder), folder)
    shape = Shape.of(checkpoint.config)
    channels, codebooks = shape.decoder.channels, shape.decoder.codebooks // shape.decoder.channels
    samples = sound(shape.codec, frames, channels)
    with torch.no_grad():
        by_channel = torch.tensor(samples)[:, None]
        latents = theirs.encoder(by_channel).mT.numpy()
        expected = theirs.encode(by_channel).audio_codes[0].numpy()
    assert expected.shape == (channels, codebooks, frames)

    graphs = prepare_encoder_graphs(checkpoint, shape, cache_dir=folder / "cache", note=lambda text: None)
    parts = RecordingParts(graphs.directory)
    codes = sound_encoder.encode_sound(parts, shape.codec, samples)

    assert np.abs(parts.latents - latents).max() <= 1e-4 * max(1.0, np.abs(latents).max())
    assert codes.shape == (shape.decoder.codebooks, frames)
    for channel in range(channels):
        equal = (codes[channel::channels] == expected[channel]).all(axis=0)
        assert (~equal).sum() <= 1  # two vectors can be as near as rounding allows
    if frames >= 63:
        assert num_distinct(codes) >= 60

    encoder = OnnxSoundEncoder(
        checkpoint, shape, cache_dir=folder / "cache", threads=1, note=lambda text: pytest.fail(text)
    )
    assert np.array_equal(encoder.encode(samples), codes)


class RecordingParts:
    """The two graphs, with the values before quantization."""

    def __init__(self, directory: Path) -> None:
        self._encoder = open_session(directory / CODEC_ENCODER, 1, keep_memory=True)
        self._quantizer = open_session(directory / CODEC_QUANTIZER, 1, keep_memory=True)
        self.latents = np.empty(0)

    def run_codec_encoder(self, samples: Any) -> Any:
        return self._encoder.run(["features"], {"sound": samples})[0]

    def run_codec_quantizer(self, features: Any) -> Any:
        codes, self.latents = self._quantizer.run(["codes", "latents"], {"features": features})
        return codes
