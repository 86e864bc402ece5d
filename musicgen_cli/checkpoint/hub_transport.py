"""
Keeps the hub, and whoever answers in its place, from costing more than a download may.

An answer has a size, a least speed and no compression, and its head comes in time. A redirect is followed to an https
address or to the hub's own host, and never from the network to a service on this machine. httpx has time-outs for each
read alone, which one byte in half a minute keeps from running out.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

import httpx

from musicgen_cli import network
from musicgen_cli.errors import BadAnswerError, OutOfTimeError
from musicgen_cli.text import printable, size

MOST_BYTES = "musicgen_most_bytes"  # an extension of a request: the largest body that its answer may have

BODY_BYTES = 4 << 20  # of any other answer: listings of repositories with thousands of files have less
_MESSAGE_BYTES = 1 << 16  # of a redirect or an error, which nobody reads
HEAD_S = 60.0  # from a request to the head of its answer
WINDOW_S, WINDOW_BYTES = 60.0, 1 << 16  # of a body, fewer bytes in this time are as good as none
_CONTINUE = "`musicgen model pull` again continues the download"


class HubTransport(network.EnvironmentTransport):
    """Sends requests to a hub and to where it leads."""

    def __init__(self, endpoint: str) -> None:
        """
        Load the certificates; nothing is sent yet.

        Args:
            endpoint: The hub's address.

        Raises:
            UsageError: They can't be read.
        """
        super().__init__()
        self._endpoint = endpoint

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send a request.

        Raises:
            BadAnswerError: It was redirected to where no hub leads, or the answer is compressed. Reading its body may
                raise this, too: it is larger than it may be.
            OutOfTimeError: The head of the answer, or enough of its body, doesn't come in time.
            MusicgenError: As `EnvironmentTransport.handle_request`.
        """
        self.check_target(request.url)
        response = _within(HEAD_S, lambda: super(HubTransport, self).handle_request(request), self._slow)
        is_content = response.status_code in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}
        if is_content and response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise BadAnswerError(f"{self._endpoint} sent a compressed answer, which was not asked for")
        limit = request.extensions.get(MOST_BYTES, BODY_BYTES) if is_content else _MESSAGE_BYTES
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Bounded(response, response.stream, limit, self._endpoint, self._slow)
        return response

    def check_target(self, url: httpx.URL) -> None:
        """
        Check an address that is about to be asked.

        Raises:
            BadAnswerError: A hub doesn't lead there.
        """
        endpoint = httpx.URL(self._endpoint)
        if url.netloc == endpoint.netloc and url.scheme == endpoint.scheme:
            return
        is_local = network.is_loopback(url.host)
        if is_local or url.scheme != "https":
            is_allowed = network.is_loopback(endpoint.host) if is_local else endpoint.scheme == "http"
            if not is_allowed or not (is_local or url.host == endpoint.host):
                raise BadAnswerError(
                    f"{self._endpoint} leads to {printable(f'{url.scheme}://{url.host}')[:80]}, which is not followed",
                    hint="only https addresses and the hub's own host are; HF_ENDPOINT names another hub",
                )

    def _slow(self) -> OutOfTimeError:
        return OutOfTimeError(f"{self._endpoint} sends too slowly", hint=_CONTINUE)


class _Bounded(httpx.SyncByteStream):
    """The body of an answer, which ends with an error if it is too large or too slow."""

    def __init__(
        self,
        response: httpx.Response,
        stream: httpx.SyncByteStream,
        limit: int,
        endpoint: str,
        slow: Callable[[], OutOfTimeError],
    ) -> None:
        self._connection = response.extensions.get("network_stream")
        self._stream = stream
        self._limit = limit
        self._endpoint = endpoint
        self._slow = slow
        self._received = 0
        self._is_slow = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body's pieces."""
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            for piece in self._stream:
                self._received += len(piece)
                if self._received > self._limit:
                    raise BadAnswerError(f"{self._endpoint} sent more than the {size(self._limit)} that it may")
                yield piece
        except httpx.TransportError as err:
            if self._is_slow:
                raise self._slow() from err
            raise
        finally:
            ended.set()
        if self._is_slow:
            raise self._slow()

    def close(self) -> None:
        """Close the connection, or return it to its pool."""
        self._stream.close()

    def _watch(self, ended: threading.Event) -> None:
        """End a connection that brings too little: a read that waits for more then fails."""
        before = 0
        while not ended.wait(WINDOW_S):
            if self._received - before < WINDOW_BYTES:
                self._is_slow = True
                with suppress(OSError, AttributeError):  # closed meanwhile
                    self._connection.get_extra_info("socket").shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
                return
            before = self._received


def _within(seconds: float, call: Callable[[], httpx.Response], late: Callable[[], OutOfTimeError]) -> httpx.Response:
    """Return what `call` returns; raise `late()` if that takes too long, and leave the call to its own time-outs."""
    results: SimpleQueue[httpx.Response | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            results.put(call())
        except BaseException as err:  # noqa: BLE001  # raised again in the caller's thread
            results.put(err)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise late() from None
    if isinstance(result, BaseException):
        raise result
    return result
