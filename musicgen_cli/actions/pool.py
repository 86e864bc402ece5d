"""Several tasks at a time, each result as it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

from musicgen_cli.errors import MusicgenError

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 0.2  # Windows doesn't let Ctrl-C end a wait without a limit


def as_done(tasks: Iterable[T], work: Callable[[T], R], *, jobs: int) -> Iterator[tuple[T, R | MusicgenError]]:
    """
    Do tasks in `jobs` threads; yield each with what came of it, in the order in which they end.

    `tasks` is asked by the caller's thread alone, for the next one when a thread is free. Leaving early, as Ctrl-C
    does, waits for nobody: the threads of `concurrent.futures` would keep the process until they are done, these don't.
    """
    waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    ended: SimpleQueue[tuple[T, R | BaseException]] = SimpleQueue()

    def serve() -> None:
        while (act := waiting.get()) is not None:
            act()

    def do(task: T) -> None:
        try:
            ended.put((task, work(task)))
        except BaseException as err:  # noqa: BLE001  # raised again where somebody listens
            ended.put((task, err))

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
                waiting.put(lambda task=task: do(task))  # type: ignore[misc]
            if not running:
                return
            task, result = _next(ended)
            running -= 1
            if isinstance(result, MusicgenError) or not isinstance(result, BaseException):
                yield task, result
            else:
                raise result
    finally:
        for _ in range(threads):
            waiting.put(None)


def _next(ended: SimpleQueue[T]) -> T:
    while True:
        try:
            return ended.get(timeout=_LOOK_S)
        except Empty:
            continue
