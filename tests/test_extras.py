from __future__ import annotations

import json
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from musicgen_cli import extras
from musicgen_cli.errors import MissingExtraError
from musicgen_cli.extras import install_command, installer, needs, requirement

TOP = Path(__file__).parents[1]
WHEEL = "file:///tmp/my%20music/musicgen_cli-0.1.0-py3-none-any.whl"
GIT = "https://example.org/musicgen.git"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None) -> None:
    """Make a folder where Python finds the metadata that pip writes."""
    metadata = folder / "musicgen_cli-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: musicgen-cli\nVersion: 0.1.0\n")
    if origin is not None:
        (metadata / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, ["musicgen-cli[audio]"]),
        ({"url": "file:///src/musicgen", "dir_info": {"editable": True}}, ["-e", "/src/musicgen[audio]"]),
        ({"url": "file:///src/my%20music", "dir_info": {}}, ["/src/my music[audio]"]),
        ({"url": WHEEL, "archive_info": {}}, ["/tmp/my music/musicgen_cli-0.1.0-py3-none-any.whl[audio]"]),
        ({"url": "https://example.org/m.whl", "archive_info": {}}, ["musicgen-cli[audio] @ https://example.org/m.whl"]),
        (
            {"url": GIT, "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "abc"}},
            [f"musicgen-cli[audio] @ git+{GIT}@main"],
        ),
        (
            {"url": GIT, "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "cli"},
            [f"musicgen-cli[audio] @ git+{GIT}@abc#subdirectory=cli"],
        ),
    ],
    ids=["index", "editable checkout", "checkout", "wheel", "wheel at a URL", "git branch", "git folder"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the paths are POSIX's")
def test_an_extra_comes_from_where_the_program_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, words: list[str]
) -> None:
    """The metadata of the installed package name the source."""
    install(tmp_path, monkeypatch, origin)

    assert requirement("audio", origin) == words
    assert shlex.split(install_command("audio"))[-len(words) :] == words


def test_a_checkout_that_is_not_installed_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed as an editable one."""
    monkeypatch.setattr(extras, "DISTRIBUTION", "no-distribution-of-that-name")

    assert shlex.split(install_command("audio"))[-2:] == ["-e", f"{TOP}[audio]"]


def test_an_extra_is_installed_into_the_programs_environment(tmp_path: Path) -> None:
    """The tool that manages the environment does it, else the environment's pip, else uv."""
    python = str(tmp_path / "bin/python")
    assert installer(tmp_path, python, has_pip=True) == [python, "-m", "pip", "install"]
    assert installer(tmp_path, python, has_pip=False) == ["uv", "pip", "install", "--python", python]

    (tmp_path / "uv-receipt.toml").touch()
    assert installer(tmp_path, python, has_pip=False) == ["uv", "tool", "install", "--force"]

    (tmp_path / "pipx_metadata.json").touch()
    assert installer(tmp_path, python, has_pip=True) == ["pipx", "install", "--force"]


def test_an_absent_package_names_its_extra_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command can be copied into a shell; an absent package that is not the extra's own is a bug."""
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with (
        pytest.raises(MissingExtraError, match=r"the extra 'audio' \(soundfile is not installed\)") as caught,
        needs("audio"),
    ):
        import soundfile  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("audio"):
        import no_package_of_that_name  # type: ignore[import-not-found]  # noqa: F401

    assert caught.value.hint == f"`{install_command('audio')}` installs it"
    assert "'" in install_command("audio")  # a shell would expand the brackets


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        (("linux", "x86_64", "cpython-311-x86_64-linux-gnu"), None),
        (("linux", "aarch64", "cpython-311-aarch64-linux-gnu"), None),
        (("darwin", "arm64", "cpython-313-darwin"), None),
        (("win32", "AMD64", "cp313-win_amd64"), None),
        (("win32", "ARM64", "cp313-win_arm64"), None),
        (("darwin", "x86_64", "cpython-313-darwin"), "Intel Macs"),
        (("linux", "x86_64", "cpython-311-x86_64-linux-musl"), "Linux with musl, such as Alpine"),
        (("linux", "riscv64", "cpython-311-riscv64-linux-gnu"), "riscv64 processors"),
    ],
)
def test_a_platform_without_onnx_runtime_is_named(platform: tuple[str, str, str], name: str | None) -> None:
    """No command could install it there."""
    assert extras.platform_without_onnx_runtime(*platform) == name
    assert extras.platform_without_onnx_runtime(*platform, bits=2**31 - 1) == "32-bit programs"


@pytest.mark.parametrize("machine", [("darwin", "x86_64"), ("linux", "armv7l"), ("linux", "i686"), ("linux", "x86_64")])
def test_the_extra_local_can_be_installed_without_a_model_s_runtime(machine: tuple[str, str]) -> None:
    """The requirement is left out where no wheel could meet it; pip's markers don't know musl."""
    wanted = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]["local"]
    environment = dict(zip(("sys_platform", "platform_machine"), machine, strict=True))
    names = {each.name for each in map(Requirement, wanted) if not each.marker or each.marker.evaluate(environment)}

    assert {"numpy", "tokenizers"} <= names
    assert ("onnxruntime" in names) == (machine == ("linux", "x86_64"))
