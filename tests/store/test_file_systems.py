"""A store on file systems that lack something: permissions, which is no harm, or locks, which is found out early."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.command_line import MUSICGEN
from tests.support.programs import environment

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

Generate = Callable[..., subprocess.CompletedProcess[str]]

NO_MODES = """
    int fchmod(int fd, unsigned mode) { errno = EPERM; return -1; }
    int chmod(const char *path, unsigned mode) { errno = EPERM; return -1; }
    int fchmodat(int fd, const char *path, unsigned mode, int flags) { errno = EPERM; return -1; }
"""
NO_LOCKS = "int flock(int fd, int how) { errno = ENOSYS; return -1; }"
NO_RENAMES = "int rename(const char *from, const char *to) { errno = EPERM; return -1; }"
NO_ROOM = "int fsync(int fd) { errno = ENOSPC; return -1; }"


@pytest.fixture
def generate(tmp_path: Path) -> Generate:
    """Return a function that makes a take where the C library's functions are replaced."""

    def run(functions: str, *words: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "file_system.c").write_text(f"#include <errno.h>\n{functions}")
        program = ["gcc", "-shared", "-fPIC", "-o", "file_system.so", "file_system.c"]
        subprocess.run(program, cwd=tmp_path, check=True, timeout=120)
        return subprocess.run(
            [*MUSICGEN, "generate", "x", "--local", "-d", "0.5", "-q", *words],
            env=environment() | {"LD_PRELOAD": str(tmp_path / "file_system.so")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_permissions_are_best_effort(generate: Generate, store_path: Path, tmp_path: Path) -> None:
    """On CIFS, FAT and mounts of a bucket, modes can't be set; the take is stored, exported and readable."""
    done = generate(NO_MODES, "-o", str(tmp_path / "take.wav"))

    assert done.returncode == 0, done.stderr
    take = Store(store_path).get("last")
    assert done.stdout == f"{take.id}\n"
    assert Store(store_path).read_blob(take)
    assert (tmp_path / "take.wav").is_file()


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        (NO_LOCKS, "has no locks"),
        (NO_RENAMES, "operation not permitted"),
        (NO_ROOM, "no space left on device"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_needed_is_tried_before_anything_is_made(
    generate: Generate, store_path: Path, functions: str, reason: str, *, is_there: bool
) -> None:
    """No take is made that can't be stored, and no file is left: neither a blob nor what was tried."""
    if is_there:
        store_path.mkdir()
    done = generate(functions)

    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert error.endswith(reason)
    assert str(store_path if is_there else store_path.parent) in error
    assert hint == "hint: `--store DIR` or MUSICGEN_STORE names another store"
    assert not (store_path / "blobs").exists()
    assert not list(store_path.parent.glob(".tmp-*"))
    assert is_there == store_path.exists()
