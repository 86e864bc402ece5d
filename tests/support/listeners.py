"""Progress listeners for tests."""

from __future__ import annotations

import threading


class RecordingListener:
    """Records everything that an engine reports, and on which threads; may raise `error` at a step."""

    def __init__(self, error: BaseException | None = None, *, error_at: int = 1) -> None:
        self.steps: list[tuple[int, int]] = []  # done, total
        self.notes: list[str] = []
        self.sounds: list[tuple[bytes, int, int]] = []  # pcm, sample rate, channels
        self.threads: set[int] = set()
        self._error = error
        self._error_at = error_at

    def step(self, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())
        self.steps.append((done, total))
        if self._error is not None and done >= self._error_at:
            raise self._error

    def note(self, text: str) -> None:
        self.threads.add(threading.get_ident())
        self.notes.append(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        self.threads.add(threading.get_ident())
        self.sounds.append((pcm, sample_rate, channels))


class NotesOnlyListener(RecordingListener):
    """Records notes; steps and samples fail the test."""

    def step(self, done: int, total: int) -> None:
        raise AssertionError("no step was expected")

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        raise AssertionError("no samples were expected")


class StepsOnlyListener(RecordingListener):
    """Records steps; notes and samples fail the test."""

    def note(self, text: str) -> None:
        raise AssertionError(f"no note was expected: {text}")

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        raise AssertionError("no samples were expected")
