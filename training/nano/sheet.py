"""Draws a contact sheet of spectrograms and waveforms, to see problems that the evaluation doesn't measure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from training.nano.audio_analysis import SAMPLE_RATE, bands
from training.nano.recording import RecordingEngine
from training.nano.styles import GENRES

_SECONDS = 8.0
_COLUMNS = 6
_BAND_PIXELS = 3  # height of a band; a pixel is 20 ms wide
_WAVE_PIXELS = 40  # height of a waveform
_GAP = 6  # pixels
_RANGE_DB = 60.0  # from black to white


def sheet(checkpoint: Path, out: Path, cache: Path, *, prompts: Sequence[str] = ()) -> None:
    """
    Make one clip of each prompt, and draw the spectrograms side by side as a grey PNG, each above its waveform.

    Time goes right, and 40 Hz to 12 kHz on the mel scale go up; the height of a waveform is full scale.

    Args:
        cache: A folder for the graphs of the engine.
        prompts: The names of all genres, in the order of `styles`, if there are none.
    """
    prompts = prompts or list(GENRES)
    engine = RecordingEngine(find_checkpoint(str(checkpoint), Path("nowhere")), cache_dir=cache / "graphs")
    pictures = [_picture(engine.record(prompt, 0, _SECONDS)[1]) for prompt in prompts]
    engine.close()
    height, width = pictures[0].shape
    rows = -(-len(pictures) // _COLUMNS)
    page = np.full((rows * (height + _GAP), _COLUMNS * (width + _GAP)), 255, np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, _COLUMNS)
        top, left = row * (height + _GAP), column * (width + _GAP)
        page[top : top + height, left : left + width] = picture
    out.write_bytes(_png(page))
    for row in range(rows):
        print("  ".join(prompts[row * _COLUMNS : (row + 1) * _COLUMNS]))


def _picture(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the grey values of a spectrogram above a waveform, shape ``(height, width)``."""
    level = 10 * np.log10(bands(samples[: int(_SECONDS * SAMPLE_RATE)]) + 1e-12)
    shown = np.clip((level - level.max() + _RANGE_DB) / _RANGE_DB, 0, 1)[: len(level) // 2 * 2]
    halved = shown.reshape(-1, 2, shown.shape[1]).max(1)
    spectrogram = np.repeat((255 * halved).astype(np.uint8).T[::-1], _BAND_PIXELS, axis=0)
    return np.concatenate([spectrogram, _waveform(samples, spectrogram.shape[1])])


def _waveform(samples: NDArray[np.float64], width: int) -> NDArray[np.uint8]:
    """Return the grey values of a waveform: white from the lowest to the highest sample of each column."""
    columns = samples[: len(samples) // width * width].reshape(width, -1)
    heights = np.linspace(1, -1, _WAVE_PIXELS)[:, None]
    return np.where((heights >= columns.min(1) - 0.025) & (heights <= columns.max(1) + 0.025), 255, 60).astype(np.uint8)


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit grey values as PNG, as in Portable Network Graphics, third edition (W3C)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = grey.shape
    lines = np.pad(grey, ((0, 0), (1, 0)))  # each line starts with its filter: none
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
