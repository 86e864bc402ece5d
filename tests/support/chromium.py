"""Starts Debian's Chromium, in a home of its own and without what it does of its own accord."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PATH = shutil.which("chromium")
PATIENCE_MS = 60_000
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def started(home: Path) -> Iterator[Browser]:
    """Start one with an empty profile."""
    env = {**os.environ, "HOME": str(home)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=_FLAGS, env=env, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()
