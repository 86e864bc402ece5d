"""Encode a WAV as FLAC, Ogg Vorbis or MP3 with soundfile."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping

import soundfile

from musicgen_cli.audio.wav import inspect, samples
from musicgen_cli.errors import InvalidWavError, short_reason

_DTYPES = {"h": "int16", "i": "int32", "f": "float32", "d": "float64"}


def encode(wav: bytes, format_: str, tags: Mapping[str, str]) -> bytes:
    """
    Encode a WAV in another format.

    Args:
        wav: A WAV that `inspect` accepts.
        format_: `flac`, `ogg` or `mp3`.
        tags: Metadata by libsndfile's names: title, artist, date, comment, copyright, software. An MP3 takes only the
            first four, and title and artist only as ASCII, because libsndfile would mark anything else as Latin-1.

    Raises:
        InvalidWavError: It is not such a WAV, or the format can't hold it: MP3, for example, has nine sample rates and
            at most two channels.
    """
    info = inspect(wav)
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
        reason = short_reason(Exception(err.error_string))
        raise InvalidWavError(
            f"{format_} can't hold {info.channels} channels at {info.sample_rate} Hz: {reason}"
        ) from err
    return file.getvalue()


def _mp3_tag(name: str, text: str) -> str:
    if name == "date":
        return text[:4]
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return plain.encode("ascii", "replace").decode()
