"""Passwords in addresses are never shown or written; keys of a service can be kept from the list of processes."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.extras import requirement
from tests.support.command_line import MUSICGEN, Run


@pytest.mark.parametrize("password", ["PA55word", "PA/55word", "PA@55word"])
@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("HF_ENDPOINT", ["model", "pull", "facebook/musicgen-small"]),
        ("MUSICGEN_URL", ["generate", "x", "--max-wait", "0"]),
        ("MUSICGEN_URL", ["generate", "x", "--detach"]),
        ("MUSICGEN_URL", ["doctor"]),
        ("MUSICGEN_URL", ["doctor", "--json"]),
        ("http_proxy", ["generate", "x", "--url", "http://gpubox.invalid:2006", "--max-wait", "0"]),
    ],
)
def test_a_password_in_an_address_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, words: list[str], password: str
) -> None:
    """Neither by what fails with it nor by what shows the settings; nothing listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv(variable, f"http://user:{password}@127.0.0.1:{port}")

    done = subprocess.run([*MUSICGEN, *words], capture_output=True, text=True, timeout=120, check=False)

    assert "55word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    files = [path for path in Path(os.environ["HOME"]).rglob("*") if path.is_file()]
    assert not [path for path in files if b"55word" in path.read_bytes()]


def test_the_command_that_installs_an_extra_has_no_password() -> None:
    """A package index or a repository may have been named with a token."""
    vcs = {"url": "https://u:t0ken@host/repo", "vcs_info": {"vcs": "git", "commit_id": "abc"}}

    for origin in (vcs, {"url": "https://t0ken@host/musicgen.whl", "archive_info": {}}):
        assert "t0ken" not in " ".join(requirement("serve", origin))


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    """One a line; empty lines and comments don't count."""
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbf# Anna\r\nfirst\r\n\r\n  second  \n")

    assert settings.read_keys(file) == ["first", "second"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", UsageError, "holds no API key"),
        (b"# none\n", UsageError, "holds no API key"),
        (b"a key\n", InvalidValueError, "printable ASCII without spaces"),
        ("schlüssel\n".encode(), InvalidValueError, "printable ASCII without spaces"),
        (b"\xff\n", UsageError, "not UTF-8"),
        (b"k" * 100_000, UsageError, "too large"),
        (None, UsageError, "can't read"),
    ],
)
def test_a_file_without_usable_keys_is_refused(
    tmp_path: Path, content: bytes | None, kind: type[Exception], message: str
) -> None:
    """The message names the file, never what is in it."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(kind, match=message) as caught:
        settings.read_keys(file)

    assert str(file) in str(caught.value)
    assert "a key" not in str(caught.value)


def test_serve_warns_of_a_key_on_the_command_line(musicgen: Run) -> None:
    """And says where it is safe; the port is out of range, so that nothing is served."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    done = musicgen("serve", "--model", "nano", "--port", "-1", "--api-key", "s3cret")

    assert done.code == 2
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "MUSICGEN_API_KEY" in warning
    assert "--api-key-file" in warning
    assert "s3cret" not in done.err


def test_serve_takes_one_source_of_keys(musicgen: Run, tmp_path: Path) -> None:
    """Two would leave open which counts; a file that others can read is warned of."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    file = tmp_path / "keys"
    file.write_text("k\n")
    file.chmod(0o644)

    both = musicgen("serve", "--api-key", "k", "--api-key-file", file)
    open_ = musicgen("serve", "--model", "nano", "--port", "-1", "--api-key-file", file)
    file.chmod(0o600)
    closed = musicgen("serve", "--model", "nano", "--port", "-1", "--api-key-file", file)

    assert both.code == 2
    assert "exclude each other" in both.err
    assert "chmod 600" in open_.err
    assert "warning" not in closed.err
