"""
Reads a file of the format safetensors.

The header is parsed here and not by the `safetensors` package, which needs torch for bfloat16. Format: an 8-byte
little-endian length, a JSON header that maps names to dtype, shape and byte range, then the bytes
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN, FLOAT_DTYPES, StoredTensor
from musicgen_cli.errors import CheckpointError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def safetensors(path: Path) -> dict[str, StoredTensor]:
    """
    Map a file, and return its tensors by name.

    Raises:
        CheckpointError: It can't be read, is not safetensors, is truncated, or has bytes that belong to no tensor.
    """
    ranges: dict[str, tuple[str, tuple[int, ...], slice]] = {}
    try:
        content = np.memmap(path, np.uint8, "r")
        start, header = _header(content)
        end = start
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            _check_range(name, dtype, shape, first, last, end - start)
            ranges[name] = dtype, shape, slice(start + first, start + last)
            end = start + last
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as err:
        reason = str(err) if type(err) is ValueError else "its header can't be read"
        raise CheckpointError(f"{path} is not a complete safetensors file: {reason}", hint=DOWNLOAD_AGAIN) from err
    if end != content.size:
        raise CheckpointError(
            f"{path} is damaged: it should have {end} bytes and has {content.size}", hint=DOWNLOAD_AGAIN
        )
    return {
        name: StoredTensor(
            path.name,
            dtype,
            shape,
            content[range_].view(raw).reshape(shape) if (raw := FLOAT_DTYPES.get(dtype)) else None,
        )
        for name, (dtype, shape, range_) in ranges.items()
    }


def _header(content: NDArray[np.uint8]) -> tuple[int, dict[str, Any]]:
    """Return the offset of the tensors' bytes, and the header's entries by name."""
    if content.size < 8:
        raise ValueError("it is truncated")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > min(_MAX_HEADER_BYTES, content.size - 8):
        raise ValueError("it is truncated, or of another format")
    header = json.loads(content[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    return 8 + length, header


def _check_range(name: str, dtype: str, shape: tuple[int, ...], first: int, last: int, previous_end: int) -> None:
    """Check that a tensor begins where the previous one ends, and has as many bytes as its shape needs."""
    if first != previous_end or last < first:
        raise ValueError(f"tensor {name!r} doesn't begin where the one before it ends")
    if dtype in FLOAT_DTYPES and math.prod(shape) * FLOAT_DTYPES[dtype].itemsize != last - first:
        raise ValueError(f"tensor {name!r} doesn't have as many bytes as its shape needs")
