"""
Checks the table by which SentencePiece, and so T5's tokenizer, replaces characters.

The library that reads it trusts it: an index that leads outside ends the process with a report in Rust, and one
character may become as long a text as the table likes.

Format: the size of a trie as a little-endian uint32, the trie, and the texts that it leads to, each ended by NUL. The
trie is a double array of darts-clone. A unit has the byte that leads to it (bits 0 to 7), a flag that it has a value
(bit 8), and an offset (bits 10 to 30, times 256 if bit 9 is set): the unit that a byte leads to has the index of this
one, xor the offset, xor the byte. A unit with bit 31 holds a value, which is where a text begins.

Source: sentencepiece, src/normalizer.cc (EncodePrecompiledCharsMap) and third_party/darts_clone/darts.h
(DoubleArrayUnit).
"""

from __future__ import annotations

import base64

import numpy as np

_LONGEST = 256  # bytes that a character may become; the longest in Unicode's own tables has 33
_BLOCK = 256  # a byte leads to a unit of the same block, so that a block that is there is there for all bytes
_IS_VALUE = np.uint32(1 << 31)


def is_sound(table: object) -> bool:
    """Tell whether a `precompiled_charsmap` leads nowhere but to short texts of its own."""
    try:
        blob = base64.b64decode(table, validate=True) if isinstance(table, str) else b""
    except ValueError:
        return False
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 4 or 4 + size > len(blob) or size == 0 or size % (4 * _BLOCK):
        return False
    units, texts = np.frombuffer(blob, "<u4", size // 4, 4), blob[4 + size :]
    is_value = units & _IS_VALUE > 0
    return _are_inside(units, is_value) and _are_starts(units[is_value] & ~_IS_VALUE, texts)


def _are_inside(units: np.ndarray, is_value: np.ndarray) -> bool:
    """Tell whether each unit leads to units of the trie, and, where it says that it has a value, to one."""
    indices = np.flatnonzero(~is_value)
    nodes = units[indices].astype(np.int64)
    children = indices ^ ((nodes >> 10) << ((nodes & 1 << 9) >> 6))
    if (children | _BLOCK - 1).max(initial=0) >= len(units):
        return False
    return bool(is_value[children[nodes & 1 << 8 > 0]].all())


def _are_starts(values: np.ndarray, texts: bytes) -> bool:
    """Tell whether each value is the index of the beginning of a text in UTF-8, and no text is long."""
    try:
        texts.decode()
    except UnicodeDecodeError:
        return False
    if max(map(len, texts.split(b"\0"))) > _LONGEST:
        return False
    ends = np.frombuffer(texts, np.uint8) == 0
    if not len(values):
        return True
    return bool(values.max() < len(texts) and ends[values[values > 0] - 1].all())
