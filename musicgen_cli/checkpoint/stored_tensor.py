"""A tensor in a file: what readers of each format hand to `Tensors`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The dtypes that can be turned into float32, named as safetensors does; a bfloat16 is read as an integer.
FLOAT_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

DOWNLOAD_AGAIN = "download the model's files again"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a memory-mapped file; nothing of it has been read yet."""

    file: str  # its name, for messages
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    values: NDArray[Any] | None  # of that shape and of the type in FLOAT_DTYPES; None where the dtype isn't one of them
    verify: Callable[[], None] | None = None  # raises CheckpointError if the bytes have changed since they were written
