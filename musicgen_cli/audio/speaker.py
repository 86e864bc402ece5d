"""
A player for machines that have none: `python -m musicgen_cli.audio.speaker FILE` plays a WAV through PortAudio.

A program of its own, as the other players are, so that it can be stopped as they are.
"""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import sounddevice

from musicgen_cli.audio.wav import inspect, samples

_TYPES = {"h": "int16", "i": "int32", "f": "float32"}


def main(path: str) -> None:
    """Play a file to its end."""
    wav = Path(path).read_bytes()
    info = inspect(wav)
    values = samples(wav, info).values
    if values.typecode == "d":  # which PortAudio doesn't know
        values = array("f", values)
    with sounddevice.RawOutputStream(
        samplerate=info.sample_rate, channels=info.channels, dtype=_TYPES[values.typecode]
    ) as stream:
        stream.write(values.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
