"""Encode a WAV as FLAC, Ogg Vorbis or MP3, with soundfile (the extra audio) or else with ffmpeg."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from musicgen_cli.audio.wav import WavInfo, inspect, samples
from musicgen_cli.errors import InvalidWavError, MissingExtraError, short_reason
from musicgen_cli.extras import needs

_DTYPES = {"h": "int16", "i": "int32", "f": "float32", "d": "float64"}
_FFMPEG_S = 600.0
_FFMPEG_OPTIONS = {
    "flac": ("-c:a", "flac"),
    "ogg": ("-c:a", "libvorbis", "-q:a", "4"),
    "mp3": ("-c:a", "libmp3lame", "-q:a", "2", "-id3v2_version", "3"),
}
# What ffmpeg would change without a word: it resamples and mixes down to what the encoder can do.
_MAX_CHANNELS = {"flac": 8, "ogg": 8, "mp3": 2}
_MP3_RATES = frozenset({8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_MAX_RATES = {"flac": 655_350, "ogg": 200_000}


def check_encoder(format_: str) -> None:
    """
    Check that something here can encode a format.

    Raises:
        MissingExtraError: Neither soundfile nor ffmpeg is here.
    """
    if _has_soundfile() or shutil.which("ffmpeg"):
        return
    try:
        with needs("audio"):
            import soundfile  # noqa: F401
    except MissingExtraError as err:
        raise MissingExtraError(
            f"{format_.upper()} needs the extra 'audio' or ffmpeg, and neither is here", hint=err.hint
        ) from err


def encode(wav: bytes, format_: str, tags: Mapping[str, str]) -> bytes:
    """
    Encode a WAV in another format.

    Args:
        wav: A WAV that `inspect` accepts.
        format_: `flac`, `ogg` or `mp3`.
        tags: Metadata by libsndfile's names: title, artist, date, comment, copyright, software. An MP3 takes only the
            first four, and title and artist only as ASCII, because libsndfile would mark anything else as Latin-1;
            ffmpeg has no such limits.

    Raises:
        InvalidWavError: It is not such a WAV, or the format can't hold it: MP3, for example, has nine sample rates and
            at most two channels.
        MissingExtraError: As `check_encoder`.
    """
    info = inspect(wav)
    if not _has_soundfile() and (program := shutil.which("ffmpeg")):
        return _by_ffmpeg(wav, info, format_, tags, program)
    check_encoder(format_)
    return _by_soundfile(wav, info, format_, tags)


def _has_soundfile() -> bool:
    try:
        import soundfile  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _by_soundfile(wav: bytes, info: WavInfo, format_: str, tags: Mapping[str, str]) -> bytes:
    import soundfile

    values = samples(wav, info).values
    subtype = None if format_ != "flac" else "PCM_16" if values.typecode == "h" else "PCM_24"
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file,
            "w",
            samplerate=info.sample_rate,
            channels=info.channels,
            format=format_.upper(),
            subtype=subtype,
        ) as target:
            for name, text in tags.items():
                setattr(target, name, text if format_ != "mp3" else _mp3_tag(name, text))
            target.buffer_write(values.tobytes(), dtype=_DTYPES[values.typecode])
    except soundfile.LibsndfileError as err:
        raise _unfit(format_, info, err.error_string) from err
    return file.getvalue()


def _by_ffmpeg(wav: bytes, info: WavInfo, format_: str, tags: Mapping[str, str], program: str) -> bytes:
    """Encode with ffmpeg, into a file, because FLAC's length is written at its start when it is known."""
    rate_fits = info.sample_rate in _MP3_RATES if format_ == "mp3" else info.sample_rate <= _MAX_RATES[format_]
    if not rate_fits or info.channels > _MAX_CHANNELS[format_]:
        raise _unfit(format_, info, "not supported")
    options = [*_FFMPEG_OPTIONS[format_]]
    if format_ == "flac":
        options += ["-sample_fmt", "s16" if info.bits <= 16 else "s32"]
    try:
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            metadata, encoded = Path(folder) / "metadata", Path(folder) / f"encoded.{format_}"
            metadata.write_text(";FFMETADATA1\n" + "".join(_metadata_lines(tags)), encoding="utf-8")
            words = [program, "-nostdin", "-v", "error", "-f", "wav", "-i", "pipe:0", "-f", "ffmetadata"]
            words += ["-i", str(metadata), "-map", "0:a:0", "-map_metadata", "1", *options, "-bitexact", str(encoded)]
            done = subprocess.run(  # noqa: S603  # our own list of arguments
                words, input=wav, capture_output=True, timeout=_FFMPEG_S, check=False
            )
            if not done.returncode:
                return encoded.read_bytes()
    except (OSError, subprocess.TimeoutExpired) as err:
        raise InvalidWavError(f"ffmpeg can't encode {format_}: {short_reason(err)}") from err
    raise InvalidWavError(
        f"ffmpeg can't encode {format_}: {short_reason(Exception(done.stderr.decode(errors='replace')))}"
    )


def _metadata_lines(tags: Mapping[str, str]) -> list[str]:
    """Write tags as lines of ffmpeg's metadata format, in which some characters need a backslash."""
    return [name + "=" + re.sub(r"([=;#\\])", r"\\\1", text) + "\n" for name, text in tags.items()]


def _unfit(format_: str, info: WavInfo, reason: str) -> InvalidWavError:
    channels = "1 channel" if info.channels == 1 else f"{info.channels} channels"
    return InvalidWavError(
        f"{format_} can't hold {channels} at {info.sample_rate} Hz: {short_reason(Exception(reason))}"
    )


def _mp3_tag(name: str, text: str) -> str:
    if name == "date":
        return text[:4]
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return plain.encode("ascii", "replace").decode()
