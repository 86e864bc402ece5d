"""
Reads a file that `torch.save` wrote (pytorch_model.bin, state_dict.bin) without PyTorch, and without running it.

Such a file is a zip archive without compression: `NAME/data.pkl` describes the tensors (pickle_machine.py), and
`NAME/data/KEY` holds the numbers of each storage. The file is memory-mapped and nothing is copied. Every entry that is
used is compared with its CRC-32: the description when the file is opened, numbers before they are read first. Source:
PyTorch, torch/serialization.py (`_save`) and caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_cli import foreign
from musicgen_cli.checkpoint.pickle_machine import MAX_PICKLE_BYTES, PickleError, Storage, TensorRef, interpret
from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN, FLOAT_DTYPES, StoredTensor
from musicgen_cli.errors import CheckpointError

_MAX_DIRECTORY_BYTES = 4_000_000  # of the archive's list of entries; musicgen-large's has 0.2 MB
_SIGNATURE = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22x2H")  # signature, length of the name, length of the extra field
_UTF8_NAME = 0x800  # the flag of an entry whose name isn't in the IBM PC's encoding
_MAX_DIMENSIONS = 8
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which files of PyTorch before 1.6 begin


@dataclass(frozen=True, slots=True)
class TorchFile:
    """A file of PyTorch's, mapped and described."""

    name: str  # for messages
    root: object  # what was saved; tensors in it are `TensorRef`
    _content: NDArray[np.uint8]
    _storages: Mapping[str, zipfile.ZipInfo]  # by key
    _verified: set[str] = field(default_factory=set)

    def tensors(self, *path: str) -> dict[str, StoredTensor]:
        """
        Return the tensors of a dictionary by name; whatever else it holds is ignored.

        Args:
            path: The keys of the dictionary in what was saved; none means that it is what was saved.

        Raises:
            CheckpointError: There is no such dictionary, or a tensor isn't within its storage.
        """
        value = self.root
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.name} holds no tensors by name", hint=DOWNLOAD_AGAIN)
        try:
            return {
                name: self._tensor(ref)
                for name, ref in value.items()
                if isinstance(ref, TensorRef) and isinstance(name, str)
            }
        except PickleError as err:
            raise _damaged(self.name, err) from err

    def _tensor(self, ref: TensorRef) -> StoredTensor:
        """Check that a tensor lies within its storage, each element once, and return its view."""
        storage, item = ref.storage, _ITEM_BYTES[ref.storage.dtype]
        entry = self._storages.get(storage.key)
        if entry is None or storage.numel < 0 or entry.file_size != storage.numel * item:
            raise PickleError(f"the storage {storage.key[:40]!r} is missing or has another size than it should")
        if len(ref.shape) != len(ref.strides) or len(ref.shape) > _MAX_DIMENSIONS:
            raise PickleError("a tensor has no stride for each dimension")
        if min((ref.offset, *ref.shape, *ref.strides)) < 0:
            raise PickleError("a tensor has a negative offset, size or stride")
        numel = int(np.prod([*ref.shape, 1], dtype=object))
        last = ref.offset + sum((size - 1) * stride for size, stride in zip(ref.shape, ref.strides, strict=True))
        if numel > storage.numel or (numel and last >= storage.numel):
            raise PickleError("a tensor is larger than its storage")
        raw = FLOAT_DTYPES.get(storage.dtype)
        if raw is None:
            return StoredTensor(self.name, storage.dtype, ref.shape, None)
        flat = self._bytes(entry)
        values = (
            np.ndarray(ref.shape, raw, flat, ref.offset * item, [stride * item for stride in ref.strides])
            if numel
            else np.zeros(ref.shape, raw)
        )
        return StoredTensor(self.name, storage.dtype, ref.shape, values, partial(self._verify, storage))

    def _verify(self, storage: Storage) -> None:
        if storage.key in self._verified:
            return
        entry = self._storages[storage.key]
        if zlib.crc32(self._bytes(entry).data) != entry.CRC:
            raise _damaged(self.name, f"the checksum of the storage {storage.key[:40]!r} is wrong")
        self._verified.add(storage.key)

    def _bytes(self, entry: zipfile.ZipInfo) -> NDArray[np.uint8]:
        return _stored_bytes(self._content, entry)


def open_torch_file(path: Path) -> TorchFile:
    """
    Map a file that `torch.save` wrote, and interpret its description.

    Raises:
        CheckpointError: It can't be read, is damaged, or holds something else than tensors and plain values.
    """
    try:
        with foreign.open_file(path) as file:
            content: NDArray[np.uint8] = np.memmap(file, np.uint8, "r")
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    except ValueError as err:  # an empty file can't be mapped
        raise _damaged(path.name, "it is empty") from err
    return parse_torch_file(content, path.name)


