from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.audio.chroma import CLASSES, RATE, chroma, melody_chroma, no_melody

C4 = 261.6256  # Hz


def notes(*semitones: int, seconds: float = 1.0) -> Any:
    """Return notes one after the other, given in semitones above C4."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.concatenate([0.5 * np.sin(2 * np.pi * C4 * 2 ** (n / 12) * time) for n in semitones]).astype(np.float32)


@pytest.mark.parametrize("octave", [-1, 0, 1, 2])
def test_a_note_is_loudest_in_its_class(octave: int) -> None:
    """From C to B, in any octave."""
    for semitone in range(12):
        loudness = chroma(notes(semitone + 12 * octave))

        assert loudness.shape == (8, CLASSES)
        assert (loudness.argmax(axis=1) == semitone).all()
        assert (loudness.max(axis=1) == 1).all()


def test_a_tune_is_followed() -> None:
    """One class is set in each frame, that of the note which sounds."""
    tune = melody_chroma(notes(0, 4, 7, 11), 31)

    assert tune.shape == (31, CLASSES)
    assert (tune.sum(axis=1) == 1).all()
    classes = tune.argmax(axis=1).tolist()
    assert [classes[round((i + 0.5) * RATE / 4096)] for i in range(4)] == [0, 4, 7, 11]


def test_a_short_tune_is_repeated_and_a_long_one_cut() -> None:
    """To the model's number of frames."""
    short = notes(0, 5)
    whole = melody_chroma(short, 16)

    assert np.array_equal(melody_chroma(short, 235), np.resize(whole, (235, CLASSES)))
    assert np.array_equal(melody_chroma(short, 7), whole[:7])
    assert np.array_equal(melody_chroma(notes(0, 5, 7, 9), 10), melody_chroma(notes(0, 5, 7, 9, 11), 10))


def test_a_sound_shorter_than_a_window_has_a_chroma() -> None:
    """Half a second is less than one."""
    assert melody_chroma(notes(9, seconds=0.5), 3).argmax(axis=1).tolist() == [9, 9, 9]


def test_no_tune_is_the_first_class() -> None:
    """In every frame."""
    assert no_melody(235).sum() == no_melody(235)[:, 0].sum() == 235


def test_a_long_sound_takes_little_memory() -> None:
    """Its spectrum is never there as a whole: 600 s would have 310 MB."""
    sound = np.zeros(600 * RATE, np.float32)
    sound[::1000] = 1
    tracemalloc.start()
    chroma(sound)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2.5 * sound.nbytes


@pytest.mark.oracle
@pytest.mark.parametrize("seconds", [0.3, 0.513, 3.0, 30.0])
def test_chroma_is_that_of_transformers(seconds: float) -> None:
    """Its filters, and the spectrogram that its feature extractor asks of torchaudio: both to a hundred-thousandth."""
    torch = pytest.importorskip("torch", reason="the oracle needs torch")
    audio_utils = pytest.importorskip("transformers.audio_utils", reason="the oracle needs transformers")
    bank = audio_utils.chroma_filter_bank(sampling_rate=32_000, num_frequency_bins=16_384, tuning=0, num_chroma=12)
    rng = np.random.default_rng(1)
    sound = (notes(0, 3, 7, 2, seconds=seconds / 4) + rng.normal(size=4 * round(seconds / 4 * RATE)) * 0.1).astype("f4")
    wave = torch.tensor(sound)
    if (missing := 16_384 - len(wave)) > 0:
        wave = torch.nn.functional.pad(wave, (missing // 2, missing // 2 + missing % 2))
    window = torch.hann_window(16_384)
    spectrum = torch.stft(wave, 16_384, 4_096, window=window, center=True, pad_mode="reflect", return_complex=True)
    spectrum = (spectrum / window.pow(2).sum().sqrt()).abs().pow(2)
    theirs = torch.nn.functional.normalize(torch.tensor(bank).float() @ spectrum, p=float("inf"), dim=0, eps=1e-6).T

    from musicgen_cli.audio.chroma import filters

    assert np.abs(filters() - bank).max() <= 1e-6
    assert np.abs(chroma(sound) - theirs.numpy()).max() <= 1e-5
    expected = theirs.argmax(1)
    assert np.array_equal(melody_chroma(sound, len(expected)).argmax(axis=1), expected.numpy())
