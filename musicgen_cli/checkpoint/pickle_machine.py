"""
Interprets the pickle in which `torch.save` describes its tensors, without running anything that the file names.

A pickle is a program: it can import any function and call it. Python's Unpickler calls whatever its `find_class` hands
out, sets attributes and states, and sizes its memo by a number in the file, even where `find_class` hands out harmless
classes only. So it isn't used. This machine knows the opcodes that `torch.save` writes, and moves between plain values
only: it imports nothing and calls nothing. A name in the file is compared with the few that are listed here; any other
name, and any other opcode, ends it. It is a loop, so nesting costs no stack of Python's, and its steps are bounded, of
which each makes at most one value of at most the file's own size.

Source: Python, Lib/pickletools.py (the opcodes); PyTorch, torch/serialization.py (`_save`) and torch/_utils.py
(`_rebuild_tensor_v2`, `_rebuild_parameter`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_PICKLE_BYTES: Final = 8_000_000  # musicgen-large's are 0.3 MB
_MAX_STEPS: Final = 500_000  # of which a tensor takes about 30
_MAX_DEPTH: Final = 64  # of open tuples, lists and dictionaries
_MAX_NAME: Final = 80  # characters of a name that a message shows

_ORDERED_DICT = ("collections", "OrderedDict")
_REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = ("torch._utils", "_rebuild_parameter")
_STORAGES = {
    ("torch", "FloatStorage"): "F32",
    ("torch", "HalfStorage"): "F16",
    ("torch", "BFloat16Storage"): "BF16",
    ("torch", "DoubleStorage"): "F64",
    ("torch", "LongStorage"): "I64",
    ("torch", "IntStorage"): "I32",
    ("torch", "ShortStorage"): "I16",
    ("torch", "CharStorage"): "I8",
    ("torch", "ByteStorage"): "U8",
    ("torch", "BoolStorage"): "BOOL",
}
_KNOWN = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *_STORAGES}


class PickleError(ValueError):
    """The pickle is damaged, or describes something else than tensors; the message is a clause about it."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the same archive."""

    key: str  # the name of its entry
    dtype: str  # as safetensors names it
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor: a view of a storage. Its numbers are plain integers, which nobody has checked yet."""

    storage: Storage
    offset: int  # of its first element, in elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


@dataclass(frozen=True, slots=True)
class _Name:
    """What an importing opcode names; it stays a name."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.name


def interpret(content: bytes) -> object:
    """
    Return what a pickle describes: None, numbers, strings, tuples, lists, dictionaries, and `TensorRef`.

    An OrderedDict comes as a dictionary.

    Raises:
        PickleError: It is damaged, too large, or describes anything else.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise PickleError(f"its description of the tensors has more than {MAX_PICKLE_BYTES} bytes")
    machine = _Machine(content)
    for _ in range(_MAX_STEPS):
        opcode = machine.take(1)
        if opcode == b".":  # STOP
            return machine.pop()
        step = _STEPS.get(opcode)
        if step is None:
            raise PickleError(f"it has the opcode {opcode!r}, which no file of tensors needs")
        step(machine)
    raise PickleError("its description of the tensors never ends")


class _Machine:
    """A position in a pickle, the stack, its marks, and the memo."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._content):
            raise PickleError("its description of the tensors is truncated")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("its description of the tensors takes a value that isn't there")
        return self._stack.pop()

    def string(self, count: int) -> None:
        try:
            self.push(self.take(count).decode("utf-8"))
        except UnicodeDecodeError as err:
            raise PickleError("it has a name that isn't UTF-8") from err

    def long(self) -> None:
        length = self.number(1)
        if length > 8:
            raise PickleError("it has a number of more than 64 bits")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def mark(self) -> None:
        if len(self._marks) >= _MAX_DEPTH:
            raise PickleError(f"its values are nested more than {_MAX_DEPTH} deep")
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[object]:
        if not self._marks:
            raise PickleError("its description of the tensors takes a mark that isn't there")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def append(self, values: list[object]) -> None:
        target = self._top()
        if type(target) is not list:
            raise PickleError("it appends to something that isn't a list")
        target.extend(values)

    def set_items(self, pairs: list[object]) -> None:
        target = self._top()
        if type(target) is not dict or len(pairs) % 2:
            raise PickleError("it has a key without a value, or without a dictionary")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in {str, int}:  # others can be nested, and take the more time to hash
                raise PickleError("it has a key that is neither a string nor an integer")
            target[key] = value

    def _top(self) -> object:
        self.push(value := self.pop())
        return value

    def put(self, index: int) -> None:
        self._memo[index] = value = self.pop()
        self.push(value)

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise PickleError("it refers to a value that isn't there")
        self.push(self._memo[index])

    def put_next(self) -> None:
        self.put(len(self._memo))

    def line_name(self) -> None:
        module, name = (self._line() for _ in range(2))
        self._push_name(module, name)

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(module) is not str or type(name) is not str:
            raise PickleError("it names something by a value that isn't a string")
        self._push_name(module, name)

    def _line(self) -> str:
        end = self._content.find(b"\n", self._at)
        line = self.take((len(self._content) if end < 0 else end + 1) - self._at)
        return line[:-1].decode("utf-8", "replace")

    def _push_name(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise PickleError(f"it holds {f'{module}.{name}'[:_MAX_NAME]!r}, and only tensors are read")
        self.push(_Name(module, name))

    def persistent(self) -> None:
        """Turn the identifier of a storage into the storage."""
        match self.pop():
            case ("storage", _Name() as name, str() as key, str(), int() as numel) if name.key in _STORAGES:
                self.push(Storage(key, _STORAGES[name.key], numel))
            case _:
                raise PickleError("it refers to something that isn't a storage of numbers")

    def reduce(self) -> None:
        """Do what the three functions would do that a file of tensors calls."""
        arguments, function = self.pop(), self.pop()
        name = function.key if isinstance(function, _Name) else None
        if name == _ORDERED_DICT and arguments == ():
            self.push({})
        elif name == _REBUILD_TENSOR:
            self.push(_tensor(arguments))
        elif name == _REBUILD_PARAMETER:
            self.push(_parameter(arguments))
        else:
            raise PickleError("it calls something else than what makes a tensor")

    def build(self) -> None:
        """Drop the attributes of an OrderedDict, which hold the version of each module of a model."""
        self.pop()
        if type(self._top()) is not dict:
            raise PickleError("it sets the state of something that isn't a dictionary")


def _tensor(arguments: object) -> TensorRef:
    """Take the arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides, and what training needs."""
    match arguments:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, *_) if all(
            type(number) is int for number in (offset, *shape, *strides)
        ):
            return TensorRef(storage, offset, shape, strides)
    raise PickleError("it has a tensor without a storage, an offset, a shape and strides")


