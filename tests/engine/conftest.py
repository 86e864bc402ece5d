"""Fixtures for the tests of the client."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer


@pytest.fixture
def url(httpserver: HTTPServer) -> str:
    """Return the address of `httpserver`, which answers as a test tells it to."""
    return httpserver.url_for("/").rstrip("/")
