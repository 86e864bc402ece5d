from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("soxr", reason="needs the extra local")

from musicgen_cli.audio.source import Source, read_source
from musicgen_cli.audio.source_file import check_sound, read_source_file
from musicgen_cli.audio.wav import inspect, pcm16_wav, streaming_header
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.limits import SOURCE_BYTES

RATE = 32_000


def tone(seconds: float = 1.0, *, rate: int = RATE, channels: int = 1, hz: float = 440.0) -> Any:
    """Return a sine, shape (frames, channels), -0.5 to 0.5, in float64; each channel an octave above the one before."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * hz * time[:, None] * 2 ** np.arange(channels))


def wav_of(values: Any, *, rate: int = RATE, bits: int = 16, is_float: bool = False) -> bytes:
    """Make a WAV of any sample format from values as `tone` returns them."""
    channels = values.shape[1]
    if is_float:
        data = values.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (np.rint(values * 127) + 128).astype(np.uint8).tobytes()
    elif bits == 24:
        wide = np.rint(values * (2**23 - 1)).astype("<i4")
        data = wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        data = np.rint(values * (2 ** (bits - 1) - 1)).astype(f"<i{bits // 8}").tobytes()
    frame = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 3 if is_float else 1, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(data)) + data
    body += b"\0" * (len(data) % 2)
    wav: bytes = b"RIFF" + struct.pack("<I", len(body)) + body
    return wav


def read(data: bytes, *, rate: int = RATE, channels: int = 1) -> Source:
    return read_source(data, rate=rate, channels=channels, name="'x.wav'")


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidValueError) as err:
        read(data)
    assert err.value.exit_code == 2
    assert "\n" not in str(err.value)
    return str(err.value)


@pytest.mark.parametrize(
    ("bits", "is_float", "error"),
    [
        *((8, False, 8e-3), (16, False, 4e-5), (24, False, 1e-6), (32, False, 1e-6)),
        *((32, True, 1e-6), (64, True, 1e-6)),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sample_format_is_read(bits: int, is_float: bool, error: float, channels: int) -> None:
    """Integers of 8 to 32 bits and both floats, mono and stereo."""
    expected = tone(channels=channels)
    source = read(wav_of(expected, bits=bits, is_float=is_float), channels=channels)

    assert source.samples.dtype == np.float32
    assert source.samples.shape == (channels, RATE)
    assert np.abs(source.samples - expected.T).max() <= error
    assert np.abs(source.pcm / 32_767 - expected.T).max() <= max(error, 2e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_16_bit_samples_are_kept_to_the_bit(channels: int) -> None:
    """At the model's rate and with its channels, whatever their values."""
    values = np.random.default_rng(1).integers(-32_768, 32_768, (RATE, channels)).astype("<i2")
    source = read(pcm16_wav(values.tobytes(), sample_rate=RATE, channels=channels), channels=channels)

    assert np.array_equal(source.pcm, values.T)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_other_rates_are_resampled(rate: int) -> None:
    """The tone stays the same, to a thousandth but at the ends, and as long; over several blocks, too."""
    source = read(wav_of(tone(9, rate=rate), rate=rate, bits=32, is_float=True))
    expected = tone(9).T

    assert source.frames == 9 * RATE
    inner = slice(RATE // 10, -RATE // 10)
    assert np.abs(source.samples[:, inner] - expected[:, inner]).max() <= 1e-3


def test_a_mono_model_gets_the_mean_and_a_stereo_model_gets_mono_twice() -> None:
    """More than two channels are mixed, too."""
    stereo = tone(channels=2)
    mixed = read(wav_of(stereo, bits=32, is_float=True)).samples
    assert np.allclose(mixed[0], stereo.mean(axis=1), atol=1e-6)
    doubled = read(wav_of(tone(), bits=32, is_float=True), channels=2).samples
    assert np.array_equal(doubled[0], doubled[1])
    many = tone(channels=6)
    surround = read(wav_of(many, bits=32, is_float=True), channels=2).samples
    assert np.allclose(surround, many.mean(axis=1), atol=1e-6)


def test_what_is_louder_than_full_scale_is_clipped() -> None:
    """Also after resampling, which can overshoot."""
    square = np.sign(tone(rate=48_000))
    source = read(wav_of(square * 3, rate=48_000, bits=32, is_float=True))

    assert np.abs(source.samples).max() == 1
    assert np.abs(source.pcm.astype(int)).max() == 32_767


def test_a_wav_from_a_pipe_is_read() -> None:
    """Its header has no sizes."""
    samples = wav_of(tone())[44:]

    assert read(streaming_header(sample_rate=RATE, channels=1) + samples).frames == RATE


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_other_kinds_are_decoded(kind: str) -> None:
    """Nearly the same tone, as long as the codec makes it."""
    source = read(encoded(kind, 2.0))

    assert abs(source.frames - 2 * RATE) <= 4000
    spectrum = np.abs(np.fft.rfft(source.samples[0, :RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_too_long_sounds_of_other_kinds_are_not_decoded_to_their_end(kind: str) -> None:
    """A small file can hold hours."""
    assert "has more than 600 s" in refusal(encoded(kind, 700.0, silent=True))


def encoded(kind: str, seconds: float, *, silent: bool = False) -> bytes:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    rate = 8_000 if silent else 44_100
    values = np.zeros((round(seconds * rate), 1), np.float32) if silent else tone(seconds, rate=rate)
    target = io.BytesIO()
    with soundfile.SoundFile(target, "w", rate, 1, format=kind.upper()) as file:
        for first in range(0, len(values), rate):  # libsndfile overflows the stack with a long Ogg at once
            file.write(values[first : first + rate])
    return target.getvalue()


def test_ffmpeg_stops_too_long_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where soundfile isn't installed."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg isn't installed")
    from tests.actions.library.test_foreign_sounds import without_soundfile

    silence = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono"]
    sounds = [
        subprocess.run([*silence, "-t", length, "-f", "flac", "pipe:1"], capture_output=True, check=True, timeout=60)
        for length in ("599", "700")
    ]
    without_soundfile(monkeypatch)

    assert "is silent" in refusal(sounds[0].stdout)
    assert "has more than 600 s" in refusal(sounds[1].stdout)


WAV = wav_of(tone())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a WAV"),
        (b"not a sound at all", "not a WAV"),
        (WAV[:1000], "are left"),
        (b"fLaC" + bytes(100), "FLAC"),
        (wav_of(tone(0.49)), "'x.wav' has 0.49 s, 0.5-600 s can be used"),
        (wav_of(tone(601, rate=4_000), rate=4_000, bits=8), "'x.wav' has 601 s, 0.5-600 s can be used"),
        (wav_of(tone(rate=400_000), rate=400_000), "'x.wav' has 400000 Hz, 4000-192000 Hz can be used"),
        (wav_of(np.zeros((RATE, 64))), "'x.wav' has 64 channels, at most 8 can be used"),
        (wav_of(np.zeros((RATE, 1))), "'x.wav' is silent"),
        (wav_of(tone() * 1e-4), "'x.wav' is silent"),
        (wav_of(np.full((RATE, 1), np.nan), bits=32, is_float=True), "NaN or infinite"),
        (wav_of(np.full((RATE, 1), np.inf), bits=64, is_float=True), "NaN or infinite"),
        (wav_of(np.full((RATE, 1), 1e300), bits=64, is_float=True), "NaN or infinite"),
    ],
    ids=[
        *("empty", "text", "cut short", "damaged FLAC", "short", "long", "rate", "channels", "silence", "faint", "NaN"),
        *("infinite", "too large for float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_cant_be_used_is_refused_in_one_sentence(data: bytes, message: str) -> None:
    """With exit code 2."""
    assert message in refusal(data)


def test_a_header_that_lies_costs_nothing() -> None:
    """Neither ten hours nor a rate beyond all bounds make more memory than the file has."""
    lies = bytearray(WAV)
    lies[40:44] = struct.pack("<I", 36_000 * 32_000)
    assert "are left" in refusal(bytes(lies))
    lies = bytearray(WAV)
    lies[24:28] = struct.pack("<I", 2**32 - 1)
    assert "4294967295 Hz" in refusal(bytes(lies))
    assert inspect(WAV).frames == RATE


def test_files_are_read_up_to_a_bound(tmp_path: Path) -> None:
    """What isn't a file, isn't there or is too large is refused; a pipe isn't opened."""
    (tmp_path / "a.wav").write_bytes(WAV)
    assert read_source_file(tmp_path / "a.wav") == WAV
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(SOURCE_BYTES + 1)  # a hole, which takes no space
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (tmp_path / "none.wav", "there is no file"),
        (huge, "has more than 500.0 MB"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            read_source_file(path)


@pytest.mark.parametrize(("bits", "is_float"), [(8, False), (16, False), (24, False), (32, False), (32, True)])
@pytest.mark.parametrize("channels", [1, 2])
def test_silence_at_the_end_is_measured_in_every_format(bits: int, is_float: bool, channels: int) -> None:
    """In tenths of a second; a peak below -80 dB is silence, and so is one in the other channel."""
    values = tone(2.0, channels=channels)
    values[round(1.25 * RATE) :] = 0
    assert check_sound(wav_of(values, bits=bits, is_float=is_float), "x") == pytest.approx(0.7)
    if bits > 16:
        values[-1, -1] = 0.9e-4
        assert check_sound(wav_of(values, bits=bits, is_float=is_float), "x") == pytest.approx(0.7)
    values[-1, -1] = 0.01
    assert check_sound(wav_of(values, bits=bits, is_float=is_float), "x") == 0
    with pytest.raises(InvalidValueError, match="x is silent"):
        check_sound(wav_of(values * 0, bits=bits, is_float=is_float), "x")
