"""What every request passes: it is given an id and a line in the log, read whole, and checked for host and key."""

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

Answered = Callable[[str, int, float, Job | None], None]  # path, status, seconds, what was asked for

BODY_S = 10.0  # a request's body must be here within this
_DRAIN_BYTES = 1024 * 1024
_CLOSE = {"Connection": "close"}
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::[0-9]*)?")
_GONE = 499  # what nginx logs for a client that didn't wait; never sent
_LOGGED_CHARS = 256  # of a path or a header that anybody may fill
_ROUTINE = ("/health", "/metrics", "/progress/")  # asked every few seconds: not worth a line while all is well

log = logging.getLogger(__name__)


class ServiceMiddleware:
    """The outermost application: lets in what is whole, small, meant for this host, and knows the key."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        api_key: str | None,
        log_prompts: bool,
        body_s: float,
        answered: Answered,
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts) | {"localhost"}
        self._key = api_key.encode() if api_key else None
        self._log_prompts = log_prompts
        self._body_s = body_s
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what isn't HTTP, such as the server's start and end, passes by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started = time.monotonic()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            # Read before anything is refused: an answer to a client that still sends is lost in the reset.
            body = await self._read(receive)
            self._check(scope)
            await self._app(scope, _replay(body, receive), answer)
        except HTTPException as err:
            await JSONResponse({"detail": err.detail}, err.status_code, err.headers)(scope, receive, answer)
        except ClientDisconnect:
            status = _GONE
        except asyncio.CancelledError:  # how some servers say the same
            status = status or _GONE
            raise
        except Exception:
            log.exception("failed", extra=fields(request=request_id))
            detail = f"internal error, request {request_id}"
            await JSONResponse({"detail": detail}, 500)(scope, receive, answer)
        finally:
            self._tell(scope, request_id, status, time.monotonic() - started)

    async def _read(self, receive: Receive) -> bytes:
        """
        Read the body, counting what comes, whatever its headers promise.

        Raises:
            HTTPException: 413, 408.
            ClientDisconnect: The client went first.
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
            raise HTTPException(408, f"the body was not here within {self._body_s:g} s", _CLOSE) from err
        if size > limits.REQUEST_BYTES:
            raise HTTPException(413, f"the body must be at most {limits.REQUEST_BYTES} bytes", _CLOSE)
        return bytes(body)

    def _check(self, scope: Scope) -> None:
        """
        Check the Host header, then the key; `/health` is open to all.

        Raises:
            HTTPException: 421, 401, 403.
        """
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", ""), scope):
            raise HTTPException(421, "this service doesn't answer to that host name")
        if self._key is None or _path(scope) == "/health":
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(401, "an API key is needed", {"WWW-Authenticate": "Bearer"})
        if not hmac.compare_digest(token.strip().encode("latin-1"), self._key):
            raise HTTPException(403, "the API key is wrong")

    def _is_ours(self, header: str, scope: Scope) -> bool:
        """
        Tell whether a Host header names this service.

        A page that rebinds its own DNS name to this machine sends that name, never one of ours and never an address.
        """
        found = _HOST.fullmatch(header)
        if not found:
            return False
        host = (found[1] or found[2]).lower().rstrip(".")
        if host in self._hosts or host == (scope["server"] or ("",))[0]:
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def _tell(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Count the request, and write its line."""
        job = scope.get("state", {}).get("job")
        self._answered(_path(scope), status, seconds, job)
        known: dict[str, object] = {
            "request": request_id,
            "client": (scope["client"] or ("-",))[0],
            "method": scope["method"],
            "path": scope["raw_path"][:_LOGGED_CHARS].decode("ascii"),
            "status": status,
            "seconds": round(seconds, 3),
        }
        if parent := Headers(scope=scope).get("traceparent"):
            known["traceparent"] = parent[:_LOGGED_CHARS]
        if job is not None:
            began = time.monotonic() if job.started is None else job.started
            known |= {"job": job.request.client_job_id or "-", "waited": round(began - job.arrived, 3)}
            known |= {"steps": job.steps, "sound": job.request.duration}
            if self._log_prompts:
                known["prompt"] = job.request.prompt
        routine = status == 200 and _path(scope).startswith(_ROUTINE)
        log.log(logging.DEBUG if routine else logging.INFO, "answered", extra=fields(**known))


def _path(scope: Scope) -> str:
    """Return the path below where the server has mounted us."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that was read, then what comes after it: the client's leaving."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
