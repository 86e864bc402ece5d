"""The weights of a checkpoint as float32, one tensor at a time, whatever files they are in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN, FLOAT_DTYPES, StoredTensor
from musicgen_cli.errors import CheckpointError, ModelAbsentError

FloatArray = NDArray[np.float32]


class TensorSource(Protocol):
    """Reads tensors: those of a checkpoint, or such as were made from them."""

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return one tensor as float32, as `Tensors.read` does."""


class Tensors:
    """The tensors of a checkpoint, by name; they are memory-mapped, and cost memory only while they are in use."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self._stored = stored

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of that name."""
        return name in self._stored

    def read(self, name: str, *shape: int) -> FloatArray:
        """
        Return one tensor as float32.

        Args:
            name: The tensor's name in the checkpoint.
            shape: The shape that follows from config.json.

        Raises:
            CheckpointError: The tensor is missing, has another shape, can't be converted, was damaged, or has a value
                that is infinite or NaN.
        """
        if name not in self._stored:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}", hint=DOWNLOAD_AGAIN)
        stored = self._stored[name]
        label = f"{stored.file}: tensor {name!r}"
        if stored.shape != shape:
            raise CheckpointError(f"{label} has the shape {stored.shape}, config.json requires {shape}")
        if stored.values is None:
            raise CheckpointError(f"{label} is {stored.dtype}; {', '.join(FLOAT_DTYPES)} can be read")
        if stored.verify:
            stored.verify()
        raw = stored.values
        # A bfloat16 is the upper half of a float32.
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused below
            values: FloatArray = (
                (raw.astype(np.uint32) << 16).view(np.float32)
                if stored.dtype == "BF16"
                else raw.astype(np.float32, order="C")
            )
        if not np.isfinite(values).all():
            raise CheckpointError(f"{label} has values that are infinite or NaN", hint=DOWNLOAD_AGAIN)
        return values

    def float32_bytes(self, *prefixes: str) -> int:
        """Return the bytes, as float32, of the tensors whose names begin with one of the prefixes."""
        return sum(4 * math.prod(shape) for name, shape in self.shapes.items() if name.startswith(prefixes))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: stored.shape for name, stored in self._stored.items()}


class DroppedTensors(Tensors):
    """The tensors of a model whose weights were not kept; only their shapes are available."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__({tensor: StoredTensor("", "", shape, None) for tensor, shape in shapes.items()})
        self._model = name

    def read(self, name: str, *shape: int) -> FloatArray:  # noqa: ARG002
        """
        Raise an error, because there are no values.

        Raises:
            ModelAbsentError: Always.
        """
        raise ModelAbsentError(
            f"the model {self._model!r} can't be prepared on this machine: its weights were not kept",
            hint=f"`musicgen model pull {self._model} --precision …` prepares it, --keep-weights keeps the weights",
        )


class WrappedTensors(Tensors):
    """Other tensors; subclasses change what is read of them."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__({})
        self._tensors = tensors

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of that name."""
        return name in self._tensors

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return one tensor; see `Tensors.read`."""
        return self._tensors.read(name, *shape)

    def float32_bytes(self, *prefixes: str) -> int:
        """Return the bytes, as float32, of the tensors whose names begin with one of the prefixes."""
        return self._tensors.float32_bytes(*prefixes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return self._tensors.shapes
