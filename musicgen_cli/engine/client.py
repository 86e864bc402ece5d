"""
The engine that is an HTTP service: `RemoteEngine` sends a request and validates the answer.

httpx's time-outs apply to each read, so a slow enough body would never time out. Each request therefore has one total
deadline. `responses` says what an answer means, and `retry` when a request is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from musicgen_cli import limits, network
from musicgen_cli._version import __version__
from musicgen_cli.audio.wav import is_silent
from musicgen_cli.contract import Answer, GenerateRequest, read_answer
from musicgen_cli.engine.base import (
    NO_INPUTS,
    REPRODUCIBILITY,
    RESUME,
    Abilities,
    Clip,
    Inputs,
    Origin,
    ProgressListener,
)
from musicgen_cli.engine.offer import Offer, needs_offer
from musicgen_cli.engine.outgoing import Outgoing, pack
from musicgen_cli.engine.responses import (
    JSON_BYTES,
    broken_error,
    connection_error,
    json_object,
    parse_warnings,
    read_body,
    status_error,
    status_of,
)
from musicgen_cli.engine.retry import RetryPolicy, retry
from musicgen_cli.errors import OutOfTimeError, ServiceError, UsageError
from musicgen_cli.text import number, without_user_info

T = TypeVar("T")

_CONNECT_S = 10.0  # to open a connection; a service may be slow, but its port answers at once or not at all
_HEALTH_S = 10.0  # a health check is answered while the service works on requests
_PROGRESS_S = 1.0  # between two polls of a request's progress
_PROGRESS_MISSES = 3  # polls in a row without progress, after which the service is taken not to report any


class RemoteEngine:
    """A MusicGen service that follows the HTTP contract."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        max_wait_s: float,
        api_key: str | None = None,
        waits_for_away: bool = True,
    ) -> None:
        """
        Check the address; nothing is sent yet.

        Args:
            url: Base address, such as `http://127.0.0.1:2006`.
            timeout_s: The total deadline of each attempt of a request.
            max_wait_s: The sum of all waits for a busy service, over all attempts of one request.
            api_key: Sent as a Bearer token.
            waits_for_away: Whether `generate` waits for a service that a reverse proxy can't reach, too; a fleet does
                that itself, as it may have another service.

        Raises:
            UsageError: `url` is not an http or https address, or the environment's proxy or certificates can't be used.
        """
        self._base = _parse_url(url)
        self.url = str(self._base.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        self.origin = Origin("http", url=self.url)
        self.slots = 1  # the service doesn't say how many requests it runs at once
        self.abilities = Abilities()  # it is asked when a request needs more
        self._proxy = network.proxy_for(self._base)
        # Loading the certificates takes longer than a request; without TLS there is nothing to verify.
        self._tls = network.tls_context() if self._base.scheme == "https" else False
        self._timeout_s = timeout_s
        self._max_wait_s = max_wait_s
        self._waits_for_away = waits_for_away
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"musicgen-cli/{__version__}",
        }
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        """
        Send the request and wait for its clip. What not every service can make, the service is asked about first.

        Raises:
            NotOfferedError: The service makes no clips of this length, or from such sounds; nothing was sent.
            InvalidValueError: The sounds are too large to be sent, or not sounds.
            ServiceUnreachableError: No connection could be made.
            ServiceBusyError: The service was still busy when `max_wait_s` was spent.
            OutOfTimeError: The deadline passed; the service may still be working on the request.
            ServiceError: An error status, or a connection that broke.
            BadAnswerError: An answer that does not follow the contract.
        """
        started = time.monotonic()
        warnings: list[str] = []
        outgoing = self._pack(request, inputs, listener)

        async def send() -> Answer:
            body = await self._exchange(
                *("POST", "predict"),
                timeout_s=self._timeout_s,
                outgoing=outgoing,
                listener=listener,
                warnings=warnings,
            )
            return outgoing.complete(read_answer(body, request))

        answer = asyncio.run(self._retry(send, listener, waits_for_away=self._waits_for_away, resumes=outgoing.resumes))
        return self._clip(request, answer, warnings, time.monotonic() - started)

    def model(self, listener: ProgressListener, *, waits_for_away: bool = True) -> str | None:
        """
        Ask which model the service has, waiting as for a clip; None if the service does not say.

        Args:
            listener: Is notified of each wait.
            waits_for_away: Whether a service that a reverse proxy can't reach is waited for.

        Raises:
            MusicgenError: As `generate`.
        """
        model = self._ask(listener, waits_for_away=waits_for_away).get("model")
        return model if isinstance(model, str) and model else None

    def _pack(self, request: GenerateRequest, inputs: Inputs, listener: ProgressListener) -> Outgoing:
        """Decide what is sent of the sounds; what not every service can serve, this one is asked about first."""
        if not needs_offer(request, inputs):
            return Outgoing(request)
        offer = Offer.of(self._ask(listener, waits_for_away=self._waits_for_away))
        offer.check(request, inputs)
        return replace(pack(request, inputs, offer.abilities), resumes=RESUME in offer.abilities.features)

    def _ask(self, listener: ProgressListener, *, waits_for_away: bool) -> dict[str, object]:
        """Return the service's health report, waiting as for a clip; an empty one if it has no health check."""

        async def ask() -> bytes:
            return await self._exchange("GET", "health", timeout_s=_HEALTH_S)

        try:
            return json_object(asyncio.run(self._retry(ask, listener, waits_for_away=waits_for_away)))
        except ServiceError as err:
            if status_of(err) in {404, 405}:
                return {}
            raise

    def health(self, timeout_s: float = 3.0) -> dict[str, object]:
        """
        Return the service's health report; any 200 means up, and an empty report stands for a body that is no object.

        Raises:
            MusicgenError: Not reachable, no answer in time, or another status than 200.
        """
        return json_object(asyncio.run(self._exchange("GET", "health", timeout_s=timeout_s)))

    def close(self) -> None:
        """Do nothing: no connection is kept between requests."""

    async def _retry(
        self,
        send: Callable[[], Awaitable[T]],
        listener: ProgressListener,
        *,
        waits_for_away: bool,
        resumes: bool = False,
    ) -> T:
        loopback = network.is_loopback(self._base.host)
        policy = RetryPolicy(
            self._max_wait_s, listener, loopback=loopback, waits_for_away=waits_for_away, resumes=resumes
        )
        return await retry(send, policy)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        outgoing: Outgoing | None = None,
        listener: ProgressListener | None = None,
        warnings: list[str] | None = None,
    ) -> bytes:
        """
        Send one request under one deadline and return the body of a 200.

        Args:
            outgoing: Sent as JSON.
            listener: Receives the progress of the request meanwhile, if that has a `client_job_id`.
            warnings: Filled with those of a 200's header.
        """
        request, content, answer_bytes, headers = None, None, limits.ANSWER_BYTES, dict(self._headers)
        if outgoing is not None:
            request, content, answer_bytes = outgoing.request, outgoing.body, outgoing.answer_bytes
            headers |= {"Content-Type": "application/json", "X-Deadline-S": number(timeout_s)}

        async def send(client: httpx.AsyncClient) -> bytes:
            async with client.stream(method, self._endpoint(path), content=content, headers=headers) as response:
                if response.status_code != 200:
                    raise await status_error(response, request, self._proxy)
                if warnings is not None:
                    warnings[:] = parse_warnings(response.headers.get_list("warning"))
                return await read_body(response, answer_bytes)

        try:
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(
                    follow_redirects=False,
                    verify=self._tls,
                    trust_env=False,
                    proxy=self._proxy.url if self._proxy else None,
                    timeout=httpx.Timeout(None, connect=_CONNECT_S),
                ) as client,
            ):
                if listener is None or request is None or request.client_job_id is None:
                    return await send(client)
                return await _alongside(send(client), self._poll_progress(client, request.client_job_id, listener))
        except TimeoutError as err:
            raise OutOfTimeError(
                f"no answer from {self.url} within {number(timeout_s)} s",
                hint=f"the service may still be working on it; `--timeout` allows more time{_goes_on(request)}",
            ) from err
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as err:
            if self._proxy is not None:
                raise self._proxy.error(self._base.host, err) from err
            raise connection_error(self.url, err) from err
        except httpx.HTTPError as err:
            raise broken_error(
                self.url, f"not sent again: the service may still be working on it{_goes_on(request)}"
            ) from err

    async def _poll_progress(self, client: httpx.AsyncClient, job_id: str, listener: ProgressListener) -> None:
        """Pass a request's progress to the listener, for as long as the service reports it."""
        misses = 0
        while misses < _PROGRESS_MISSES:
            await asyncio.sleep(_PROGRESS_S)
            progress = await self._progress(client, job_id)
            misses = 0 if progress else misses + 1
            if progress and progress[1]:
                listener.step(*progress)

    async def _progress(self, client: httpx.AsyncClient, job_id: str) -> tuple[int, int] | None:
        """Return the steps done and their total, which is 0 before the first; None if the service reports neither."""
        try:
            async with client.stream("GET", self._endpoint(f"progress/{job_id}"), headers=self._headers) as response:
                if response.status_code != 200:
                    return None
                report = json_object(await read_body(response, JSON_BYTES))
        except (httpx.HTTPError, ServiceError):
            return None  # a missing progress bar is no reason to fail
        steps, total = report.get("steps"), report.get("total")
        if type(steps) is int and type(total) is int and 0 <= steps <= total:
            return steps, total
        return None

    def _endpoint(self, path: str) -> httpx.URL:
        return self._base.copy_with(path=self._base.path.rstrip("/") + "/" + path)

    def _clip(self, request: GenerateRequest, answer: Answer, warnings: list[str], elapsed_s: float) -> Clip:
        honoured = request.seed is not None and answer.seed == request.seed
        extra = {
            name: value
            for name in (*REPRODUCIBILITY, "context_s", "windows", "overlap")
            if isinstance(value := answer.metadata.get(name), str | int | float) and len(str(value)) <= 128
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
            warnings=(*warnings, *_warnings(answer, says_clamped=bool(warnings))),
        )


