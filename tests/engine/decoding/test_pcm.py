from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.engine.decoding.pcm import Recording
from musicgen_cli.errors import EngineError


def recorded(*chunks: list[list[float]], samples: int = 100, rate: int = 32_000) -> tuple[bytes, tuple[str, ...]]:
    recording = Recording(samples, sample_rate=rate, channels=len(chunks[0]))
    for chunk in chunks:
        recording.add(np.float32(chunk))
    return recording.wav()


def test_loud_samples_are_clipped_and_counted() -> None:
    """Clipped, not wrapped; exactly full scale is not loud; all chunks count together."""
    content, warnings = recorded([[1.0, -1.0, 1.5]], [[-7.0, 0.5]])

    assert np.frombuffer(content[44:], "<i2").tolist() == [32767, -32767, 32767, -32767, 16384]
    assert warnings == ("2 samples were louder than full scale and clipped",)
    assert recorded([[2.0, 0.1]])[1] == ("1 sample was louder than full scale and clipped",)


def test_channels_are_interleaved() -> None:
    """Left, right, left, right; in each chunk."""
    content, _ = recorded([[0.5, 1], [-0.5, -1]], [[0.25], [0]])

    assert np.frombuffer(content[44:], "<i2").tolist() == [16384, -16384, 32767, -32767, 8192, 0]
    assert inspect(content).channels == 2


def test_chunks_are_the_wav_and_end_where_it_ends() -> None:
    """Each chunk's bytes follow the one before; what is beyond the clip's length is left out and judged by nobody."""
    recording = Recording(3, sample_rate=8000, channels=1)
    chunks = [recording.add(np.float32([values])) for values in ([0.1, 0.2], [0.3, 9.0], [np.nan])]
    content, warnings = recording.wav()

    assert [len(chunk) for chunk in chunks] == [4, 2, 0]
    assert b"".join(chunks) == content[44:]
    assert inspect(content).frames == 3
    assert warnings == ()


def test_silence_is_told() -> None:
    """It is a sound, and kept; what rounds to zero is silent too, unless a later chunk isn't."""
    assert recorded([[1e-6, 0]], [[0]])[1] == ("the sound is silent",)
    assert recorded([[0, 0]], [[0.1]])[1] == ()
    assert recorded([[0.1, 0]], [[0]])[1] == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sound_that_is_no_number_is_an_error(bad: float) -> None:
    """Nothing is clipped into being."""
    with pytest.raises(EngineError, match="not a number"):
        recorded([[0.0, 0.5]], [[0.0, bad]])
