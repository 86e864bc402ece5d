from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.engine.decoding.pcm import Recording
from musicgen_cli.errors import EngineError


def wav_of(*chunks: list[list[float]], samples: int = 100, rate: int = 32_000) -> tuple[bytes, tuple[str, ...]]:
    """Record chunks, each a list of channels, and return the WAV and its warnings."""
    recording = Recording(samples, sample_rate=rate, channels=len(chunks[0]))
    for chunk in chunks:
        recording.add(np.float32(chunk))
    return recording.wav()


def test_loud_samples_are_clipped_and_counted() -> None:
    """Clipped, not wrapped; exactly full scale is not too loud; the warning counts the samples of all chunks."""
    content, warnings = wav_of([[1.0, -1.0, 1.5]], [[-7.0, 0.5]])

    assert np.frombuffer(content[44:], "<i2").tolist() == [32767, -32767, 32767, -32767, 16384]
    assert warnings == ("2 samples were louder than full scale and clipped",)
    assert wav_of([[2.0, 0.1]])[1] == ("1 sample was louder than full scale and clipped",)


def test_channels_are_interleaved() -> None:
    """Left, right, left, right, in each chunk."""
    content, _ = wav_of([[0.5, 1], [-0.5, -1]], [[0.25], [0]])

    assert np.frombuffer(content[44:], "<i2").tolist() == [16384, -16384, 32767, -32767, 8192, 0]
    assert inspect(content).channels == 2


def test_chunks_add_up_to_the_wav_and_stop_at_its_length() -> None:
    """Samples beyond the clip's length are dropped, and neither clipped nor checked."""
    recording = Recording(3, sample_rate=8000, channels=1)
    chunks = [recording.add(np.float32([values])) for values in ([0.1, 0.2], [0.3, 9.0], [np.nan])]
    content, warnings = recording.wav()

    assert [len(chunk) for chunk in chunks] == [4, 2, 0]
    assert b"".join(chunks) == content[44:]
    assert inspect(content).frames == 3
    assert warnings == ()


def test_silence_is_a_warning() -> None:
    """Samples that round to zero are silent; one sound in any chunk is enough to be not silent."""
    assert wav_of([[1e-6, 0]], [[0]])[1] == ("the sound is silent",)
    assert wav_of([[0, 0]], [[0.1]])[1] == ()
    assert wav_of([[0.1, 0]], [[0]])[1] == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_an_error(bad: float) -> None:
    """They are not clipped to full scale."""
    with pytest.raises(EngineError, match="NaN or infinite"):
        wav_of([[0.0, 0.5]], [[0.0, bad]])
