"""ASGI middleware for every request: request id, access log, body limits, Host and key checks."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musicgen_cli import limits
from musicgen_cli.service.job import Job
from musicgen_cli.service.log import fields

OnAnswered = Callable[[str, int, float, Job | None], None]  # path, status, seconds, the job of a /predict

ANY_HOST = "*"  # stands for every name in the Host header
BODY_S = 10.0  # within which a request's body must arrive
_DRAIN_BYTES = 1024 * 1024  # that are read of a body that is too large, so that its sender reads the answer
_CLOSE = {"Connection": "close"}
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::[0-9]*)?")
_CLIENT_CLOSED = 499  # nginx's status for a client that disconnected; logged and counted, never sent
_LOGGED_CHARS = 256  # of a path or a header, whose length the client chooses
_POLLED = ("/health", "/metrics", "/progress/")  # requested every few seconds: logged only when they fail

log = logging.getLogger(__name__)


class ServiceMiddleware:
    """The outermost application: passes on only requests that are complete, small, authorized and for this host."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        api_key: str | None,
        log_prompts: bool,
        body_s: float,
        on_answered: OnAnswered,
    ) -> None:
        self._app = app
        self._hosts = frozenset(_host_name(host) or host.lower() for host in hosts) | {"localhost"}
        self._key = api_key.encode() if api_key else None
        self._log_prompts = log_prompts
        self._body_s = body_s
        self._on_answered = on_answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; everything that is not HTTP, such as lifespan events, is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            # The body is read before anything is refused: a client that still sends when the connection is closed gets
            # a reset instead of the answer.
            body = await self._read_body(receive)
            self._check_access(scope)
            await self._app(scope, _replay(body, receive), send_with_id)
        except HTTPException as err:
            await JSONResponse({"detail": err.detail}, err.status_code, err.headers)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_CLOSED
        except asyncio.CancelledError:  # how some servers report a disconnect
            status = status or _CLIENT_CLOSED
            raise
        except Exception:
            log.exception("failed", extra=fields(request=request_id))
            detail = f"internal error, request {request_id}"
            await JSONResponse({"detail": detail}, 500)(scope, receive, send_with_id)
        finally:
            self._record(scope, request_id, status, time.monotonic() - started)

    async def _read_body(self, receive: Receive) -> bytes:
        """
        Read the body, counting the bytes that arrive, whatever Content-Length says.

        Raises:
            HTTPException: 408: it took too long; 413: it is too large.
            ClientDisconnect: The client disconnected first.
        """
        body = bytearray()
        size, more = 0, True
        try:
            async with asyncio.timeout(self._body_s):
                while more and size <= _DRAIN_BYTES:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= limits.REQUEST_BYTES:
                        body += chunk
                    more = message.get("more_body", False)
        except TimeoutError as err:
            raise HTTPException(408, f"the body did not arrive within {self._body_s:g} s", _CLOSE) from err
        if size > limits.REQUEST_BYTES:
            raise HTTPException(413, f"the body must be at most {limits.REQUEST_BYTES} bytes", _CLOSE)
        return bytes(body)

    def _check_access(self, scope: Scope) -> None:
        """
        Check the Host header, then the key, which `/health` does not need.

        Raises:
            HTTPException: 421: the host; 401: no key; 403: a wrong key.
        """
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""), scope)
        if self._key is None or _path(scope) == "/health":
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(
                401, "an API key is needed, in the header Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )
        if not hmac.compare_digest(token.strip().encode("latin-1"), self._key):
            raise HTTPException(403, "the API key is wrong")

    def _check_host(self, header: str, scope: Scope) -> None:
        """
        Check that a Host header names this service, unless ANY_HOST was allowed.

        This is the defence against DNS rebinding: a web page that points its own name to this machine sends that name,
        which is neither an allowed name nor an address.

        Raises:
            HTTPException: 421: it names another host.
        """
        if ANY_HOST in self._hosts:
            return
        host = _host_name(header)
        if host is None:
            raise HTTPException(421, f"the Host header names no host: {header[:_LOGGED_CHARS]!r}")
        if host in self._hosts or host == _unmapped((scope["server"] or ("",))[0]):
            return
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            shown = host[:_LOGGED_CHARS]
            raise HTTPException(
                421, f"this service doesn't answer to the host {shown!r}: start it with `--allow-host {shown}`"
            )

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Count the request and write its line in the access log."""
        job: Job | None = scope.get("state", {}).get("job")
        self._on_answered(_path(scope), status, seconds, job)
        entry: dict[str, object] = {
            "request": request_id,
            "client": _unmapped((scope["client"] or ("-",))[0]),
            "method": scope["method"],
            "path": scope["raw_path"][:_LOGGED_CHARS].decode("ascii"),
            "status": status,
            "seconds": round(seconds, 3),
        }
        if traceparent := Headers(scope=scope).get("traceparent"):
            entry["traceparent"] = traceparent[:_LOGGED_CHARS]
        if job is not None:
            started = time.monotonic() if job.started is None else job.started
            entry |= {"job": job.request.client_job_id or "-", "waited": round(started - job.arrived, 3)}
            entry |= {"steps": job.steps, "sound": job.request.duration}
            if self._log_prompts:
                entry["prompt"] = job.request.prompt
        routine = status == 200 and _path(scope).startswith(_POLLED)
        log.log(logging.DEBUG if routine else logging.INFO, "answered", extra=fields(**entry))


def _host_name(header: str) -> str | None:
    """Return the name or the address in a Host header, None if it has none."""
    match = _HOST.fullmatch(header)
    return (match[1] or match[2]).lower().rstrip(".") if match else None


def _unmapped(address: str) -> str:
    """Return an IPv4 address that a socket of both families shows as IPv6 in its own form."""
    return address.removeprefix("::ffff:") if "." in address else address


def _path(scope: Scope) -> str:
    """Return the path without the prefix under which the app is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body, which was already read, and then what comes after it: the disconnect."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
