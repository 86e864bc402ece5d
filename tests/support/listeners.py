"""Progress listeners for tests."""

from __future__ import annotations

import threading


class RecordingListener:
    """Records everything that an engine reports, and on which threads."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []  # done, total
        self.notes: list[str] = []
        self.chunks: list[tuple[bytes, int, int]] = []  # PCM, sample rate, channels
        self.pauses = 0
        self.chunk_steps: list[int] = []  # the steps that were done when a chunk came
        self.threads: set[int] = set()

    def step(self, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())
        self.steps.append((done, total))

    def note(self, text: str) -> None:
        self.threads.add(threading.get_ident())
        self.notes.append(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        self.threads.add(threading.get_ident())
        self.chunks.append((pcm, sample_rate, channels))
        self.chunk_steps.append(self.steps[-1][0])

    def pause(self) -> None:
        self.pauses += 1

    @property
    def pcm(self) -> bytes:
        """All samples so far."""
        return b"".join(pcm for pcm, _, _ in self.chunks)


class RaisingListener(RecordingListener):
    """Raises an exception at a step, as Ctrl-C may."""

    def __init__(self, error: BaseException, *, at: int = 1) -> None:
        super().__init__()
        self._error = error
        self._at = at

    def step(self, done: int, total: int) -> None:
        super().step(done, total)
        if done >= self._at:
            raise self._error


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
