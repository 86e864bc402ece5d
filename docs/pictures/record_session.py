"""
Record a first minute with musicgen, in a real shell on a real terminal, as an animated SVG.

    pip install pyte && python docs/pictures/record_session.py docs/pictures/session.svg

TYPED lists what is typed; the output and its timing are those of the programs. The image is one tall strip of screens,
which a window shows one after the other.
"""

from __future__ import annotations

import os
import pty
import select
import sys
import tempfile
import time
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

import pyte

COLUMNS, ROWS = 100, 20
TYPED = (
    'musicgen generate --local "calm ambient piano" --seed 7',
    'musicgen generate --local "energetic techno beat with synthesizers" -d 4 -n 2 -t game:menu',
    "clear; musicgen list --wave",
    "musicgen show last | grep -E '^(peak|rms|clipped|silence)'",
)
KEY_S, PAUSE_S, END_S, FRAME_S = 0.045, 1.2, 4.0, 0.08
COMMAND_S = 300.0  # no command takes longer
WIDTH, HEIGHT, BASELINE, PAD = 8.4, 19.0, 14.0, 12.0  # of a cell, in pixels
PROMPT = "$ "
INK, PAPER = "#d8dee9", "#1e222a"
COLOURS = {
    "black": "#4c566a", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": INK,
}  # fmt: skip

Run = tuple[int, str, str, bool]  # column, text, colour, bold
Row = tuple[Run, ...]


@dataclass(frozen=True)
class Frame:
    """What the terminal showed from a moment on."""

    at: float  # s
    rows: tuple[Row, ...]


class Terminal:
    """A shell in a terminal, and every screen that it showed."""

    def __init__(self, home: str) -> None:
        self.frames: list[Frame] = []
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._started = time.monotonic()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            env = {"HOME": home, "TERM": "xterm-256color", "PS1": PROMPT, "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
            os.environ |= env | {"XDG_DATA_HOME": f"{home}/data", "XDG_CONFIG_HOME": f"{home}/config"}
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])  # whichever bash there is

    def type(self, line: str) -> None:
        """Type a line as a person does, and wait for the next prompt."""
        for key in line:
            os.write(self._fd, key.encode())
            self.watch(KEY_S)
        self.watch(PAUSE_S / 2)
        os.write(self._fd, b"\r")
        self.watch(FRAME_S)
        deadline = time.monotonic() + COMMAND_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise TimeoutError(line)
            self.watch(FRAME_S)
        self.watch(PAUSE_S)

    def watch(self, seconds: float) -> None:
        """Record what is shown in the next seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._fd], [], [], min(left, FRAME_S))[0]:
                self._stream.feed(os.read(self._fd, 65536))
            rows = tuple(self._row(y) for y in range(ROWS))
            if not self.frames or rows != self.frames[-1].rows:
                self.frames.append(Frame(time.monotonic() - self._started, rows))

    def _is_ready(self) -> bool:
        cursor = self._screen.cursor
        line: str = self._screen.display[cursor.y]
        return bool(cursor.x == len(PROMPT)) and line.rstrip() == PROMPT.rstrip()

    def _row(self, y: int) -> Row:
        line = self._screen.buffer[y]
        cells = [(x, line[x]) for x in range(COLUMNS)]
        runs: list[Run] = []
        for (fg, bold), run in groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold)):
            run_cells = list(run)
            text = "".join(cell.data for _, cell in run_cells).rstrip()
            if text:
                runs.append((run_cells[0][0], text, COLOURS.get(fg, INK if fg == "default" else f"#{fg}"), bold))
        return tuple(runs)


def as_svg(frames: list[Frame], seconds: float) -> str:
    """Draw screens as one animated image."""
    width, height = COLUMNS * WIDTH + 2 * PAD, ROWS * HEIGHT + 2 * PAD
    names: dict[Row, str] = {}
    strip, keys = [], []
    for i, frame in enumerate(frames):
        keys.append(f"{100 * frame.at / seconds:.3f}%{{transform:translateY({-i * ROWS * HEIGHT:g}px)}}")
        for y, row in enumerate(frame.rows):
            if row:
                name = names.setdefault(row, f"r{len(names)}")
                strip.append(f'<use href="#{name}" y="{(i * ROWS + y) * HEIGHT:g}"/>')
    last = -(len(frames) - 1) * ROWS * HEIGHT
    rows = [f'<g id="{name}">{"".join(map(_text, row))}</g>' for row, name in names.items()]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"
 aria-label="A terminal: musicgen makes a take of nano, then a set of two, lists them, and shows the last one.">
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}
.b{{font-weight:bold}}
.strip{{animation:roll {seconds:.2f}s step-end infinite}}
@media(prefers-reduced-motion){{.strip{{animation:none;transform:translateY({last:g}px)}}}}
@keyframes roll{{{"".join(keys)}}}
</style>
<defs>{"".join(rows)}</defs>
<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>
<svg x="{PAD:g}" y="{PAD:g}" width="{COLUMNS * WIDTH:g}" height="{ROWS * HEIGHT:g}">
<g class="strip">{"".join(strip)}</g>
</svg>
</svg>
"""


def _text(run: Run) -> str:
    x, text, colour, bold = run
    length = f'textLength="{len(text) * WIDTH:g}" lengthAdjust="spacingAndGlyphs"'
    weight = ' class="b"' if bold else ""
    return f'<text x="{x * WIDTH:g}" y="{BASELINE:g}" fill="{colour}"{weight} {length}>{escape(text)}</text>'


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(home)
        terminal.watch(PAUSE_S)
        for line in TYPED:
            terminal.type(line)
        terminal.watch(END_S)
    first = terminal.frames[0].at
    frames = [Frame(frame.at - first, frame.rows) for frame in terminal.frames]
    Path(sys.argv[1]).write_text(as_svg(frames, frames[-1].at + END_S), encoding="utf-8")


if __name__ == "__main__":
    main()
