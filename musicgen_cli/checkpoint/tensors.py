"""
Reads the weights of a checkpoint as float32, from one safetensors file or several shards, one tensor at a time.

The files are memory-mapped, so a tensor costs memory only while it is in use. The header is parsed here and not by the
`safetensors` package, which needs torch for bfloat16. Format: an 8-byte little-endian length, a JSON header that maps
names to dtype, shape and byte range, then the bytes (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgen_cli import foreign
from musicgen_cli.checkpoint.bounds import JSON_BYTES, MOST_SHARDS
from musicgen_cli.checkpoint.safetensors_header import LENGTH_BYTES, header_length, parse_header
from musicgen_cli.errors import CheckpointError, ModelAbsentError

FloatArray = NDArray[np.float32]

WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})  # never loaded: unpickling can run code

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_ITEM_SIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}
DOWNLOAD_AGAIN = "download the model's files again"


@dataclass(frozen=True, slots=True)
class _Entry:
    """The location and format of a tensor, from its file's header."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int  # offset of its first byte in the file


class TensorSource(Protocol):
    """Reads tensors: those of a checkpoint, or such as were made from them."""

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return one tensor as float32, as `Tensors.read` does."""


class Tensors:
    """The tensors of a checkpoint, by name."""

    def __init__(self, files: Iterable[Path]) -> None:
        """
        Map the files and read their headers.

        Raises:
            CheckpointError: A file is not safetensors, is truncated, or has bytes that belong to no tensor.
        """
        self._entries: dict[str, _Entry] = {}
        self._mapped: dict[Path, NDArray[np.uint8]] = {}
        for path in files:
            self._open(path)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of that name."""
        return name in self._entries

    def read(self, name: str, *shape: int) -> FloatArray:
        """
        Return one tensor as float32.

        Args:
            name: The tensor's name in the checkpoint.
            shape: The shape that follows from config.json.

        Raises:
            CheckpointError: The tensor is missing, has another shape, can't be converted, or has a value that is
                infinite or NaN.
        """
        if name not in self._entries:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}", hint=DOWNLOAD_AGAIN)
        entry = self._entries[name]
        label = f"{entry.path.name}: tensor {name!r}"
        if entry.shape != shape:
            raise CheckpointError(f"{label} has the shape {entry.shape}, config.json requires {shape}")
        if entry.dtype not in _DTYPES:
            raise CheckpointError(f"{label} is {entry.dtype}; F32, F16 and BF16 can be read")
        dtype = _DTYPES[entry.dtype]
        end = entry.start + math.prod(shape) * dtype.itemsize
        raw = self._mapped[entry.path][entry.start : end].view(dtype)
        # A bfloat16 is the upper half of a float32.
        values: FloatArray = (
            (raw.astype(np.uint32) << 16).view(np.float32) if entry.dtype == "BF16" else raw.astype(np.float32)
        )
        if not np.isfinite(values).all():
            raise CheckpointError(f"{label} has values that are infinite or NaN", hint=DOWNLOAD_AGAIN)
        return values.reshape(shape)

    def float32_bytes(self, *prefixes: str) -> int:
        """Return the bytes, as float32, of the tensors whose names begin with one of the prefixes."""
        return sum(4 * math.prod(entry.shape) for name, entry in self._entries.items() if name.startswith(prefixes))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def _open(self, path: Path) -> None:
        try:
            with foreign.open_file(path) as file:
                content = np.memmap(file, np.uint8, "r")
            start = LENGTH_BYTES + header_length(content[:LENGTH_BYTES].tobytes(), content.size)
            end = start
            for entry in parse_header(content[LENGTH_BYTES:start].tobytes(), _ITEM_SIZES):
                self._entries[entry.name] = _Entry(path, entry.dtype, entry.shape, start + entry.first)
                end = start + entry.last
        except OSError as err:
            raise CheckpointError(f"can't read {path}: {err.strerror}") from err
        except ValueError as err:
            raise CheckpointError(f"{path} is not a complete safetensors file: {err}", hint=DOWNLOAD_AGAIN) from err
        if end != content.size:
            raise CheckpointError(
                f"{path} is damaged: it should have {end} bytes and has {content.size}", hint=DOWNLOAD_AGAIN
            )
        self._mapped[path] = content


class DroppedTensors(Tensors):
    """The tensors of a model whose weights were not kept; only their shapes are available."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(())
        self._model = name
        self._entries = {tensor: _Entry(Path(), "", shape, 0) for tensor, shape in shapes.items()}

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
        super().__init__(())
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


def weight_files(directory: Path) -> tuple[Path, ...]:
    """
    Find the safetensors files of a checkpoint: one, or the shards that an index names.

    Raises:
        CheckpointError: There is none, the index can't be read, or the weights are there only as pickle, which is
            never loaded because it can run code.
    """
    if (directory / WEIGHTS_FILE).is_file():
        return (directory / WEIGHTS_FILE,)
    if (directory / WEIGHTS_INDEX).is_file():
        try:
            index = foreign.read(directory / WEIGHTS_INDEX, JSON_BYTES)
            shards = parse_shard_index(index, str(directory / WEIGHTS_INDEX))
        except OSError as err:
            raise CheckpointError(f"can't read {directory / WEIGHTS_INDEX}", hint=DOWNLOAD_AGAIN) from err
        for shard in shards:
            if not (directory / shard).is_file():
                raise CheckpointError(f"{directory} has no {shard}, which its index names", hint=DOWNLOAD_AGAIN)
        return tuple(directory / shard for shard in shards)
    pickles = sorted(path.name for path in directory.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{directory} has its weights only as {pickles[0]}, which is pickle and never loaded",
            hint=f"get {WEIGHTS_FILE} from the same place",
        )
    raise CheckpointError(f"{directory} has no {WEIGHTS_FILE}", hint=DOWNLOAD_AGAIN)


def parse_shard_index(index: bytes, file_name: str) -> list[str]:
    """
    Return the names of the shards in an index of weights, each once, sorted.

    Args:
        index: The bytes of a model.safetensors.index.json.
        file_name: The name of that file, for messages.

    Raises:
        CheckpointError: It can't be parsed, or it names anything but safetensors files in its own folder.
    """
    try:
        shards = sorted(set(json.loads(index)["weight_map"].values()))
        elsewhere = [shard for shard in shards if Path(shard).name != shard or not shard.endswith(".safetensors")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise CheckpointError(f"can't read {file_name}", hint=DOWNLOAD_AGAIN) from err
    if not shards or elsewhere or len(shards) > MOST_SHARDS:
        raise CheckpointError(f"{file_name} doesn't name safetensors files in its own folder")
    return shards
