"""Decode FLAC, Ogg and MP3 to WAV, with soundfile (the extra audio) or else with ffmpeg."""

from __future__ import annotations

import io
import shutil
import subprocess
from array import array

from musicgen_cli.audio.wav import WavInfo, inspect, read_info, rebuilt, to_wav
from musicgen_cli.errors import InvalidWavError, MissingExtraError, short_reason
from musicgen_cli.extras import needs
from musicgen_cli.limits import SOUND_BYTES, SOURCE_BYTES
from musicgen_cli.text import number, size

ENDINGS = (".flac", ".ogg", ".oga", ".opus", ".mp3")

_BLOCK_SAMPLES = 1 << 17  # of all channels, of which a file may say that it has 255
_FFMPEG_S = 600.0
_ID3_HEADER = 10  # bytes


def kind_of(data: bytes) -> str | None:
    """Return `flac`, `ogg` or `mp3` if the bytes begin as such a file does."""
    if data.startswith(b"ID3") and len(data) >= _ID3_HEADER:
        tag = 0  # its size
        for byte in data[6:_ID3_HEADER]:
            tag = tag << 7 | byte & 0x7F
        return "flac" if data.startswith(b"fLaC", _ID3_HEADER + tag) else "mp3"
    if data.startswith(b"fLaC"):
        return "flac"
    if data.startswith(b"OggS"):
        return "ogg"
    is_layer_3 = len(data) > 2 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[2] >> 4 != 0xF
    return "mp3" if is_layer_3 else None


def can_decode() -> bool:
    """Tell whether soundfile or ffmpeg is here."""
    try:
        import soundfile  # noqa: F401
    except ModuleNotFoundError:
        return shutil.which("ffmpeg") is not None
    return True


def decode(data: bytes, kind: str, *, longest_s: float | None = None) -> tuple[bytes, str]:
    """
    Decode a file.

    Args:
        data: Its bytes.
        kind: As `kind_of` returns it.
        longest_s: A longer sound is refused, before it is decoded to its end; None bounds its size alone.

    Returns:
        A WAV of 16 bits, or of 24 if a FLAC has more than 16; and the file's comment, "" if it has none.

    Raises:
        InvalidWavError: The file is damaged, or too long.
        MissingExtraError: Neither soundfile nor ffmpeg is here.
    """
    try:
        with needs("audio"):
            wav, comment = _by_soundfile(data, kind, longest_s)
    except MissingExtraError as err:
        if (program := shutil.which("ffmpeg")) is None:
            text = f"{kind.upper()} needs the extra 'audio' or ffmpeg, and neither is here"
            raise MissingExtraError(text, hint=err.hint) from err
        wav, comment = _by_ffmpeg(data, kind, program, longest_s)
    if kind == "flac":
        frames, (_, stated) = inspect(wav).frames, _flac_header(data)
        if stated and stated != frames:  # decoders shorten a file that was cut off
            raise InvalidWavError(f"the FLAC's header says {stated} samples, the file has {frames}")
    return wav, comment


def _by_soundfile(data: bytes, kind: str, longest_s: float | None) -> tuple[bytes, str]:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
        """A file that is read from its beginning to its end: a FLAC that came through a pipe can't be sought in."""

        def seekable(self) -> bool:
            return False

    try:
        with Stream(io.BytesIO(data)) as file:
            bits = 24 if file.subtype in {"PCM_24", "PCM_32"} else 16
            form, width = ("int32", 4) if bits == 24 else ("int16", 2)
            most = _most_bytes(longest_s)
            if longest_s is not None:
                most = min(most, round(longest_s * file.samplerate) * file.channels * width)
            frames = max(1, _BLOCK_SAMPLES // file.channels)
            space = bytearray(frames * file.channels * width)
            total = 0
            blocks: list[bytes] = []
            while not blocks or blocks[-1]:
                if kind == "flac":
                    blocks.append(bytes(space[: file.buffer_read_into(space, form) * file.channels * width]))
                else:  # a decoder's overshoot would wrap round if it were read as integers
                    block = file.read(frames, dtype="float32")
                    blocks.append((block * 32768).round().clip(-32768, 32767).astype("=i2").tobytes())
                total += len(blocks[-1])
                if total > most:
                    raise _too_long(kind, longest_s)
            if not total:
                raise InvalidWavError(f"the {kind.upper()} has no samples")
            info = WavInfo(file.samplerate, file.channels, 0, bits, False, 0)
            return to_wav(array("i" if bits == 24 else "h", b"".join(blocks)), info), file.comment
    except soundfile.LibsndfileError as err:
        raise InvalidWavError(
            f"it can't be read as {kind.upper()}: {short_reason(Exception(err.error_string))}"
        ) from err


def _by_ffmpeg(data: bytes, kind: str, program: str, longest_s: float | None) -> tuple[bytes, str]:
    """Decode with ffmpeg, which gets the bytes alone: no name, and no way to open other files or addresses."""
    codec = "pcm_s24le" if kind == "flac" and _flac_header(data)[0] > 16 else "pcm_s16le"
    words = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "pipe", "-f", kind, "-i", "pipe:0"]
    if kind == "ogg":
        words += ["-map_metadata:g", "0:s:0"]  # an Ogg's tags are its stream's
    if longest_s is not None:
        words += ["-t", str(longest_s + 1)]  # what is one second longer is seen to be too long
    words += ["-map", "0:a:0", "-c:a", codec, "-fs", str(_most_bytes(longest_s) + 1), "-f", "wav", "pipe:1"]
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments
            words, input=data, capture_output=True, timeout=_FFMPEG_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise InvalidWavError(f"ffmpeg can't read it as {kind.upper()}: {short_reason(err)}") from err
    if done.returncode or not done.stdout:
        reason = short_reason(Exception(done.stderr.decode(errors="replace"))) or "it says nothing"
        raise InvalidWavError(f"ffmpeg can't read it as {kind.upper()}: {reason}")
    wav = rebuilt(done.stdout) if len(done.stdout) <= _most_bytes(longest_s) else b""
    if not wav or (longest_s is not None and inspect(wav).frames > longest_s * inspect(wav).sample_rate):
        raise _too_long(kind, longest_s)
    return wav, read_info(done.stdout).get("ICMT", "")


def _flac_header(data: bytes) -> tuple[int, int]:
    """
    Return the bits of a sample, and the number of samples of a channel; 0 is unknown.

    Source:
        RFC 9639, section 8.2: behind 80 bits about blocks and frames come 20 bits for the rate, 3 for the channels, 5
        for the bits less one and 36 for the number of samples.
    """
    at = data.find(b"fLaC") + 18
    fields = int.from_bytes(data[at : at + 8])
    return (fields >> 36 & 0x1F) + 1, fields & 0xF_FFFF_FFFF


def _most_bytes(longest_s: float | None) -> int:
    return SOUND_BYTES if longest_s is None else SOURCE_BYTES


def _too_long(kind: str, longest_s: float | None) -> InvalidWavError:
    bound = f"more than {size(_most_bytes(longest_s))} of samples"
    if longest_s is not None:
        bound = f"more than {number(longest_s)} s, or {bound}"
    return InvalidWavError(f"the {kind.upper()} has {bound}")