def parse_torch_file(content: NDArray[np.uint8], name: str) -> TorchFile:
    """
    Interpret the bytes of a file that `torch.save` wrote.

    Args:
        name: The file's name, for messages.

    Raises:
        CheckpointError: As for `open_torch_file`.
    """
    if content[: len(_OLD_FORMAT)].tobytes() == _OLD_FORMAT:
        raise CheckpointError(
            f"{name} was written by PyTorch before 1.6, whose format isn't read",
            hint="load it with PyTorch and save it again, best as safetensors",
        )
    try:
        prefix, entries, root = _describe(content)
    except PickleError as err:
        raise _damaged(name, err) from err
    # Every way in which the library meets a damaged archive.
    except (
        zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, IndexError, OSError, struct.error,
    ) as err:  # fmt: skip
        raise _damaged(name, "it isn't a complete zip archive") from err
    storages = f"{prefix}data/"
    return TorchFile(
        name,
        root,
        content,
        {key.removeprefix(storages): entry for key, entry in entries.items() if key.startswith(storages)},
    )


def describe_start(start: bytes) -> object:
    """
    Return what a file describes of which only the first bytes are here; None if the description isn't among them.

    PyTorch writes the description first, and its size only after it. Nothing of this is checked.
    """
    header = start[: _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size:
        return None
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    name_end = _LOCAL_HEADER.size + name_length
    if signature != _SIGNATURE or not start[_LOCAL_HEADER.size : name_end].endswith(b"/data.pkl"):
        return None
    try:
        return interpret(start[name_end + extra_length :])
    except PickleError:  # when the whole file is here, it is an error that says more
        return None


def _describe(content: NDArray[np.uint8]) -> tuple[str, dict[str, zipfile.ZipInfo], object]:
    """Return the folder in an archive, its entries, and what its pickle describes."""
    entries = _entries(content)
    descriptions = [entry for entry in entries if entry.partition("/")[2] == "data.pkl"]
    if len(descriptions) != 1:
        raise PickleError("it isn't an archive of PyTorch's tensors")
    prefix = descriptions[0].removesuffix("data.pkl")
    order = entries.get(f"{prefix}byteorder")
    if order and _read(content, order) != b"little":
        raise PickleError("its numbers are big-endian")
    return prefix, entries, interpret(_read(content, entries[descriptions[0]]))


def _entries(content: NDArray[np.uint8]) -> dict[str, zipfile.ZipInfo]:
    """List the entries of an archive, each of which has a name of its own."""
    with zipfile.ZipFile(_BoundedReader(content)) as archive:
        infos = archive.infolist()
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos):
        raise PickleError("two of its entries have the same name")
    return entries


def _stored_bytes(content: NDArray[np.uint8], entry: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """Return the bytes of an entry, which isn't compressed, where they are in the file."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
        raise PickleError("it is compressed or encrypted, which PyTorch's files never are")
    header = content[max(entry.header_offset, 0) :][: _LOCAL_HEADER.size].tobytes()
    if len(header) < _LOCAL_HEADER.size:
        raise PickleError("it is truncated")
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    name_at = entry.header_offset + _LOCAL_HEADER.size
    name = content[name_at : name_at + name_length].tobytes()
    start = name_at + name_length + extra_length
    encoding = "utf-8" if entry.flag_bits & _UTF8_NAME else "cp437"
    if (
        signature != b"PK\x03\x04"
        or name != entry.orig_filename.encode(encoding)
        or start + entry.file_size > content.size
    ):
        raise PickleError("it is truncated, or its list of entries is wrong")
    return content[start : start + entry.file_size]


def _read(content: NDArray[np.uint8], entry: zipfile.ZipInfo) -> bytes:
    """Return a copy of a small entry, compared with its checksum."""
    if entry.file_size > MAX_PICKLE_BYTES:
        raise PickleError(f"its description of the tensors has more than {MAX_PICKLE_BYTES} bytes")
    value = _stored_bytes(content, entry).tobytes()
    if zlib.crc32(value) != entry.CRC:
        raise PickleError("the checksum of its description is wrong")
    return value


def _damaged(name: str, reason: object) -> CheckpointError:
    return CheckpointError(f"{name} can't be read as PyTorch's tensors: {reason}", hint=DOWNLOAD_AGAIN)


class _BoundedReader(io.RawIOBase):
    """Bytes as a file, of which no more are read at once than a list of entries has: a length in it can be a lie."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        super().__init__()
        self._content, self._at = content, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._content.size - self._at, 0)
        count = left if size is None or size < 0 else min(size, left)
        if count > _MAX_DIRECTORY_BYTES:
            raise PickleError(f"its list of entries has more than {_MAX_DIRECTORY_BYTES} bytes")
        self._at += count
        return self._content[self._at - count : self._at].tobytes()
