"""WAV → FLAC, Ogg Vorbis, MP3; the only file that imports soundfile."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping

import soundfile

from musicgen_cli.audio.wav import inspect, samples
from musicgen_cli.errors import InvalidWavError, line

_TYPES = {"h": "int16", "i": "int32", "f": "float32", "d": "float64"}


def encode(wav: bytes, form: str, tags: Mapping[str, str]) -> bytes:
    """
    Turn a WAV into another format.

    Args:
        wav: A WAV that can be kept.
        form: `flac`, `ogg` or `mp3`.
        tags: Some of libsndfile's strings: title, artist, date, comment, copyright, software. MP3 gets no others than
            the first four, and of title and artist the ASCII, for libsndfile would have them read as Latin-1.

    Raises:
        InvalidWavError: The format can't hold such a sound: MP3, for one, knows nine sample rates and two channels.
    """
    info = inspect(wav)
    values = samples(wav, info).values
    subtype = None if form != "flac" else "PCM_16" if values.typecode == "h" else "PCM_24"
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", samplerate=info.sample_rate, channels=info.channels, format=form.upper(), subtype=subtype
        ) as target:
            for name, text in tags.items():
                setattr(target, name, text if form != "mp3" else _for_mp3(name, text))
            target.buffer_write(values.tobytes(), dtype=_TYPES[values.typecode])
    except soundfile.LibsndfileError as err:
        raise InvalidWavError(
            f"{form} can't hold {info.channels} channels at {info.sample_rate} Hz: {line(Exception(err.error_string))}"
        ) from err
    return file.getvalue()


def _for_mp3(name: str, text: str) -> str:
    if name == "date":
        return text[:4]
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return plain.encode("ascii", "replace").decode()
