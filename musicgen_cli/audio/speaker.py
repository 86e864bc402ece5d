"""
The player for machines without one: `python -m musicgen_cli.audio.speaker FILE` plays a WAV through PortAudio.

It is a program of its own, like the other players, so that it is stopped in the same way.
"""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import sounddevice

from musicgen_cli.audio.wav import inspect, samples

_DTYPES = {"h": "int16", "i": "int32", "f": "float32"}


def main(path: str) -> None:
    """Play a WAV to its end."""
    wav = Path(path).read_bytes()
    info = inspect(wav)
    values = samples(wav, info).values
    if values.typecode == "d":  # PortAudio has no 64-bit floats
        values = array("f", values)
    with sounddevice.RawOutputStream(
        samplerate=info.sample_rate, channels=info.channels, dtype=_DTYPES[values.typecode]
    ) as stream:
        stream.write(values.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
