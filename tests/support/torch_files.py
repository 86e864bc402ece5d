"""
Writes files as `torch.save` does, without PyTorch, and with whatever a test wants wrong in them.

The pickle is written opcode by opcode, as Python's own pickler writes only names that it can import.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {
    "float64": b"DoubleStorage",
    "float32": b"FloatStorage",
    "float16": b"HalfStorage",
    "uint16": b"BFloat16Storage",  # numpy has no bfloat16
    "int64": b"LongStorage",
    "uint8": b"ByteStorage",
}


@dataclass(frozen=True)
class Call:
    """A call of a function by its name, as a hostile pickle has it."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class View:
    """A tensor that is a view of a storage, whose numbers need not be right."""

    values: np.ndarray[Any, Any]  # the whole storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    numel: int | None = None  # as the pickle says; None is the truth


class _Writer:
    """Turns values into opcodes, and collects the storages."""

    def __init__(self) -> None:
        self.storages: list[bytes] = []
        self._keys: dict[int, int] = {}

    def opcodes(self, value: object) -> bytes:
        match value:
            case None | True | False:
                return {None: b"N", True: b"\x88", False: b"\x89"}[value]
            case int():
                return (
                    b"J" + struct.pack("<i", value) if abs(value) < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)
                )
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                content = value.encode()
                return b"X" + struct.pack("<I", len(content)) + content
            case tuple():
                return b"(" + b"".join(map(self.opcodes, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self.opcodes, value)) + b"e"
            case Mapping():
                pairs = b"".join(self.opcodes(key) + self.opcodes(item) for key, item in value.items())
                return b"ccollections\nOrderedDict\n)R(" + pairs + b"u"
            case Call():
                return f"c{value.module}\n{value.name}\n".encode() + self.opcodes(value.arguments) + b"R"
            case np.ndarray():
                strides = tuple(stride // value.itemsize for stride in value.copy(order="C").strides)
                return self._tensor(View(value, 0, value.shape, strides))
            case View():
                return self._tensor(value)
        raise TypeError(value)

    def _tensor(self, view: View) -> bytes:
        if id(view.values) not in self._keys:
            self._keys[id(view.values)] = len(self.storages)
            self.storages.append(np.ascontiguousarray(view.values).tobytes())
        kind, key = _STORAGES[view.values.dtype.name], str(self._keys[id(view.values)])
        numel = view.values.size if view.numel is None else view.numel
        storage = (
            self.opcodes("storage") + b"ctorch\n" + kind + b"\n" + b"".join(map(self.opcodes, (key, "cpu", numel)))
        )
        arguments = b"(" + storage + b"tQ" + b"".join(map(self.opcodes, (view.offset, view.shape, view.strides, False)))
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"ccollections\nOrderedDict\n)RtR"


def pickled(value: object) -> tuple[bytes, list[bytes]]:
    """Return the pickle of a value, and its storages."""
    writer = _Writer()
    return b"\x80\x02" + writer.opcodes(value) + b".", writer.storages


def write_archive(path: Path, pickle: bytes, storages: Iterable[bytes] = (), **entries: bytes) -> Path:
    """Write the archive around a pickle; `entries` are further ones."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        for name, content in {"byteorder": b"little", "version": b"3\n", **entries}.items():
            archive.writestr(f"archive/{name}", content)
        for key, content in enumerate(storages):
            archive.writestr(f"archive/data/{key}", content)
    return path


def save(path: Path, value: object) -> Path:
    """Write a value, whose tensors are arrays, as `torch.save` would."""
    return write_archive(path, *pickled(value))
