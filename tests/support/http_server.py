"""The standard library's HTTP server, for the fake services of the tests."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class LocalHTTPServer(ThreadingHTTPServer):
    """
    A server whose clients may vanish in the middle of an answer, which tests of broken connections do on purpose.

    Any other failure of a handler is printed, as the base class does.
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)
