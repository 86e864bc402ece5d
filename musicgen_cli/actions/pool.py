"""Runs tasks in several threads and yields each result as soon as it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

from musicgen_cli.errors import MusicgenError

T = TypeVar("T")
R = TypeVar("R")

_WAIT_S = 0.2  # on Windows, Ctrl-C can't interrupt a wait without a time limit


def as_done(tasks: Iterable[T], work: Callable[[T], R], *, jobs: int) -> Iterator[tuple[T, R | MusicgenError]]:
    """
    Run tasks in `jobs` threads, and yield each with its result, in the order in which they end.

    The caller's thread alone iterates `tasks`, and takes the next one only when a thread is free. If the caller leaves
    early, as on Ctrl-C, nothing waits for the tasks in progress: unlike the threads of `concurrent.futures`, these do
    not keep the process alive.

    Yields:
        A task, and what `work` returned or the `MusicgenError` that it raised.

    Raises:
        BaseException: Whatever else `work` raised.
    """
    waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends a thread
    results: SimpleQueue[tuple[T, R | BaseException]] = SimpleQueue()

    def serve() -> None:
        while (call := waiting.get()) is not None:
            call()

    def run_task(task: T) -> None:
        try:
            results.put((task, work(task)))
        except BaseException as err:  # noqa: BLE001  # raised again in the caller's thread
            results.put((task, err))

    threads = 0
    running = 0
    source = iter(tasks)
    try:
        while True:
            while running < jobs:
                try:
                    task = next(source)
                except StopIteration:
                    break
                running += 1
                if threads < running:
                    threads += 1
                    threading.Thread(target=serve, daemon=True).start()
                waiting.put(lambda task=task: run_task(task))  # type: ignore[misc]
            if not running:
                return
            task, result = _next(results)
            running -= 1
            if isinstance(result, MusicgenError) or not isinstance(result, BaseException):
                yield task, result
            else:
                raise result
    finally:
        for _ in range(threads):
            waiting.put(None)


def _next(results: SimpleQueue[T]) -> T:
    while True:
        try:
            return results.get(timeout=_WAIT_S)
        except Empty:
            continue
