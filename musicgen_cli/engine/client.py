"""
The HTTP service: sends a request, waits as the contract says, trusts nothing in the answer.

The only file that imports httpx. Its time-outs are per read and its decompression is unbounded, hence one total
deadline round each request, `identity` only, raw reads and a cap on bytes.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import stamina
from pydantic_core import from_json

from musicgen_cli import limits
from musicgen_cli._version import __version__
from musicgen_cli.audio.wav import is_silent
from musicgen_cli.contract import Answer, GenerateRequest, read_answer
from musicgen_cli.engine.base import Clip, Origin, ProgressListener
from musicgen_cli.errors import (
    BadAnswerError,
    MusicgenError,
    OutOfTimeError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
    UsageError,
)
from musicgen_cli.text import number

T = TypeVar("T")

_CONNECT_S = 10.0  # a host that doesn't answer at all is told from one that is slow
_HEALTH_S = 10.0  # what answers at all answers this at once
_PROGRESS_S = 1.0  # between two looks at a request's progress
_PROGRESS_MISSES = 3  # in a row, then the service is taken for one that doesn't tell
_BUSY = frozenset({429, 503, 504})
_JSON_BYTES = 64 * 1024  # of an error's or a health check's body

# Every wait is told to the listener; without a handler of its own stamina's log would reach stderr as well.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class RemoteEngine:
    """A MusicGen service that speaks the contract."""

    def __init__(self, url: str, *, timeout_s: float, max_wait_s: float, api_key: str | None = None) -> None:
        """
        Check the address; nothing is sent yet.

        Args:
            url: Base address, such as `http://127.0.0.1:2006`.
            timeout_s: One total deadline round each request.
            max_wait_s: What may be spent, over all tries of one request, on waiting for a busy service.
            api_key: Sent as a Bearer token.

        Raises:
            UsageError: `url` is not an http or https address.
        """
        self._base = _address(url)
        self.url = str(self._base.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        self.origin = Origin("http", url=self.url)
        # Reading the certificates takes longer than a request; without TLS there is nothing to verify.
        self._tls = httpx.create_ssl_context() if self._base.scheme == "https" else False
        self.slots = 1  # how many the service makes at once is its own affair
        self._timeout_s = timeout_s
        self._max_wait_s = max_wait_s
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"musicgen-cli/{__version__}",
        }
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def generate(self, request: GenerateRequest, listener: ProgressListener) -> Clip:
        """
        Send the request and wait for its clip.

        Raises:
            ServiceUnreachableError: No connection.
            ServiceBusyError: Busy until `max_wait_s` was spent.
            OutOfTimeError: The deadline passed; the service may still be at work.
            ServiceError: An error answer, or a connection that broke; BadAnswerError: not the contract.
        """
        started = time.monotonic()

        async def ask() -> Answer:
            return read_answer(await self._exchange("POST", "predict", request, self._timeout_s, listener), request)

        answer = asyncio.run(self._patiently(ask, listener))
        return self._clip(request, answer, time.monotonic() - started)

    def model(self, listener: ProgressListener) -> str | None:
        """
        Ask which model makes the clips, waiting as for a clip; None if the service doesn't say.

        Raises:
            MusicgenError: As `generate`.
        """
        try:
            said = asyncio.run(self._patiently(lambda: self._exchange("GET", "health", None, _HEALTH_S), listener))
        except _AnsweredError as err:
            if err.status in {404, 405}:  # it has no health check
                return None
            raise
        model = _object(said).get("model")
        return model if isinstance(model, str) and model else None

    def health(self, timeout_s: float = 3.0) -> dict[str, object]:
        """
        Ask how the service is; any 200 means up, whatever its body.

        Raises:
            MusicgenError: Not reachable, not in time, or not a 200.
        """
        return _object(asyncio.run(self._exchange("GET", "health", None, timeout_s)))

    def close(self) -> None:
        """Nothing is held between requests."""

    async def _patiently(self, ask: Callable[[], Awaitable[T]], listener: ProgressListener) -> T:
        patience = _Patience(self._max_wait_s, listener, loopback=_is_loopback(self._base.host))
        async for attempt in stamina.retry_context(on=patience, attempts=None, timeout=None):
            with attempt:
                return await ask()
        raise AssertionError("stamina either returns or raises")

    async def _exchange(
        self,
        method: str,
        path: str,
        request: GenerateRequest | None,
        timeout_s: float,
        listener: ProgressListener | None = None,
    ) -> bytes:
        """Send one request under one deadline, tell how it gets on, if anybody listens; return the body of a 200."""
        content = None if request is None else request.model_dump_json().encode()
        headers = dict(self._headers)
        if content is not None:
            headers |= {"Content-Type": "application/json", "X-Deadline-S": number(timeout_s)}

        async def answer(client: httpx.AsyncClient) -> bytes:
            async with client.stream(method, self._at(path), content=content, headers=headers) as response:
                if response.status_code != 200:
                    raise await _refusal(response, request)
                _plain(response)
                return await _read(response, limits.ANSWER_BYTES)

        try:
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(
                    follow_redirects=False,
                    verify=self._tls,
                    trust_env=not _is_loopback(self._base.host),  # a proxy must not see loopback
                    timeout=httpx.Timeout(None, connect=_CONNECT_S),
                ) as client,
            ):
                if listener is None or request is None or request.client_job_id is None:
                    return await answer(client)
                return await _beside(answer(client), self._follow(client, request.client_job_id, listener))
        except TimeoutError as err:
            raise OutOfTimeError(
                f"no answer from {self.url} within {number(timeout_s)} s",
                hint="the service may still be at work on it; `--timeout` gives it longer",
            ) from err
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as err:
            raise _unreachable(self.url, err, loopback=_is_loopback(self._base.host)) from err
        except httpx.HTTPError as err:
            raise ServiceError(
                f"the connection to {self.url} broke before the answer was whole",
                hint="not sent again: the service may still be at work on it",
            ) from err

    async def _follow(self, client: httpx.AsyncClient, job_id: str, listener: ProgressListener) -> None:
        """Tell the listener of a request's steps, as long as the service does, which not every one can."""
        misses = 0
        while misses < _PROGRESS_MISSES:
            await asyncio.sleep(_PROGRESS_S)
            steps = await self._steps(client, job_id)
            misses = 0 if steps else misses + 1
            if steps and steps[1]:
                listener.step(*steps)

    async def _steps(self, client: httpx.AsyncClient, job_id: str) -> tuple[int, int] | None:
        """Ask how many steps are made, of how many, which is 0 before the first; None if that isn't said."""
        try:
            async with client.stream("GET", self._at(f"progress/{job_id}"), headers=self._headers) as response:
                if response.status_code != 200:
                    return None
                _plain(response)
                said = _object(await _read(response, _JSON_BYTES))
        except (httpx.HTTPError, ServiceError):
            return None  # what a bar would like to know is no reason to fail
        steps, total = said.get("steps"), said.get("total")
        if type(steps) is int and type(total) is int and 0 <= steps <= total:
            return steps, total
        return None

    def _at(self, path: str) -> httpx.URL:
        return self._base.copy_with(path=self._base.path.rstrip("/") + "/" + path)

    def _clip(self, request: GenerateRequest, answer: Answer, elapsed_s: float) -> Clip:
        honoured = request.seed is not None and answer.seed == request.seed
        extra = {
            name: value
            for name in ("checkpoint", "sampler")
            if isinstance(value := answer.metadata.get(name), str | int) and len(str(value)) <= 128
        }
        return Clip(
            wav=answer.wav,
            info=answer.info,
            origin=replace(
                self.origin,
                model=answer.text("model"),
                engine=answer.text("engine"),
                precision=answer.text("precision"),
                device=answer.text("device"),
            ),
            elapsed_s=elapsed_s,
            seed=request.seed if honoured else None,
            license=answer.text("license"),
            extra=extra,
            warnings=tuple(_oddities(answer)),
        )


