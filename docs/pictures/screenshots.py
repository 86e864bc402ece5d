"""
Make the two pictures of a gallery, with takes of the bundled model: `python -m docs.pictures.screenshots`.

Needs Debian's `chromium` and `fonts-inter`, and `pngquant`, which makes the files small.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser

from tests.support import chromium

TAKES = (
    ("a music box in an empty room", "-d", "8", "--seed", "3", "-t", "game"),
    ("slow strings, rain on the window", "-d", "12", "--seed", "11", "-t", "night"),
    ("low drone with distant bells", "-d", "15", "--seed", "21", "-t", "ambient"),
    ("warm electric piano, brushed drums, late evening", "-d", "10", "--seed", "40", "-n", "4", "-t", "night"),
    ("bright marimba loop", "-d", "6", "--seed", "5", "-t", "game", "-t", "loop"),
    ("driving synth bass, 120 bpm", "-d", "8", "--seed", "7", "-n", "2", "-t", "game", "-t", "loop"),
    ("calm ambient piano", "-d", "10", "--seed", "1", "-t", "ambient", "-t", "keeper"),
)
HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MUSICGEN_STORE"] = f"{scratch}/store"
        for words in TAKES:
            musicgen("generate", "--local", "-q", *words)
        musicgen("gallery", "-q", "-o", f"{scratch}/gallery")
        page = Path(scratch) / "gallery" / "index.html"
        with chromium.started(Path(scratch)) as browser:
            picture(browser, page, "light", 1120, 720, HERE / "gallery-light.png")
            picture(browser, page, "dark", 420, 720, HERE / "gallery-dark.png")


def musicgen(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "musicgen_cli", *words], check=True, stdout=subprocess.DEVNULL)


def picture(
    browser: Browser, page: Path, scheme: Literal["light", "dark"], width: int, height: int, target: Path
) -> None:
    """Picture the page while the second take of its first set plays."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=1.5, color_scheme=scheme
    )
    shown = context.new_page()
    shown.goto(page.as_uri())
    shown.locator(".set .wave").nth(0).click(position={"x": 130, "y": 20})
    shown.keyboard.press("x")
    shown.wait_for_timeout(800)
    shown.mouse.move(0, 0)
    shown.screenshot(path=target)
    context.close()
    subprocess.run(["pngquant", "--force", "--strip", "--output", str(target), str(target)], check=True)


if __name__ == "__main__":
    main()
