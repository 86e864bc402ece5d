"""
Reads the weights of a checkpoint as float32: safetensors only, whole or sharded, one tensor at a time.

The files are mapped, so a tensor costs memory only while it is in use. The header is read here rather than by the
`safetensors` package because that hands out no bfloat16 without torch. Format: an 8-byte little-endian length, a JSON
header of name → dtype, shape and byte range, then the bytes (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.errors import CheckpointError, ModelAbsentError

FloatArray = NDArray[np.float32]

WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})  # can run code when it is loaded

_HEADER_BYTES = 100_000_000  # the format's own limit
_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class Tensors:
    """The tensors of a checkpoint by name."""

    def __init__(self, files: Iterable[Path]) -> None:
        """
        Read the headers.

        Raises:
            CheckpointError: A file is not safetensors, is cut short or has bytes that belong to no tensor.
        """
        self._at: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
        self._bytes: dict[Path, NDArray[np.uint8]] = {}
        for path in files:
            self._open(path)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of that name."""
        return name in self._at

    def read(self, name: str, *shape: int) -> FloatArray:
        """
        Return one tensor as float32.

        Args:
            name: As in the checkpoint.
            shape: What config.json makes it.

        Raises:
            CheckpointError: It is missing, of another shape or type, or holds a value that is no finite number.
        """
        if name not in self._at:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}", hint=_FETCH_AGAIN)
        path, kind, found, start = self._at[name]
        if found != shape:
            raise CheckpointError(
                f"{path.name}: tensor {name!r} has the shape {_show(found)}, config.json makes it {_show(shape)}"
            )
        if kind not in _STORED:
            raise CheckpointError(f"{path.name}: tensor {name!r} is {kind}; F32, F16 and BF16 can be read")
        stored = _STORED[kind]
        raw = self._bytes[path][start : start + math.prod(shape) * stored.itemsize].view(stored)
        # A bfloat16 is the upper half of a float32.
        values: FloatArray = (
            (raw.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else raw.astype(np.float32)
        )
        if not np.isfinite(values).all():
            raise CheckpointError(f"{path.name}: tensor {name!r} holds values that are not numbers", hint=_FETCH_AGAIN)
        return values.reshape(shape)

    def float32_bytes(self, *parts: str) -> int:
        """Return what the tensors whose names begin with any of `parts` take as float32."""
        return sum(4 * math.prod(shape) for name, (_, _, shape, _) in self._at.items() if name.startswith(parts))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: shape for name, (_, _, shape, _) in self._at.items()}

    def _open(self, path: Path) -> None:
        try:
            content = np.memmap(path, np.uint8, "r")
            start, header = _header(content)
            end = start
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
                _check_place(name, kind, shape, first, last, end - start)
                self._at[name] = (path, kind, shape, start + first)
                end = start + last
        except OSError as err:
            raise CheckpointError(f"can't read {path}: {err.strerror}") from err
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as err:
            reason = str(err) if type(err) is ValueError else "its header can't be read"
            raise CheckpointError(f"{path} is not a whole safetensors file: {reason}", hint=_FETCH_AGAIN) from err
        if end != content.size:
            raise CheckpointError(
                f"{path} is damaged: it should have {end} bytes and has {content.size}", hint=_FETCH_AGAIN
            )
        self._bytes[path] = content


class DroppedTensors(Tensors):
    """The tensors of a model whose weights were not kept: their shapes are known, their values are not."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(())
        self._name = name
        self._at = {tensor: (Path(), "", shape, 0) for tensor, shape in shapes.items()}

    def read(self, name: str, *shape: int) -> FloatArray:  # noqa: ARG002
        """
        Refuse, whichever it is.

        Raises:
            ModelAbsentError: Always.
        """
        raise ModelAbsentError(
            f"what this needs of the model {self._name!r} isn't here: its weights were not kept",
            hint=f"`musicgen model pull {self._name} --precision …` prepares it, --keep-weights keeps them",
        )


_FETCH_AGAIN = "fetch the model's files again"


def weight_files(directory: Path) -> tuple[Path, ...]:
    """
    Find the safetensors files of a checkpoint: one, or the shards that an index names.

    Raises:
        CheckpointError: There is none, the index can't be read, or weights are there only as pickle, which can run
            code when it is loaded.
    """
    if (directory / WEIGHTS_FILE).is_file():
        return (directory / WEIGHTS_FILE,)
    if (directory / WEIGHTS_INDEX).is_file():
        try:
            shards = parse_shard_index((directory / WEIGHTS_INDEX).read_bytes(), str(directory / WEIGHTS_INDEX))
        except OSError as err:
            raise CheckpointError(f"can't read {directory / WEIGHTS_INDEX}", hint=_FETCH_AGAIN) from err
        for shard in shards:
            if not (directory / shard).is_file():
                raise CheckpointError(f"{directory} has no {shard}, which its index names", hint=_FETCH_AGAIN)
        return tuple(directory / shard for shard in shards)
    pickles = sorted(path.name for path in directory.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{directory} has its weights only as {pickles[0]}, which is pickle and never loaded",
            hint=f"get {WEIGHTS_FILE} from the same place",
        )
    raise CheckpointError(f"{directory} has no {WEIGHTS_FILE}", hint=_FETCH_AGAIN)


def parse_shard_index(index: bytes, where: str) -> list[str]:
    """
    Return the files that an index names, each once, in order.

    Args:
        where: The index's own name, for messages.

    Raises:
        CheckpointError: It can't be read, or names something else than safetensors files beside it.
    """
    try:
        shards = sorted(set(json.loads(index)["weight_map"].values()))
        foreign = [shard for shard in shards if Path(shard).name != shard or not shard.endswith(".safetensors")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise CheckpointError(f"can't read {where}", hint=_FETCH_AGAIN) from err
    if not shards or foreign:
        raise CheckpointError(f"{where} doesn't name safetensors files beside it")
    return shards


def _header(content: NDArray[np.uint8]) -> tuple[int, dict[str, Any]]:
    """Return where the tensors' bytes start, and name → entry."""
    if content.size < 8:
        raise ValueError("it is cut short")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > min(_HEADER_BYTES, content.size - 8):
        raise ValueError("it is cut short or something else")
    header = json.loads(content[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    return 8 + length, header


def _check_place(name: str, kind: str, shape: tuple[int, ...], first: int, last: int, free: int) -> None:
    """Check that a tensor begins where the one before ended, and has the bytes of its shape."""
    if first != free or last < first:
        raise ValueError(f"tensor {name!r} doesn't follow the one before")
    if kind in _STORED and math.prod(shape) * _STORED[kind].itemsize != last - first:
        raise ValueError(f"tensor {name!r} doesn't have the bytes of its shape")


def _show(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape)) or "()"
