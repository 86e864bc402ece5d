"""The C library: its own tests, with sanitizers and for other processors, and what is said where it can't be used."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="needs the extra local")

from musicgen_cli.engine.native import library
from native.compile import PLATFORMS, BuildError, compile_library, compile_selftest, find_compiler

DIGEST = "digest 3c0fd34a1e94ace2, 0 failures"  # of the logits of the self-test, on every processor
TIMEOUT_S = 500.0  # compiling takes long on a busy machine

pytestmark = pytest.mark.timeout(600)


def has_compiler() -> bool:
    """Tell whether the compiler that the build takes can be run; `CC=false` stands for none."""
    try:
        return subprocess.run([*find_compiler(), "--version"], capture_output=True, check=False).returncode == 0
    except (BuildError, OSError):
        return False


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C compiler")


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_compiler
@pytest.mark.parametrize("flags", ["-O1", "-O1 -g -fsanitize=address,undefined", "-O1 -g -fsanitize=thread"])
def test_the_library_passes_its_own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    """With every instruction set of this processor; and without errors of memory, of arithmetic or among threads."""
    recover = " -fno-sanitize-recover=all" if "sanitize" in flags else ""
    monkeypatch.setenv("CFLAGS", flags + recover)
    compile_selftest(tmp_path / "selftest")

    assert run(tmp_path / "selftest").splitlines()[-1] == DIGEST


@needs_compiler
def test_the_library_passes_its_own_tests_on_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits as on x86."""
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None or importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs qemu-user-static and the package ziglang")
    monkeypatch.setenv("CC", f"{sys.executable} -m ziglang cc")
    monkeypatch.setenv("CFLAGS", "-O1 -static")
    compile_selftest(tmp_path / "selftest", replace(PLATFORMS["linux-arm64"], zig="aarch64-linux-musl"))

    assert run(qemu, tmp_path / "selftest").splitlines()[-1] == DIGEST


def reason(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    monkeypatch.setattr(library, "LIBRARY", path)
    with pytest.raises(library.UnavailableError) as caught:
        library.instruction_set()
    return str(caught.value)


def test_a_missing_library_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation from source without a compiler has none."""
    assert reason(monkeypatch, tmp_path / "absent.so") == "this installation has no native library"


def test_a_damaged_library_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as one for another system."""
    (tmp_path / "damaged.so").write_text("not a library")

    assert reason(monkeypatch, tmp_path / "damaged.so").startswith("damaged.so can't be loaded: ")


@needs_compiler
def test_a_library_of_another_version_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its functions may have other arguments."""
    other = tmp_path / "other.so"
    monkeypatch.setenv("CFLAGS", "-O1 -DMG_ABI=999")
    compile_library(other)

    assert reason(monkeypatch, other) == f"other.so has version 999, this program needs {library.ABI}"


def test_an_unknown_instruction_set_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists those of this processor."""
    if not library.LIBRARY.exists():
        pytest.skip("the native library isn't built: `python -m native.compile`")
    monkeypatch.setitem(os.environ, library.ISA_VARIABLE, "sse9")

    assert reason(monkeypatch, library.LIBRARY).startswith("MUSICGEN_NATIVE_ISA is 'sse9', and this processor has ")