def _parameter(arguments: object) -> TensorRef:
    """Take the arguments of `_rebuild_parameter`: a tensor, and what training needs."""
    match arguments:
        case (TensorRef() as tensor, *_):
            return tensor
    raise PickleError("it has a parameter that isn't a tensor")


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: _discard(m.take(1)),  # PROTO
    b"\x95": lambda m: _discard(m.take(8)),  # FRAME
    b"(": _Machine.mark,  # MARK
    b"N": lambda m: m.push(None),  # NONE
    b"\x88": lambda m: m.push(True),  # NEWTRUE
    b"\x89": lambda m: m.push(False),  # NEWFALSE
    b"K": lambda m: m.push(m.number(1)),  # BININT1
    b"M": lambda m: m.push(m.number(2)),  # BININT2
    b"J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),  # BININT
    b"\x8a": _Machine.long,  # LONG1
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
    b"X": lambda m: m.string(m.number(4)),  # BINUNICODE
    b"\x8c": lambda m: m.string(m.number(1)),  # SHORT_BINUNICODE
    b")": lambda m: m.push(()),  # EMPTY_TUPLE
    b"\x85": lambda m: m.tuple_of(1),  # TUPLE1
    b"\x86": lambda m: m.tuple_of(2),  # TUPLE2
    b"\x87": lambda m: m.tuple_of(3),  # TUPLE3
    b"t": lambda m: m.push(tuple(m.since_mark())),  # TUPLE
    b"]": lambda m: m.push([]),  # EMPTY_LIST
    b"a": lambda m: m.append([m.pop()]),  # APPEND
    b"e": lambda m: m.append(m.since_mark()),  # APPENDS
    b"}": lambda m: m.push({}),  # EMPTY_DICT
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),  # SETITEM
    b"u": lambda m: m.set_items(m.since_mark()),  # SETITEMS
    b"q": lambda m: m.put(m.number(1)),  # BINPUT
    b"r": lambda m: m.put(m.number(4)),  # LONG_BINPUT
    b"\x94": _Machine.put_next,  # MEMOIZE
    b"h": lambda m: m.get(m.number(1)),  # BINGET
    b"j": lambda m: m.get(m.number(4)),  # LONG_BINGET
    b"c": _Machine.line_name,  # GLOBAL
    b"\x93": _Machine.stack_name,  # STACK_GLOBAL
    b"Q": _Machine.persistent,  # BINPERSID
    b"R": _Machine.reduce,  # REDUCE
    b"b": _Machine.build,  # BUILD
}


def _discard(_: bytes) -> None:
    """Ignore the version of the pickle, or the length of a part of it."""
