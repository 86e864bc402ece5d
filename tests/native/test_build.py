"""Builds of the package with a C compiler and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from native.compile import PACKAGE, BuildError, compile_library, library_name
from native.wheels import ANY, PLATFORM_VARIABLE

ROOT = Path(__file__).parents[2]
LIBRARY = (PACKAGE / library_name()).as_posix()


def build_wheel(folder: Path, **variables: str) -> tuple[Path, str]:
    """Build a wheel from a copy of what a source distribution has; return it, and what the build printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CC", PLATFORM_VARIABLE}}
    result = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    [wheel] = folder.glob("*.whl")
    return wheel, result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_wheel_has_the_native_decoder_and_the_tag_of_this_platform(tmp_path: Path) -> None:
    wheel, _ = build_wheel(tmp_path)

    assert LIBRARY in zipfile.ZipFile(wheel).namelist()
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")


@pytest.mark.parametrize("compiler", ["false", "/nonexistent/cc"])
def test_without_a_working_compiler_the_wheel_is_for_any_platform_and_says_so(tmp_path: Path, compiler: str) -> None:
    wheel, output = build_wheel(tmp_path, CC=compiler)

    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "libmusicgen" in name]
    assert wheel.name.endswith("-py3-none-any.whl")
    assert f"the native decoder is left out, ONNX Runtime will be used instead: {compiler}" in output


def test_a_release_has_a_wheel_for_any_platform(tmp_path: Path) -> None:
    wheel, output = build_wheel(tmp_path, **{PLATFORM_VARIABLE: ANY})

    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "libmusicgen" in name]
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "left out" not in output


def test_a_compiler_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -c \"import sys; sys.exit('x.c:1: error: no such thing\\nmore')\"")

    with pytest.raises(BuildError) as caught:
        compile_library(tmp_path / library_name())

    assert str(caught.value) == f"{sys.executable} failed: x.c:1: error: no such thing"
    assert not list(tmp_path.iterdir())
