"""README, CONTRIBUTING … and the pages of docs/: what they tell people to type, and a new user who types it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]  # of the repository
PAGES = tuple(sorted(path.relative_to(TOP).as_posix() for path in [*TOP.glob("*.md"), *TOP.glob("docs/*.md")]))
RUN_LANGUAGES = frozenset({"sh", "python"})

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_BACKGROUND = "background"  # the note on a service that the rest of the page uses
_URL = re.compile(r"http://[\d.]+:\d+")
_START_S, _STOP_S, _PAGE_S = 60.0, 30.0, 110.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block; `note` is the HTML comment in the line before it."""

    page: str
    line: int  # of its fence
    language: str
    text: str
    note: str = ""

    def __str__(self) -> str:
        """Name the place as an editor does."""
        return f"{self.page}:{self.line}"

    @property
    def skip_reason(self) -> str | None:
        """Why the block can't be run by a test; None if it can."""
        if self.note.startswith("not run: "):
            return self.note.removeprefix("not run: ")
        return "it is run by .ci/run" if self.note.startswith("ci: ") else None

    @property
    def is_run(self) -> bool:
        """Whether the block is to be run as part of its page."""
        return self.language in RUN_LANGUAGES and self.skip_reason is None and self.note != _BACKGROUND


class PageError(AssertionError):
    """A block of a page failed."""


def text_of(page: str) -> str:
    """Return a page as it is written."""
    return (TOP / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = text_of(page) if text is None else text
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["note"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def run(page: Sequence[Block], home: Path) -> list[int]:
    """
    Run the blocks of a page in one shell, as somebody would who has just installed the program and reads from the top.

    The environment holds an empty home, PATH and what finds this checkout's package; if the page starts a service,
    MUSICGEN_URL as well. The current folder is empty. A service is started as the page says, but on a free port.

    Returns:
        The lines of the blocks that were run to their ends.

    Raises:
        PageError: A command failed, or took too long; the message holds what the shell printed.
    """
    folder, notes = home / "work", home / "notes"
    for each in (folder, notes):
        each.mkdir(parents=True)
    env = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(TOP),  # the package of this checkout, whichever one is installed
    }
    ran = notes / "ran"
    ran.touch()
    script = notes / "page.sh"
    script.write_text("".join(_lines(page, notes, ran)), encoding="utf-8")
    with _services(page, env, notes) as urls:
        _type(["bash", "-euo", "pipefail", str(script)], env | urls, folder, ran)
    return [int(line) for line in ran.read_text().split()]


def _lines(page: Sequence[Block], notes: Path, ran: Path) -> Iterator[str]:
    for block in page:
        if not block.is_run:
            continue
        if block.language == "python":
            program = notes / f"line_{block.line}.py"
            program.write_text(block.text, encoding="utf-8")
            yield f"python {shlex.quote(str(program))}\n"
        else:
            yield block.text
        yield f"echo {block.line} >> {shlex.quote(str(ran))}\n"


def _type(words: Sequence[str], env: dict[str, str], folder: Path, ran: Path) -> None:
    shell = subprocess.Popen(
        words,
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=_PAGE_S)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        printed, _ = shell.communicate()
        raise PageError(f"the page takes longer than {_PAGE_S:g} s; it printed:\n{printed}") from None
    if shell.returncode:
        after = ran.read_text().split()[-1:] or ["none"]
        raise PageError(f"exit code {shell.returncode}; the last block that ended: {after[0]}; it printed:\n{printed}")


@contextmanager
def _services(page: Sequence[Block], env: dict[str, str], notes: Path) -> Iterator[dict[str, str]]:
    """Start the page's service, if it has one; yield the setting that names it."""
    commands = [block.text.strip() for block in page if block.note == _BACKGROUND]
    if not commands:
        yield {}
        return
    (command,) = commands
    assert command.startswith("musicgen serve"), command
    assert "\n" not in command, command
    log = notes / "service.log"
    with log.open("w") as file:
        service = subprocess.Popen(
            [*shlex.split(command, comments=True), "--port", "0"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield {"MUSICGEN_URL": _url(service, log)}
    except BaseException:
        service.kill()
        service.wait()
        raise
    service.terminate()
    code = service.wait(_STOP_S)
    if code:
        raise PageError(f"the service ended with exit code {code}:\n{log.read_text()}")


def _url(service: subprocess.Popen[bytes], log: Path) -> str:
    give_up = time.monotonic() + _START_S
    while not (match := _URL.search(log.read_text())):
        if service.poll() is not None or time.monotonic() > give_up:
            raise PageError(f"the service did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return match[0]
