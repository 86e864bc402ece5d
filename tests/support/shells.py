"""Interactive shells in a pseudo-terminal, into which tests type keys."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

COMPLETIONS = Path(__file__).parents[2] / "completions"
SCRIPTS = {"bash": "musicgen.bash", "zsh": "_musicgen", "fish": "musicgen.fish", "powershell": "musicgen.ps1"}

_READY = "ready> "
_DUMP = "\x18\x10"  # ctrl-x ctrl-p
_WAIT_S = 60.0
_SETTLE_S = 0.3

_BASH = r"""
source "$COMPLETIONS/musicgen.bash"
bind 'set page-completions off'
bind 'set completion-query-items 0'
bind 'set bell-style none'
_dump() { printf %s "$READLINE_LINE" >"$HOME/line.new"; mv "$HOME/line.new" "$HOME/line"; }
bind -x '"\C-x\C-p": _dump'
PS1='ready> '
"""
_ZSH = r"""
fpath=("$COMPLETIONS" $fpath)
autoload -Uz compinit
compinit -u -D
LISTMAX=10000
_dump() { print -rn -- "$BUFFER" >"$HOME/line.new"; mv "$HOME/line.new" "$HOME/line" }
zle -N _dump
bindkey '^X^P' _dump
PS1='ready> '
"""


def needs_shell(shell: str) -> None:
    """Skip the running test if a shell isn't installed."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which `musicgen` runs the package under test, and `home` is the home directory."""
    (home / "bin").mkdir(parents=True, exist_ok=True)
    program = home / "bin" / "musicgen"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m musicgen_cli "$@"\n')
    program.chmod(0o755)
    own = {"HOME": str(home), "ZDOTDIR": str(home), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    return {**os.environ, **own, "COMPLETIONS": str(COMPLETIONS), "TERM": "xterm", "LC_ALL": "C.UTF-8", **more}


class Shell:
    """An interactive bash or zsh with the completions of `musicgen`, whose home and working directory is `home`."""

    def __init__(self, shell: str, home: Path) -> None:
        needs_shell(shell)
        env = environment(home)
        rc = home / (".zshrc" if shell == "zsh" else "bashrc")
        rc.write_text(_ZSH if shell == "zsh" else _BASH)
        words = ["zsh", "-d", "-i"] if shell == "zsh" else ["bash", "--noprofile", "--rcfile", str(rc), "-i"]
        self._line = home / "line"
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(home)
            os.execvpe(shell, words, env)
        self._shown = ""
        self._read_until(lambda: _READY in self._shown)

    def line_after(self, keys: str) -> str:
        """Type into an empty command line; return the line afterwards, without running it."""
        self._line.unlink(missing_ok=True)
        self._shown = ""
        os.write(self._terminal, f"\x15{keys}{_DUMP}".encode())
        self._read_until(self._line.exists)
        return self._line.read_text()

    def shown_after(self, keys: str) -> str:
        """Type into an empty command line; return what the terminal showed meanwhile."""
        self.line_after(keys)
        while self._read_some(_SETTLE_S):  # what was shown before the line was written may still be on its way
            pass
        return self._shown

    def close(self) -> None:
        """Kill the shell."""
        os.close(self._terminal)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _read_until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not is_done():
            assert time.monotonic() < deadline, self._shown
            self._read_some(0.05)

    def _read_some(self, timeout_s: float) -> bool:
        """Read what the terminal shows; return False if it shows nothing within a time."""
        if not select.select([self._terminal], [], [], timeout_s)[0]:
            return False
        self._shown += os.read(self._terminal, 65536).decode(errors="replace")
        return True
