from __future__ import annotations

import os
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.checkpoint.pickle_machine import PickleError, interpret
from musicgen_cli.checkpoint.tensors import Tensors
from musicgen_cli.checkpoint.torch_file import open_torch_file, parse_torch_file
from musicgen_cli.errors import CheckpointError
from tests.support.torch_files import Call, View, pickled, save, write_archive

VALUES = np.arange(24, dtype=np.float32)


def tensors(path: Path) -> Tensors:
    return Tensors(open_torch_file(path).tensors())


def test_every_float_type_is_read(tmp_path: Path) -> None:
    """As float32, exactly; other types are named in an error."""
    values = np.array([[1.0, -2.5], [2.0**-20, 3.0e4]], np.float32)
    path = save(
        tmp_path / "pytorch_model.bin",
        {
            "F32": values,
            "F16": values.astype(np.float16),
            "F64": values.astype(np.float64),
            "BF16": (values.view(np.uint32) >> 16).astype(np.uint16),
            "I64": values.astype(np.int64),
            "epoch": 3,
        },
    )
    read = tensors(path)

    for kind in ("F32", "F64"):
        assert np.array_equal(read.read(kind, 2, 2), values)
    assert np.array_equal(read.read("F16", 2, 2), values.astype(np.float16).astype(np.float32))
    assert np.array_equal(read.read("BF16", 2, 2), np.float32([[1, -2.5], [2.0**-20, 29952]]))
    with pytest.raises(CheckpointError, match="'I64' is I64"):
        read.read("I64", 2, 2)
    assert "epoch" not in read
    assert read.shapes["I64"] == (2, 2)


def test_views_of_one_storage_are_read(tmp_path: Path) -> None:
    """Transposed, in the middle of it, without elements, and of no dimension."""
    views = {
        "whole": View(VALUES, 0, (4, 6), (6, 1)),
        "transposed": View(VALUES, 0, (6, 4), (1, 6)),
        "middle": View(VALUES, 7, (2, 3), (6, 2)),
        "none": View(VALUES, 24, (0, 5), (5, 1)),
        "scalar": View(VALUES, 23, (), ()),
    }
    path = save(tmp_path / "x.bin", views)
    read = tensors(path)

    assert len(zipfile.ZipFile(path).namelist()) == 4
    assert np.array_equal(read.read("whole", 4, 6), VALUES.reshape(4, 6))
    assert np.array_equal(read.read("transposed", 6, 4), VALUES.reshape(4, 6).T)
    assert np.array_equal(read.read("middle", 2, 3), [[7, 9, 11], [13, 15, 17]])
    assert read.read("none", 0, 5).shape == (0, 5)
    assert read.read("scalar") == 23


