"""How bodies arrive: after the head was checked, one by one within a size and a time, together within a size."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from musicgen_cli.service.bodies import Bodies
from tests.support.services import PREDICT_HEAD, FakeService, StartService
from tests.support.waiting import wait_until

SCOPE: Scope = {"type": "http", "method": "POST", "headers": []}
LENGTH = b"Content-Length: 1000\r\n\r\n"
KIB = 1024


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (PREDICT_HEAD + LENGTH, 401),
        (PREDICT_HEAD + b"Authorization: Bearer wrong\r\n" + LENGTH, 403),
        (PREDICT_HEAD.replace(b"localhost", b"evil.example") + LENGTH, 421),
        (PREDICT_HEAD + b"Authorization: Bearer k\r\nContent-Length: 65537\r\n\r\n", 413),
        (PREDICT_HEAD.replace(b"POST", b"PUT") + b"Authorization: Bearer k\r\n" + LENGTH, 405),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + LENGTH, 200),
    ],
)
def test_what_the_head_decides_is_answered_before_the_body(start: StartService, head: bytes, status: int) -> None:
    """Nothing of the body has been sent when the answer comes."""
    with start(api_keys=["k"]).connect(head) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 %d " % status)


def test_a_connection_goes_on_after_a_body_that_nobody_read(start: StartService) -> None:
    """What is left of it is thrown away, and the next request on the connection is answered."""
    with start(api_keys=["k"]).connect(PREDICT_HEAD + LENGTH) as connection:
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(4096)
        connection.sendall(b" " * 1000 + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 401 ")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_nobody_reads_has_an_end(start: StartService, caplog: pytest.LogCaptureFixture) -> None:
    """In bytes, and in its framing; the connection is closed, and that is no error."""
    service = start(api_keys=["k"])
    for body in (b"10000\r\n" + b" " * 0x10000 + b"\r\n", b"no chunk\r\n"):
        with service.connect(PREDICT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
            with pytest.raises(ConnectionError):  # noqa: PT012  # a loop that only the other side ends
                for _ in range(1000):
                    connection.sendall(body)
                    time.sleep(0.001)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


FRAMINGS = {
    "both": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two lengths in one": b"Content-Length: 2, 3\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a bad size": b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a size too small": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 2\r\n\r\n{}",
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_ambiguous_framing_is_400_and_the_end_of_the_connection(service: FakeService, framing: str) -> None:
    """A proxy may see the body's end elsewhere, so what follows could be another client's request."""
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with service.connect(PREDICT_HEAD + FRAMINGS[framing] + smuggled) as connection:
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass

    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"400"]
    assert service.engine.requests == []


def test_chunks_in_http_1_0_are_400(service: FakeService) -> None:
    """HTTP/1.0 has none, so a proxy of that version would pass them on as they are."""
    head = PREDICT_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n"
    with service.connect(head + b"2\r\n{}\r\n0\r\n\r\n") as connection:
        assert b" 400 " in connection.recv(4096).split(b"\r\n")[0]


class Sender:
    """A body of which a part has arrived, and that goes on when it is told to."""

    def __init__(self, bodies: Bodies, client: str, size: int) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.send(size, more=True)
        receive: Receive = self._messages.get
        self.reading = asyncio.create_task(bodies.read(SCOPE, receive, client))

    def send(self, size: int, *, more: bool = False) -> None:
        self._messages.put_nowait({"type": "http.request", "body": b" " * size, "more_body": more})

    async def result(self) -> int:
        """Return the size of the body, or the status of its refusal."""
        try:
            return len(await asyncio.wait_for(self.reading, 10))
        except HTTPException as err:
            return err.status_code


def test_bodies_that_are_too_large_together_are_given_up() -> None:
    """The largest of the client with the most bytes first; the others arrive."""

    async def scenario() -> list[int]:
        bodies = Bodies(60, total_bytes=100 * KIB)
        greedy = [Sender(bodies, "greedy", size * KIB) for size in (10, 40, 30)]
        modest = Sender(bodies, "modest", 45 * KIB)
        for _ in range(4):
            await asyncio.sleep(0)
        assert [each.reading.done() for each in (*greedy, modest)] == [False, True, False, False]
        for each in (*greedy, modest):
            each.send(1)
        return [await each.result() for each in (*greedy, modest)]

    assert asyncio.run(scenario()) == [10 * KIB + 1, 503, 30 * KIB + 1, 45 * KIB + 1]


def test_the_newest_body_can_be_the_one_that_is_given_up() -> None:
    """Also if its last part makes them too large."""

    async def scenario() -> list[int]:
        bodies = Bodies(60, total_bytes=50 * KIB)
        first, second = Sender(bodies, "a", 20 * KIB), Sender(bodies, "a", 20 * KIB)
        await asyncio.sleep(0)
        second.send(20 * KIB)
        refused = await second.result()
        first.send(0)
        return [await first.result(), refused]

    assert asyncio.run(scenario()) == [20 * KIB, 503]


def test_bodies_that_have_arrived_count_no_more() -> None:
    """Any number of them may arrive one after the other."""

    async def scenario() -> set[int]:
        bodies = Bodies(60, total_bytes=50 * KIB)
        sizes = set()
        for _ in range(10):
            sender = Sender(bodies, "a", 20 * KIB)
            sender.send(0)
            sizes.add(await sender.result())
        return sizes

    assert asyncio.run(scenario()) == {20 * KIB}


def test_a_body_of_a_keyless_client_is_not_kept(start: StartService) -> None:
    """The service's memory holds nothing of what was sent behind a head that is refused."""
    service = start(api_keys=["k"])
    with service.connect(PREDICT_HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 50_000) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
        connections = [each for each in service.server.server_state.connections if hasattr(each, "cycle")]
        assert wait_until(lambda: all(not each.cycle.body for each in connections if each.cycle) or None)
