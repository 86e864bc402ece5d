from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from musicgen_cli.store import Store
from tests.support import chromium
from tests.support.gallery_takes import build_gallery, put


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium.PATH is None:
        pytest.skip("chromium isn't installed")
    with chromium.started(tmp_path_factory.mktemp("home")) as browser:
        yield browser


class Visit:
    """A page that was opened, with its console messages, its errors and the URLs that it requested."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(chromium.TIMEOUT_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda err: self.messages.append(str(err)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        self.messages.append(message.text)

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages from the disk; none may write to the console or request anything that is not on the disk."""
    visits: list[Visit] = []

    def open_page(path: Path, **context: Any) -> Page:
        visits.append(Visit(browser.new_context(**context).new_page()))
        visits[-1].page.goto(path.as_uri())
        return visits[-1].page

    yield open_page
    for visited in visits:
        visited.page.context.close()
        assert visited.messages == []
        assert [url for url in visited.requests if not url.startswith(("file:///", "data:"))] == []


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a page with a set of three takes between two single ones."""
    store = Store(tmp_path_factory.mktemp("store"))
    put(store, "low drone", seed=1, tags=["night"])
    for i in range(3):
        put(
            store,
            "calm piano",
            seed=2 + i,
            tags=["night", "keeper"][: 1 + i % 2],
            variation_set_id="s",
            variation_index=i,
        )
    put(store, "Élan vital", seed=5, tags=["game:ui"])
    return build_gallery(store, tmp_path_factory.mktemp("gallery"))
