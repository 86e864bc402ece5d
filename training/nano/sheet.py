"""What each genre looks like: a contact sheet of spectrograms, for eyes to find what no figure asks for."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from training.nano.audio_analysis import RATE, bands
from training.nano.evaluate import Recorder
from training.nano.styles import GENRES

_SECONDS = 8.0
_COLUMNS = 6
_BAND_PIXELS = 3  # high; a hundredth of a second is one wide, halved
_GAP = 6
_RANGE = 60.0  # dB from black to white


def sheet(checkpoint: Path, out: Path, cache: Path) -> None:
    """
    Make one clip of each genre, by its name alone, and draw them side by side as a grey PNG.

    Time goes right, 40 Hz to 12 kHz on the mel scale go up; the genres follow each other as in styles.py.

    Args:
        cache: Where the engine's graphs are kept.
    """
    engine = Recorder(find_checkpoint(str(checkpoint), Path("nowhere")), cache_dir=cache / "graphs")
    pictures = [_picture(engine.record(genre, 0, _SECONDS)[1]) for genre in GENRES]
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
        print("  ".join(list(GENRES)[row * _COLUMNS : (row + 1) * _COLUMNS]))


def _picture(sound: NDArray[np.float64]) -> NDArray[np.uint8]:
    level = 10 * np.log10(bands(sound[: int(_SECONDS * RATE)]) + 1e-12)
    shown = np.clip((level - level.max() + _RANGE) / _RANGE, 0, 1)[: len(level) // 2 * 2]
    halved = shown.reshape(-1, 2, shown.shape[1]).max(1)
    return np.repeat((255 * halved).astype(np.uint8).T[::-1], _BAND_PIXELS, axis=0)


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Write 8-bit grey; Portable Network Graphics, third edition (W3C)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = grey.shape
    lines = np.pad(grey, ((0, 0), (1, 0)))  # each with its filter before it: none
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
