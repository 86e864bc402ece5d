"""
The header of a safetensors file: a JSON object that says of each tensor its type, its shape and where its bytes are.

Anybody may have written it, so each value is checked before it is used. Format: an 8-byte little-endian length, the
header, then the tensors' bytes without gaps (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LENGTH_BYTES = 8  # the header's length, before it
HEADER_BYTES = 4 << 20  # the format allows 100 MB; the header of the largest MusicGen has 0.2 MB
_LARGEST = 1 << 53  # of an offset, a dimension, a number of values
_MOST_DIMENSIONS = 8
_LONGEST_TYPE = 20  # characters


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor, as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int  # offset of its first byte after the header
    last: int  # offset after its last byte


def header_length(start: bytes, file_size: int) -> int:
    """
    Return the length of a header.

    Args:
        start: The first 8 bytes of the file.
        file_size: The bytes of the file.

    Raises:
        ValueError: The file is too short for it, or it is longer than a header can be.
    """
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or length > file_size - LENGTH_BYTES:
        raise ValueError("it is truncated, or of another format")
    if length > HEADER_BYTES:
        raise ValueError(f"its header has more than {HEADER_BYTES} bytes")
    return length


def parse_header(header: bytes, item_sizes: Mapping[str, int]) -> list[Entry]:
    """
    Return the tensors in the order of their bytes.

    Args:
        header: Its bytes.
        item_sizes: The bytes of one value, for each type that is checked against its shape.

    Raises:
        ValueError: It isn't a header, there are bytes that belong to no tensor or to several, or a tensor has another
            number of bytes than its shape needs.
    """
    try:
        members = json.loads(header)
    except RecursionError as err:
        raise ValueError("its header can't be read") from err
    except ValueError as err:
        raise ValueError("its header is not JSON") from err
    if not isinstance(members, dict):
        raise ValueError("its header is not a JSON object")  # noqa: TRY004  # a wrong file, not a wrong argument
    members.pop("__metadata__", None)
    entries = [_entry(name, value) for name, value in members.items()]
    entries.sort(key=lambda entry: (entry.first, entry.last))
    end = 0
    for entry in entries:
        if entry.first != end:
            raise ValueError(f"tensor {entry.name[:80]!r} doesn't begin where the one before it ends")
        item_size = item_sizes.get(entry.dtype)
        if item_size is not None and math.prod(entry.shape) * item_size != entry.last - entry.first:
            raise ValueError(f"tensor {entry.name[:80]!r} doesn't have as many bytes as its shape needs")
        end = entry.last
    return entries


def _entry(name: str, value: Any) -> Entry:
    members = value if isinstance(value, dict) else {}
    dtype, shape, offsets = members.get("dtype"), members.get("shape"), members.get("data_offsets")
    if not isinstance(dtype, str) or len(dtype) > _LONGEST_TYPE:
        raise ValueError(f"tensor {name[:80]!r} has no type")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or not all(map(_is_size, shape)):
        raise ValueError(f"tensor {name[:80]!r} has no shape")
    if math.prod(shape) > _LARGEST:
        raise ValueError(f"tensor {name[:80]!r} is too large")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)) or offsets[1] < offsets[0]:
        raise ValueError(f"tensor {name[:80]!r} has no bytes")
    return Entry(name, dtype, tuple(shape), *offsets)


def _is_size(value: object) -> bool:
    """Tell whether a JSON value can be a number of bytes or values; True and 1.0 can't."""
    return type(value) is int and 0 <= value <= _LARGEST
