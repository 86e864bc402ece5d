"""
What an HTTP service's responses mean: bodies, read with a limit, and an error for every status but 200.

httpx decompresses without a limit, and a body may be endless. So nothing but `identity` is accepted, and bodies are
read raw, up to a given number of bytes.
"""

from __future__ import annotations

import email.utils
import errno
import re
from collections.abc import Iterable
from datetime import UTC, datetime

import httpx
from pydantic_core import from_json

from musicgen_cli import limits, network
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import (
    NO_SERVICE_HINT,
    BadAnswerError,
    MusicgenError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
)
from musicgen_cli.text import without_user_info

JSON_BYTES = 64 * 1024  # at most, for the body of an error, a health check or a progress report

# 504 means two things: a service that answers requests says that it was too slow, with a detail, and a reverse proxy
# that the service doesn't answer at all.
_BUSY = frozenset({429, 503, 504})
_MISSED_DEADLINE = re.compile("the answer would take about .* s, the deadline is ")  # our own service's words
_AWAY_HINTS = {
    504: "if the service is up, it is slower than the proxy waits: nginx's proxy_read_timeout; else start it, or wait "
    "longer: `--max-wait`"
}
_NO_WAY = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
)
_MAX_DETAILS = 8  # entries of a validation error, and warnings, that are shown
_WARNING = re.compile(r'\b\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_WARNING_CHARS = 4096  # that are read of Warning headers
_MAX_WARNING_CHARS = 200


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """
    Read a response's body as it was sent.

    Raises:
        BadAnswerError: It is compressed, or longer than `max_bytes`.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise BadAnswerError(f"the service's answer is compressed ({encoding[:40]!r}), although that was not accepted")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise BadAnswerError(f"the service's answer is larger than {max_bytes // 1024} KiB")
    return bytes(body)


def parse_warnings(headers: Iterable[str]) -> list[str]:
    """Return the texts of Warning headers, `299 musicgen "text"` (RFC 7234, 5.5); what has another form is left out."""
    texts = [re.sub(r"\\(.)", r"\1", text) for text in _WARNING.findall(", ".join(headers)[:_WARNING_CHARS])]
    return [text[:_MAX_WARNING_CHARS] for text in texts[:_MAX_DETAILS] if text]


def json_object(body: bytes) -> dict[str, object]:
    """Parse a body that may be anything; what is not a JSON object becomes an empty one."""
    try:
        parsed = from_json(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


async def status_error(
    response: httpx.Response, request: GenerateRequest | None, proxy: network.Proxy | None
) -> MusicgenError:
    """
    Return the error that a status other than 200 means.

    Args:
        request: What was sent, if it was to `/predict`.
        proxy: The environment's, through which it was sent.
    """
    status, url = response.status_code, response.request.url
    if 300 <= status < 400:
        target = without_user_info(response.headers.get("location", "nowhere"))[: limits.DETAIL_CHARS]
        message = f"the service answered {status}: it has moved to {target}"
        return _StatusError(message, status, hint="pass that address with `--url`")
    detail = await _detail(response)
    who, hint = "the service", None
    if proxy is not None and proxy.answers_for(url) and detail is None:  # a service would have said why
        who, hint = f"{proxy}, or the service behind it,", proxy.hint(url.host)
    is_away = status == httpx.codes.BAD_GATEWAY or (status == httpx.codes.GATEWAY_TIMEOUT and detail is None)
    if status in _BUSY and not is_away:
        message = f"{who} is busy ({status}{f': {detail}' if detail else ''})"
        if detail is not None and _MISSED_DEADLINE.match(detail):
            hint = "`--timeout` allows more time"
        return _BusyStatusError(message, _parse_retry_after(response.headers.get("retry-after")), hint=hint)
    reason = detail or response.reason_phrase
    message = f"{who} answered {status}" + (f": {reason}" if reason else "")
    if is_away:
        if hint is None:
            fails = "can't reach" if status == httpx.codes.BAD_GATEWAY else "got no answer in time from"
            message = f"the proxy at {url.netloc.decode()} {fails} the service behind it ({status})"
            hint = _AWAY_HINTS.get(status)
        return _AwayError(message, _parse_retry_after(response.headers.get("retry-after")), hint=hint)
    return _StatusError(message, status, hint=hint or _status_hint(status, url, request))


def _status_hint(status: int, url: httpx.URL, request: GenerateRequest | None) -> str | None:
    """Return what to do about a status of the service itself."""
    if status in {401, 403}:
        return "MUSICGEN_API_KEY must hold the service's key"
    if status == 421:
        return f"the service has to be started with `--allow-host {url.host}`, or called by another name"
    if status == 500 and request is not None and not request.prompt:
        return "this server may be unable to generate without a prompt: give one"
    if status in {404, 405}:
        return "is that a MusicGen service? `--url` and MUSICGEN_URL name it"
    return None


def connection_error(url: str, err: httpx.TransportError) -> ServiceUnreachableError:
    """Return the error for a connection that could not be made: unknown host, failed TLS, or nothing that listens."""
    causes = {type(cause).__name__ for cause in network.causes(err)}
    numbers = {cause.errno for cause in network.causes(err) if isinstance(cause, OSError)}
    if "gaierror" in causes:
        return ServiceUnreachableError(f"no such host: {url}", hint="`--url` and MUSICGEN_URL name the service")
    if causes & {"SSLError", "SSLCertVerificationError"}:
        return ServiceUnreachableError(f"no secure connection to {url}: {err}", hint="check its certificate")
    if numbers & _NO_WAY:  # no service was asked
        return ServiceUnreachableError(
            f"{url} can't be reached: {network.connection_reason(err)}",
            hint="check the network, and the address: `--url` and MUSICGEN_URL name the service",
        )
    return _RefusedError(f"no musicgen service at {url}", hint=NO_SERVICE_HINT)


def status_of(err: ServiceError) -> int | None:
    """Return the HTTP status that caused an error, or None if it wasn't a status."""
    return err.status if isinstance(err, _StatusError) else None


def retry_after_s(err: Exception) -> float | None:
    """Return the seconds in the Retry-After of a service that is busy or away, or None if it sent none."""
    return err.retry_after_s if isinstance(err, _BusyStatusError | _AwayError) else None


def is_refused(err: Exception) -> bool:
    """Return whether the connection failed because no service listens at the address, or not yet."""
    return isinstance(err, _RefusedError)


def broken_error(url: str, hint: str) -> ServiceError:
    """Return the error for a connection that broke after the request was sent."""
    return _BrokenError(f"the connection to {url} broke before the answer was complete", hint=hint)


def is_away(err: Exception) -> bool:
    """Return whether a reverse proxy answered that the service behind it can't be reached, which a restart explains."""
    return isinstance(err, _AwayError)


class _StatusError(ServiceError):
    """A status other than 200 that does not mean busy."""

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _BusyStatusError(ServiceBusyError):
    """A 429 or 503, or a 504 of the service itself."""

    def __init__(self, message: str, retry_after_s: float | None, *, hint: str | None) -> None:
        super().__init__(message, hint=hint or "try again later, or wait longer: `--max-wait`")
        self.retry_after_s = retry_after_s


class _AwayError(ServiceUnreachableError):
    """A 502, or a 504 of a proxy: the proxy before the service can't reach it."""

    def __init__(self, message: str, retry_after_s: float | None, *, hint: str | None) -> None:
        super().__init__(message, hint=hint or "start the service behind that proxy, or wait longer: `--max-wait`")
        self.retry_after_s = retry_after_s


class _BrokenError(ServiceError):
    """A connection that broke after the request was sent."""

    connection_broke = True


class _RefusedError(ServiceUnreachableError):
    """A connection that was refused, or timed out."""


async def _detail(response: httpx.Response) -> str | None:
    """Return the server's message in one line, or None if there is none or it can't be read."""
    try:
        body = await read_body(response, JSON_BYTES)
    except ServiceError:
        return None  # the status says enough
    detail = json_object(body).get("detail")
    if isinstance(detail, list):
        detail = "; ".join(_validation_message(entry) for entry in detail[:_MAX_DETAILS])
    if not isinstance(detail, str) or not detail:
        return None
    text = " ".join(detail.split())
    return text if len(text) <= limits.DETAIL_CHARS else text[: limits.DETAIL_CHARS - 1] + "…"


def _validation_message(entry: object) -> str:
    """Format one entry of a FastAPI validation error, `{"loc": ["body", "duration"], "msg": …}`."""
    if not isinstance(entry, dict):
        return str(entry)
    location = entry.get("loc")
    field = ".".join(str(part) for part in location if part != "body") if isinstance(location, list) else ""
    return f"{field}: {entry.get('msg')}" if field else str(entry.get("msg"))


def _parse_retry_after(value: str | None) -> float | None:
    """Parse Retry-After, seconds or an HTTP date (RFC 9110, 10.2.3); None if it is invalid or not within 0-60 s."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        wait_s = float(value[:9])
    else:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        wait_s = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return wait_s if wait_s in limits.RETRY_AFTER_S else None