async def _beside(main: Coroutine[Any, Any, T], other: Coroutine[Any, Any, None]) -> T:
    """Await one thing while another goes on, which ends with it; what either raises ends both."""
    wanted, aside = asyncio.ensure_future(main), asyncio.ensure_future(other)
    both: set[asyncio.Future[Any]] = {wanted, aside}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            await aside
        return await wanted
    finally:
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)


class _Patience:
    """Decides after a failure whether to try again, and when; tells each wait."""

    def __init__(self, max_wait_s: float, listener: ProgressListener, *, loopback: bool) -> None:
        self._left_s = max_wait_s
        self._listener = listener
        self._starting_s = limits.STARTING_S if loopback else 0.0
        self._backoff_s = limits.BACKOFF_FIRST_S

    def __call__(self, err: Exception) -> float | bool:
        """Return the seconds to wait before the next try, or False to give up."""
        if isinstance(err, _BusyAnswerError):
            wait_s = err.retry_after_s
            if wait_s is None:
                wait_s = self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
                self._backoff_s = min(2 * self._backoff_s, limits.BACKOFF_MOST_S)
            wait_s = max(wait_s, 0.05)  # "Retry-After: 0" must not become a busy loop
            if wait_s > self._left_s:
                return False
            self._left_s -= wait_s
            self._listener.note(f"{err}, trying again in {wait_s:.0f} s" if wait_s >= 1 else f"{err}, trying again")
            return wait_s
        if isinstance(err, _RefusedError) and self._starting_s > 0:
            self._starting_s -= 0.25
            return 0.25
        return False


class _BusyAnswerError(ServiceBusyError):
    """A 429, 503 or 504."""

    def __init__(self, status: int, retry_after_s: float | None, detail: str | None) -> None:
        said = f": {detail}" if detail else ""
        super().__init__(f"the service is busy ({status}{said})", hint="try again later, or wait longer: `--max-wait`")
        self.retry_after_s = retry_after_s


class _AnsweredError(ServiceError):
    """Any status but 200 and those that mean busy."""

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _RefusedError(ServiceUnreachableError):
    """Nobody listens there, or not yet."""


