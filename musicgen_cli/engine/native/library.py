"""
Binds the C library (native/musicgen.h in the repository), and says why it can't be used where it can't.

The library is optional: without it, or on a processor that it has no kernels for, a decoder step runs on ONNX Runtime.
"""

from __future__ import annotations

import ctypes as c
import os
import platform
import sys
from functools import cache
from pathlib import Path

from musicgen_cli.errors import EngineError, MemoryNeededError

ABI = 2  # of the C library and of the weight file: MG_ABI

# By the library's numbers for them, the preferred ones first.
INSTRUCTION_SETS = {"avx512vnni": 1, "avxvnni": 2, "avx2": 3, "neon": 4}
ISA_VARIABLE = "MUSICGEN_NATIVE_ISA"  # names one of them, for tests and measurements

_SUFFIX = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
LIBRARY = Path(__file__).with_name(f"libmusicgen.{_SUFFIX}")

_OK, _NO_MEMORY, _BAD_ARGUMENT, _BAD_FILE, _UNSUPPORTED = range(5)

_SIGNATURES = {
    "mg_abi": (),
    "mg_has_isa": (c.c_int,),
    "mg_pool_new": (c.c_int, c.c_int, c.POINTER(c.c_void_p)),
    "mg_model_new": (c.c_void_p, c.c_size_t, c.POINTER(c.c_void_p)),
    "mg_decoder_new": (
        *(c.c_void_p, c.c_void_p, c.c_int, c.c_int, c.c_int, c.c_int, c.c_void_p),
        c.POINTER(c.c_void_p),
    ),
    "mg_set_text": (c.c_void_p, c.c_int, c.c_void_p, c.c_int, c.c_int),
    "mg_move": (c.c_void_p, c.c_int, c.c_int, c.c_int),
    "mg_run": (c.c_void_p, c.c_int, *(c.c_void_p,) * 4, c.c_int, c.c_void_p),
}
_FREEING = ("mg_pool_free", "mg_model_free", "mg_decoder_free")


class UnavailableError(Exception):
    """The native decoder can't be used here; the message is the rest of a sentence that begins with "because"."""


def load() -> c.CDLL:
    """
    Return the library.

    Raises:
        UnavailableError: It isn't there, can't be loaded, or is of another version.
    """
    return _load(LIBRARY)


@cache
def _load(path: Path) -> c.CDLL:
    if not path.exists():
        raise UnavailableError("this installation has no native library")
    try:
        library = c.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = c.c_int, arguments
        for name in _FREEING:
            function = getattr(library, name)
            function.restype, function.argtypes = None, (c.c_void_p,)
    except (OSError, AttributeError) as err:
        raise UnavailableError(f"{path.name} can't be loaded: {err}") from err
    if library.mg_abi() != ABI:
        raise UnavailableError(f"{path.name} has version {library.mg_abi()}, this program needs {ABI}")
    return library


def instruction_set() -> str:
    """
    Return the instruction set that the decoder uses on this processor.

    Raises:
        UnavailableError: There is no library, it has no kernels for this processor, or ISA_VARIABLE names a set that
            the processor doesn't have.
    """
    library = load()
    wanted = os.environ.get(ISA_VARIABLE)
    names = [name for name, number in INSTRUCTION_SETS.items() if library.mg_has_isa(number)]
    if wanted:
        if wanted not in names:
            raise UnavailableError(f"{ISA_VARIABLE} is {wanted!r}, and this processor has {', '.join(names) or 'none'}")
        return wanted
    if not names:
        raise UnavailableError(
            "the native library is for processors with "
            + ("dot products (ARMv8.2)" if _is_arm() else "AVX2, FMA and F16C")
        )
    return names[0]


def could_be_compiled() -> bool:
    """Return whether there is no library, though there are kernels for this kind of processor."""
    return not LIBRARY.exists() and platform.machine().lower() in {"x86_64", "amd64", "aarch64", "arm64"}


def check(result: int, task: str) -> None:
    """
    Raise what a result of the library stands for.

    Args:
        task: The verb and its object of a sentence, such as "run a decoder step".

    Raises:
        MemoryNeededError: There is not enough memory.
        EngineError: The weight file is damaged.
        ValueError: An argument was wrong, which is a mistake of this program.
    """
    if result == _OK:
        return
    if result == _NO_MEMORY:
        raise MemoryNeededError(f"there is not enough memory to {task}", hint="a smaller model needs less")
    if result == _BAD_FILE:
        raise EngineError(f"couldn't {task}: the prepared weights are damaged")
    if result == _UNSUPPORTED:
        raise EngineError(f"couldn't {task}: this processor lacks the instruction set")
    raise ValueError(f"couldn't {task}: an argument is out of range")


def _is_arm() -> bool:
    return platform.machine().lower() in {"aarch64", "arm64"}
