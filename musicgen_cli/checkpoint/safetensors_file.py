"""
Reads a file of the format safetensors.

It is read here and not by the `safetensors` package, which needs torch for bfloat16; safetensors_header.py has the
format.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicgen_cli import foreign
from musicgen_cli.checkpoint.safetensors_header import LENGTH_BYTES, header_length, parse_header
from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN, FLOAT_DTYPES, StoredTensor
from musicgen_cli.errors import CheckpointError

_ITEM_SIZES = {name: dtype.itemsize for name, dtype in FLOAT_DTYPES.items()}


def safetensors(path: Path) -> dict[str, StoredTensor]:
    """
    Map a file, and return its tensors by name.

    Raises:
        CheckpointError: It can't be read, is not safetensors, is truncated, or has bytes that belong to no tensor.
    """
    ranges: dict[str, tuple[str, tuple[int, ...], slice]] = {}
    try:
        with foreign.open_file(path) as file:
            content = np.memmap(file, np.uint8, "r")
        start = LENGTH_BYTES + header_length(content[:LENGTH_BYTES].tobytes(), content.size)
        end = start
        for entry in parse_header(content[LENGTH_BYTES:start].tobytes(), _ITEM_SIZES):
            ranges[entry.name] = entry.dtype, entry.shape, slice(start + entry.first, start + entry.last)
            end = start + entry.last
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    except ValueError as err:
        raise CheckpointError(f"{path} is not a complete safetensors file: {err}", hint=DOWNLOAD_AGAIN) from err
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