def test_a_large_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    """The last tensor of more than 4 GiB, in a sparse file, costs the memory of that tensor."""
    path = tmp_path / "pytorch_model.bin"
    big = 1 << 30  # elements of the first storage: 4 GiB; entries of this size need ZIP64
    pickle, storages = pickled({"big": View(np.zeros(1, np.float32), 0, (big,), (1,), big), "last": VALUES})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        with archive.open("archive/data/0", "w", force_zip64=True) as entry:
            entry.write(bytes(8))
        archive.writestr("archive/data/1", storages[1])
    # zipfile can't write holes: the entry is stretched in the file, and its sizes in the list of entries with it.
    content = bytearray(path.read_bytes())
    with path.open("wb") as file:
        head = content.index(bytes(8) + b"PK\x03\x04")
        file.write(content[:head])
        file.seek(head + 4 * big)
        directory = content.index(b"PK\x01\x02")
        tail = content[head + 8 : directory]
        file.write(tail)
        start = file.tell()
        file.write(_stretched_directory(bytes(content[directory:]), 4 * big))
        size = file.tell() - start
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, size, start))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, 0xFFFFFFFF, 0xFFFFFFFF, 0))

    tracemalloc.start()
    try:
        assert np.array_equal(tensors(path).read("last", 24), VALUES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 4 * big
    assert peak < 1_000_000


def _stretched_directory(content: bytes, size: int) -> bytes:
    """Return a list of three entries, of which the second has another size and the third begins later."""
    out, at = b"", 0
    for number in range(3):
        fields = list(struct.unpack("<4s4B4H3L5H2L", content[at : at + 46]))
        name = content[at + 46 : at + 46 + fields[12]]
        at += 46 + fields[12] + fields[13] + fields[14]
        sizes, offset = (size if number == 1 else fields[10]), fields[18] + (size - 8 if number == 2 else 0)
        extra = struct.pack("<2H3Q", 1, 24, sizes, sizes, offset)
        fields[10] = fields[11] = fields[18] = 0xFFFFFFFF
        fields[13], fields[14] = len(extra), 0
        out += struct.pack("<4s4B4H3L5H2L", *fields) + name + extra
    return out


def test_damaged_numbers_are_noticed_when_they_are_read(tmp_path: Path) -> None:
    """By the checksum of the archive; tensors beside them are read."""
    path = save(tmp_path / "x.bin", {"a": VALUES, "b": np.ones(3, np.float32)})
    content = bytearray(path.read_bytes())
    content[content.index(VALUES.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    read = tensors(path)

    assert np.array_equal(read.read("b", 3), np.ones(3))
    with pytest.raises(CheckpointError, match=r"x\.bin .* checksum of the storage '0' is wrong"):
        read.read("a", 24)


@pytest.mark.parametrize(
    "call",
    [
        Call("os", "system", ("touch hacked",)),
        Call("posix", "system", ("touch hacked",)),
        Call("builtins", "eval", ("open('hacked', 'w')",)),
        Call("builtins", "getattr", (1, "real")),
        Call("numpy.core.multiarray", "scalar", ()),
        Call("torch", "load", ("x",)),
        Call("torch.FloatStorage", "__init__", ()),
        Call("collections", "OrderedDict", ([],)),
        Call("collections", "OrderedDict.fromkeys", ([],)),
        Call("torch", "FloatStorage", ()),
        Call("torch._utils", "_rebuild_tensor_v2", ()),
        Call("torch._utils", "_rebuild_parameter", (1,)),
        Call("omegaconf.dictconfig", "DictConfig", ()),
    ],
)
def test_nothing_is_imported_or_called(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no part of a file of tensors is an error that says it, and so is a call with other arguments."""
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "x.bin", {"a": VALUES, "b": call})

    with pytest.raises(
        CheckpointError, match=r"x\.bin can't be read as PyTorch's tensors: it (holds|calls|has)"
    ) as caught:
        open_torch_file(path)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize(
    "pickle",
    [
        b"",
        b".",
        b"\x80\x02",
        b"cos\nsystem\n.",
        b"\x8c\x02os\x8c\x06system\x93.",
        b"(i__main__\nA\n.",  # INST
        b"}}\x81.",  # NEWOBJ
        b"\x82\x01.",  # EXT1
        b"X\xff\xff\xff\xff.",  # a string of 4 GB
        b"\x8d" + b"\xff" * 8 + b".",  # BINUNICODE8
        b"\x8a\xff" + b"\xff" * 255 + b".",  # a number of 2040 bits
        b"\x8b\xff\xff\xff\x7f.",  # LONG4
        b"r\xff\xff\xff\xff.",  # a memo of 4 G entries, of nothing
        b"j\xff\xff\xff\xff.",
        b"(" * 1000 + b".",
        b"]" * 600_000 + b".",
        b"N" * 9_000_000 + b".",
        b"t.",
        b"}(K\x01u.",
        b"}})s.",
        b"}]K\x01s.",
        b"}K\x01a.",
        b"NQ.",
        b"(X\x01\x00\x00\x00aN)NNtQ.",
        b"(tR.",
        b"N)R.",
        b"]Nb.",
        b"\x85.",
        b"(N(\x85.",
        b"X\x01\x00\x00\x00\xff.",
        b"c" + b"x" * 100_000,
    ],
)
def test_a_pickle_of_anything_else_is_an_error(pickle: bytes) -> None:
    """With opcodes that aren't needed, values that aren't there, or numbers without bounds; in bounded memory."""
    tracemalloc.start()
    try:
        with pytest.raises(PickleError):
            interpret(pickle)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000


def test_a_large_memo_index_costs_nothing() -> None:
    """Python's own unpickler allocates as many entries."""
    tracemalloc.start()
    try:
        assert interpret(b"Nr\xff\xff\xff\x7f.") is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "view",
    [
        View(VALUES, 1, (24,), (1,)),
        View(VALUES, 0, (25,), (1,)),
        View(VALUES, 0, (4, 6), (7, 1)),
        View(VALUES, -1, (2,), (1,)),
        View(VALUES, 5, (2,), (-1,)),
        View(VALUES, 0, (-2, -3), (1, 1)),
        View(VALUES, 0, (2,), (1, 1)),
        View(VALUES, 0, (1 << 40, 1 << 40), (0, 0)),
        View(VALUES, 0, (30,), (0,)),
        View(VALUES, 0, (1,) * 9, (1,) * 9),
        View(VALUES, 0, (24,), (1,), 25),
        View(VALUES, 0, (24,), (1,), -24),
        View(VALUES, 0, (24,), (1,), 1 << 60),
        View(VALUES, 1 << 62, (1,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_an_error(tmp_path: Path, view: View) -> None:
    """Or one that repeats elements, which could be of any size."""
    path = save(tmp_path / "x.bin", {"a": view})

    with pytest.raises(CheckpointError, match=r"x\.bin can't be read"):
        tensors(path)


def test_what_isnt_an_archive_of_tensors_is_an_error(tmp_path: Path) -> None:
    """Other formats, other archives, and archives with doubtful entries: one line that names the file."""
    good = save(tmp_path / "good.bin", {"a": VALUES}).read_bytes()
    pickle, storages = pickled({"a": VALUES})
    big_endian = write_archive(tmp_path / "big.bin", pickle, storages, byteorder=b"big").read_bytes()
    twice = write_archive(tmp_path / "twice.bin", pickle, storages)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("archive/data.pkl", pickle)
    packed = tmp_path / "packed.bin"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/data/0", storages[0])
    crowded = tmp_path / "crowded.bin"
    with zipfile.ZipFile(crowded, "w") as archive:
        for number in range(50_000):
            archive.writestr(f"archive/data/{number:040}", b"")
    contents = {
        b"": "it is empty",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest": r"before 1\.6",
        b"pickle": "isn't a complete zip archive",
        good[:-1]: "isn't a complete zip archive",
        good[200:]: "can't be read",
        big_endian: "big-endian",
        twice.read_bytes(): "same name",
        packed.read_bytes(): "compressed",
        crowded.read_bytes(): "its list of entries has more than",
        write_archive(tmp_path / "missing.bin", pickle).read_bytes(): "'0' is missing",
        good.replace(b"data.pkl", b"data.txt"): "isn't an archive of PyTorch's tensors",
        save(tmp_path / "list.bin", [1, 2]).read_bytes(): "holds no tensors by name",
    }
    for content, message in contents.items():
        path = tmp_path / "x.bin"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            tensors(path)
        assert "x.bin" in str(caught.value)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Change some bytes, cut some out, copy some elsewhere, or truncate the rest."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at, length = chance.randrange(len(changed)), chance.choice([1, 1, 1, 2, 4, 8, 64])
        kind = chance.randrange(6)
        if kind <= 1:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            changed[at : at + length] = chance.randbytes(length)
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            source = chance.randrange(len(changed))
            changed[at:at] = changed[source : source + length]
        else:
            changed[at : at + length] = chance.choice([b"\0", b"\xff"]) * length
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def expected() -> dict[str, Any]:
    return {
        "decoder.weight": VALUES.reshape(4, 6),
        "half": VALUES.astype(np.float16).reshape(2, 12),
        "double": np.linspace(-1, 1, 7),
        "bias": np.ones((), np.float32),
    }


def test_a_mutated_file_gives_the_right_tensors_or_an_error(tmp_path: Path) -> None:
    """Nothing else: no other exception, no other number. MUTATIONS sets how many are tried."""
    chance, values = random.Random(1), expected()
    whole = save(tmp_path / "x.bin", {"best_state": values, "xp.cfg": "dim: 4", "version": "1"}).read_bytes()
    right, messages = 0, list[str]()
    for _ in range(int(os.environ.get("MUTATIONS", "1500"))):
        content = np.frombuffer(mutated(whole, chance), np.uint8)
        try:
            read = Tensors(parse_torch_file(content, "x.bin").tensors("best_state"))
            assert all(np.array_equal(read.read(name, *v.shape), v.astype(np.float32)) for name, v in values.items())
            right += 1
        except CheckpointError as err:
            messages.append(str(err))

    assert min(right, len(messages)) > 10
    assert all(("x.bin" in message or "no tensor" in message) and "\n" not in message for message in messages)


def test_a_mutated_pickle_gives_tensors_within_their_storages_or_an_error(tmp_path: Path) -> None:
    """With right checksums, so that the interpreter meets the mutations; in bounded memory."""
    chance = random.Random(2)
    pickle, storages = pickled({"best_state": expected(), "list": [1, 2.5, None, True, (1, "a")]})
    read, messages = 0, list[str]()
    tracemalloc.start()
    try:
        for _ in range(int(os.environ.get("MUTATIONS", "1500"))):
            path = write_archive(tmp_path / "x.bin", mutated(pickle, chance), storages)
            content = np.frombuffer(path.read_bytes(), np.uint8)
            try:
                found = parse_torch_file(content, "x.bin").tensors("best_state")
                for stored in found.values():
                    if stored.values is not None:
                        assert stored.values.size <= VALUES.size
                        stored.values.sum()
                read += 1
            except CheckpointError as err:
                messages.append(str(err))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert min(read, len(messages)) > 10
    assert all("x.bin" in message and "\n" not in message for message in messages)
    assert peak < 50_000_000