def _address(url: str) -> httpx.URL:
    hint = "such as http://127.0.0.1:2006"
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as err:
        raise UsageError("the url is not an address", hint=hint) from err
    if base.scheme not in {"http", "https"} or not base.host or " " in url:
        raise UsageError(f"the url must start with http:// or https:// and name a host, got {url[:80]!r}", hint=hint)
    return base.copy_with(query=None, fragment=None)


def _object(body: bytes) -> dict[str, object]:
    """Read a health check's answer, which may be anything."""
    try:
        said = from_json(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _unreachable(url: str, err: Exception, *, loopback: bool) -> ServiceUnreachableError:
    hint = "start one with musicgen serve, or add --local"
    kinds = {type(cause).__name__ for cause in _causes(err)}
    if "gaierror" in kinds:
        return ServiceUnreachableError(f"no such host: {url}", hint="`--url` and MUSICGEN_URL name the service")
    if kinds & {"SSLError", "SSLCertVerificationError"}:
        return ServiceUnreachableError(f"no secure connection to {url}: {err}", hint="check its certificate")
    kind = _RefusedError if loopback else ServiceUnreachableError
    return kind(f"no musicgen service at {url}", hint=hint)


def _causes(err: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that lies beneath it."""
    while err is not None:
        yield err
        if isinstance(err, BaseExceptionGroup):
            for inner in err.exceptions:
                yield from _causes(inner)
        err = err.__cause__ or err.__context__


async def _refusal(response: httpx.Response, request: GenerateRequest | None) -> MusicgenError:
    """Turn an answer other than 200 into what it means."""
    status = response.status_code
    if response.is_redirect or 300 <= status < 400:
        target = response.headers.get("location", "nowhere")[: limits.DETAIL_CHARS]
        message = f"the service answered {status}: it has moved to {target}"
        return _AnsweredError(message, status, hint="give that with `--url`")
    detail = await _detail(response)
    if status in _BUSY:
        return _BusyAnswerError(status, _retry_after(response.headers.get("retry-after")), detail)
    hint = None
    if status in {401, 403}:
        hint = "MUSICGEN_API_KEY must hold the service's key"
    elif status == 500 and request is not None and not request.prompt:
        hint = "this server may be unable to generate without a prompt: give one"
    elif status in {404, 405}:
        hint = "is that a MusicGen service? `--url` and MUSICGEN_URL name it"
    said = detail or response.reason_phrase
    return _AnsweredError(f"the service answered {status}" + (f": {said}" if said else ""), status, hint=hint)


async def _detail(response: httpx.Response) -> str | None:
    """Return the server's own words in one line, or None if it said nothing we can read."""
    try:
        _plain(response)
        said = from_json(await _read(response, _JSON_BYTES))
    except (ServiceError, ValueError):
        return None  # what an error says is a courtesy; its status is the news
    detail = said.get("detail") if isinstance(said, dict) else None
    if isinstance(detail, list):
        detail = "; ".join(_item(item) for item in detail[:8])
    if not isinstance(detail, str) or not detail:
        return None
    text = " ".join(detail.split())
    return text if len(text) <= limits.DETAIL_CHARS else text[: limits.DETAIL_CHARS - 1] + "…"


def _item(item: object) -> str:
    """Say one entry of a validation error's list, `{"loc": ["body", "duration"], "msg": …}`."""
    if not isinstance(item, dict):
        return str(item)
    place = item.get("loc")
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return f"{where}: {item.get('msg')}" if where else str(item.get("msg"))


def _plain(response: httpx.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise BadAnswerError(f"the service's answer is packed as {encoding[:40]!r} although plain was asked for")


async def _read(response: httpx.Response, most: int) -> bytes:
    """Read the body as it is on the wire, at most `most` bytes of it."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise BadAnswerError(f"the service's answer is larger than {most // 1024} KiB")
    return bytes(body)


def _retry_after(value: str | None) -> float | None:
    """Read Retry-After, seconds or an HTTP date (RFC 9110, 10.2.3); None for junk and beyond 0-60 s."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        wait_s = float(value[:9])
    else:
        try:
            when = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        wait_s = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return wait_s if wait_s in limits.RETRY_AFTER_S else None


def _oddities(answer: Answer) -> Iterator[str]:
    """Yield what is unusual in an answer that is good all the same."""
    info = answer.info
    if is_silent(answer.wav, info):
        yield "the sound is silent"
    usual = (limits.SAMPLE_RATE, limits.CHANNELS, 16, False)
    if (info.sample_rate, info.channels, info.bits, info.is_float) != usual:
        form = "float" if info.is_float else "PCM"
        yield f"unusual sound, kept as is: {info.sample_rate} Hz, {info.channels} channel(s), {info.bits}-bit {form}"
    clamped = answer.metadata.get("clamped")
    if isinstance(clamped, dict) and clamped:
        yield f"the service changed what was out of its range: {', '.join(str(name) for name in list(clamped)[:8])}"
    said = answer.metadata.get("warnings")
    if isinstance(said, list):
        yield from (text[:200] for text in said[:8] if isinstance(text, str))