def _goes_on(request: GenerateRequest | None) -> str:
    """Return the end of a hint: how to use what a service has made of a long clip before it was cut off."""
    if request is None or request.duration <= limits.CONTEXT_S or request.seed is None:
        return ""
    return f"; the same again with `--seed {request.seed}` goes on from the last window that it has finished"


async def _alongside(main: Coroutine[Any, Any, T], side: Coroutine[Any, Any, None]) -> T:
    """Run `side` while `main` runs, and return the result of `main`; an exception in either cancels both."""
    main_task, side_task = asyncio.ensure_future(main), asyncio.ensure_future(side)
    tasks: set[asyncio.Future[Any]] = {main_task, side_task}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not main_task.done():
            await side_task
        return await main_task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parse_url(url: str) -> httpx.URL:
    hint = "such as http://127.0.0.1:2006"
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as err:
        raise UsageError("the url is not an address", hint=hint) from err
    shown = without_user_info(url)[:80]
    if base.scheme not in {"http", "https"} or not network.is_address(base) or " " in url:
        raise UsageError(
            f"the url must start with http:// or https:// and name a host and a valid port, got {shown!r}", hint=hint
        )
    return base.copy_with(query=None, fragment=None)


def _warnings(answer: Answer, *, says_clamped: bool) -> Iterator[str]:
    """
    Yield what is unusual in a valid answer, and what the service itself warns of.

    Args:
        says_clamped: A header says already what was clamped.
    """
    info = answer.info
    if is_silent(answer.wav, info):
        yield "the sound is silent"
    usual = (limits.SAMPLE_RATE, limits.CHANNELS, 16, False)
    if (info.sample_rate, info.channels, info.bits, info.is_float) != usual:
        encoding = "float" if info.is_float else "PCM"
        yield (
            f"unusual audio format, stored as it is: {info.sample_rate} Hz, {info.channels} channel(s), "
            f"{info.bits}-bit {encoding}"
        )
    clamped = answer.metadata.get("clamped")
    if isinstance(clamped, dict) and clamped and not says_clamped:
        yield f"the service clamped values that were out of its range: {', '.join(map(str, list(clamped)[:8]))}"
    warnings = answer.metadata.get("warnings")
    if isinstance(warnings, list):
        yield from (text[:200] for text in warnings[:8] if isinstance(text, str))
