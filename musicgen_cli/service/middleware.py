"""ASGI middleware for every request: request id, access log, checks of framing, host and key, the body's limits."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musicgen_cli.service.bodies import Bodies
from musicgen_cli.service.callers import Caller, Keys, address_of, unmapped
from musicgen_cli.service.job import Job
from musicgen_cli.service.log import fields
from musicgen_cli.service.refusal import RefusedError

OnAnswered = Callable[[str, int, float, Job | None], None]  # path, status, seconds, the job of a /predict

ANY_HOST = "*"  # stands for every name in the Host header
_CLOSE = {"Connection": "close"}
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::[0-9]*)?")
_CLIENT_CLOSED = 499  # nginx's status for a client that disconnected; logged and counted, never sent
_LOGGED_CHARS = 256  # of a path or a header, whose length the client chooses
_POLLED = ("/health", "/metrics", "/progress/")  # requested every few seconds: logged only when they fail

log = logging.getLogger(__name__)


class ServiceMiddleware:
    """
    The outermost application: passes on only requests that are complete, small, authorized and for this host.

    What a head shows to be refused is refused before the body is read, so that nobody without a key can make the
    service keep bodies. The server throws away what comes of such a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        api_keys: Sequence[str],
        log_prompts: bool,
        body_s: float,
        admit_sounds: Callable[[Caller], None],
        on_answered: OnAnswered,
    ) -> None:
        """
        Wrap an app.

        Args:
            app: It answers what is passed on.
            hosts, api_keys, log_prompts, body_s: As for `create_app`.
            admit_sounds: Called before a body is read that is so large that it must have a sound in it; it raises what
                the request is refused with.
            on_answered: Called after each request.
        """
        self._app = app
        self._hosts = frozenset(_host_name(host) or host.lower() for host in hosts) | {"localhost"}
        self._keys = Keys(api_keys)
        self._log_prompts = log_prompts
        self._bodies = Bodies(body_s)
        self._admit_sounds = admit_sounds
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
            caller = self._check(scope)
            scope.setdefault("state", {})["caller"] = caller
            await self._app(scope, await self._read(scope, receive, caller), send_with_id)
        except RefusedError as err:
            await JSONResponse({"detail": str(err)}, err.status, err.headers)(scope, receive, send_with_id)
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

    async def _read(self, scope: Scope, receive: Receive, caller: Caller) -> Receive:
        """Read the body of a request, and return what gives it to the app; nothing here keeps it then."""
        if scope["method"] != "POST":
            return _replay(b"", receive)

        def admit_large() -> None:
            check_json(scope)
            self._admit_sounds(caller)

        is_predict = _path(scope) == "/predict"
        body = await self._bodies.read(scope, receive, caller.client, admit_large if is_predict else None)
        return _replay(body, receive)

    def _check(self, scope: Scope) -> Caller:
        """
        Check the head of a request, and return who sent it; `/health` needs no key.

        Raises:
            HTTPException: 400: the framing; 421: the host; 401: no key; 403: a wrong key.
        """
        _check_framing(scope)
        self._check_host(Headers(scope=scope).get("host", ""), scope)
        if _path(scope) == "/health":
            return Caller(address_of(scope))
        return self._keys.check(scope)

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
        if host in self._hosts or host == unmapped((scope["server"] or ("",))[0]):
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
            "client": address_of(scope) or "-",
            "method": scope["method"],
            "path": scope["raw_path"][:_LOGGED_CHARS].decode("ascii"),
            "status": status,
            "seconds": round(seconds, 3),
        }
        caller: Caller | None = scope.get("state", {}).get("caller")
        if caller is not None and caller.key is not None:
            entry["key"] = caller.key
        if traceparent := Headers(scope=scope).get("traceparent"):
            entry["traceparent"] = traceparent[:_LOGGED_CHARS]
        if job is not None:
            started = time.monotonic() if job.started is None else job.started
            entry |= {"job": job.request.client_job_id or "-", "waited": round(started - job.arrived, 3)}
            entry |= {"steps": job.steps, "sound": job.request.duration}
            if job.source is not None:
                entry["source"] = job.source
            if self._log_prompts:
                entry["prompt"] = job.request.prompt
        routine = status == 200 and _path(scope).startswith(_POLLED)
        log.log(logging.DEBUG if routine else logging.INFO, "answered", extra=fields(**entry))


def check_json(scope: Scope) -> None:
    """
    Check that a body is JSON.

    A browser lets any web page POST text/plain to loopback, but application/json only after a CORS preflight, which
    this service never grants.

    Raises:
        HTTPException: 415: it is something else.
    """
    content_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(415, "Content-Type must be application/json")


def _host_name(header: str) -> str | None:
    """Return the name or the address in a Host header, None if it has none."""
    match = _HOST.fullmatch(header)
    return (match[1] or match[2]).lower().rstrip(".") if match else None


def _check_framing(scope: Scope) -> None:
    """
    Refuse a body whose end a proxy before this service may see elsewhere (RFC 9112, 6.1 and 6.3).

    Raises:
        HTTPException: 400; the connection is closed.
    """
    names = {name for name, _ in scope["headers"]}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise HTTPException(400, "a request has either Content-Length or Transfer-Encoding", _CLOSE)
    if scope["http_version"] == "1.0":
        raise HTTPException(400, "HTTP/1.0 has no Transfer-Encoding", _CLOSE)


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
