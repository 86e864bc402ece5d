"""
Compiles the native decoder, a shared library without dependencies.

    python -m native.compile                     into the package of this folder
    python -m native.compile --selftest FILE     the library's own tests (selftest.c), as a program

`CC` names the compiler; else it is cc, gcc or clang, whichever is found first. `CFLAGS` are added to the flags. A build
of the package does the same (hatch_hook.py), and a release for other platforms (wheels.py).
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
SELFTEST = SOURCES / "selftest.c"
PACKAGE = Path("musicgen_cli", "engine", "native")  # where the library belongs
COMPILE_TIMEOUT_S = 300

_FLAGS = ("-O3", "-std=gnu11", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra")
_X86 = {
    "step_avx512.c": "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni "
    "-mprefer-vector-width=512",
    "step_avxvnni.c": "-mavx2 -mfma -mf16c -mavxvnni",
    "step_avx2.c": "-mavx2 -mfma -mf16c",
}
_ARM = {"step_neon.c": "-march=armv8.2-a+dotprod"}
_ZIG_SPELLING = {"-march=armv8.2-a+dotprod": "-mcpu=generic+dotprod"}
_KERNELS = {"x86_64": _X86, "aarch64": _ARM}  # flags of the files that need an instruction set


@dataclass(frozen=True, slots=True)
class Platform:
    """What a wheel of a release is built for."""

    tag: str  # of the wheel
    zig: str  # the target of zig's C compiler
    machine: str  # a key of _KERNELS
    suffix: str  # of a shared library


# No macOS on Intel: ONNX Runtime, which the rest of the model needs, has no wheel for it any more.
PLATFORMS = {
    "linux-x86_64": Platform("manylinux_2_17_x86_64.manylinux2014_x86_64", "x86_64-linux-gnu.2.17", "x86_64", "so"),
    "linux-arm64": Platform("manylinux_2_17_aarch64.manylinux2014_aarch64", "aarch64-linux-gnu.2.17", "aarch64", "so"),
    "macos-arm64": Platform("macosx_11_0_arm64", "aarch64-macos.11.0", "aarch64", "dylib"),
    "windows-x86_64": Platform("win_amd64", "x86_64-windows-gnu", "x86_64", "dll"),
    "windows-arm64": Platform("win_arm64", "aarch64-windows-gnu", "aarch64", "dll"),
}


class BuildError(Exception):
    """The library can't be compiled; the message says why, in one line."""


def compile_library(library: Path, target: Platform | None = None) -> None:
    """
    Compile the sources into a shared library, which replaces one that is there.

    Args:
        target: What to compile for, with zig's compiler in `CC`; None is this machine.

    Raises:
        BuildError: There is no compiler, it fails, or the processor is of a kind that has no kernels.
    """
    _compile(library, {path for path in SOURCES.glob("*.c") if path != SELFTEST}, ["-shared", "-s"], target)


def compile_selftest(program: Path, target: Platform | None = None) -> None:
    """
    Compile the sources and their tests into a program.

    Raises:
        BuildError: As for `compile_library`.
    """
    _compile(program, set(SOURCES.glob("*.c")), [], target)


def _compile(result: Path, sources: set[Path], link_flags: list[str], target: Platform | None) -> None:
    machine = target.machine if target else _machine()
    if machine not in _KERNELS:
        raise BuildError(f"there is nothing to compile for a processor of the kind {machine!r}")
    kernels = _KERNELS[machine]
    compiler = [*find_compiler(), *(["-target", target.zig] if target else [])]
    is_windows = result.suffix == ".dll"
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    flags = [*_FLAGS, *([] if is_windows else ["-fPIC"]), *extra]
    libraries = [] if is_windows else ["-lpthread", "-lm"]
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in sorted(sources):
            if source.name.startswith("step_") and source.name not in kernels:
                continue
            compiled = str(Path(scratch, f"{source.stem}.o"))
            kernel_flags = kernels.get(source.name, "").split()
            if target:
                kernel_flags = [_ZIG_SPELLING.get(flag, flag) for flag in kernel_flags]
            _run([*compiler, *flags, *kernel_flags, "-c", str(source), "-o", compiled])
            objects.append(compiled)
        linked = Path(scratch, result.name)
        _run([*compiler, *extra, *link_flags, "-o", str(linked), *objects, *libraries])
        result.parent.mkdir(parents=True, exist_ok=True)
        staged = result.with_suffix(".new")  # never written in place: a running program may have the old one mapped
        shutil.copy(linked, staged)
        staged.replace(result)


def library_name() -> str:
    """Return the file name of the library on this machine."""
    return "libmusicgen." + {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(  # the compiler that the user has
            command, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise BuildError(f"{command[0]} can't be run: {err}") from err
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
        raise BuildError(f"{command[0]} failed" + (f": {lines[0]}" if lines else ""))


def find_compiler() -> list[str]:
    """
    Return the command of the C compiler.

    Raises:
        BuildError: There is none.
    """
    if named := os.environ.get("CC"):
        return shlex.split(named)
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise BuildError("there is no C compiler")


def _machine() -> str:
    """Return the kind of processor that this Python was built for; a key of _KERNELS if there are kernels for it."""
    name = platform.machine().lower()
    if sys.maxsize < 2**32:  # a 32-bit Python, perhaps on a 64-bit processor
        return f"32-bit {name}"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def main() -> None:
    parser = argparse.ArgumentParser("python -m native.compile", description="Compile the native decoder.")
    parser.add_argument("--selftest", type=Path, metavar="FILE", help="compile the library's own tests instead")
    options = parser.parse_args()
    try:
        if options.selftest:
            compile_selftest(options.selftest)
        else:
            compile_library(SOURCES.parent / PACKAGE / library_name())
    except BuildError as err:
        raise SystemExit(str(err)) from err


if __name__ == "__main__":
    main()
