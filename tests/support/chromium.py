"""Starts Debian's Chromium with a profile of its own and without background services."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PATH = shutil.which("chromium")
TIMEOUT_MS = 60_000
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def started(home: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile in the folder `home`."""
    env: dict[str, str | float | bool] = {**os.environ, "HOME": str(home)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=_FLAGS, env=env, timeout=TIMEOUT_MS)
        try:
            yield browser
        finally:
            browser.close()
