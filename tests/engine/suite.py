"""
What every engine must do, whatever it is made of.

`EngineSuite` holds the tests, and test_engines.py runs them over each engine. A new engine gets an `EngineCase` there.
"""

from __future__ import annotations

import io
import itertools
import threading
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from musicgen_cli.audio.wav import inspect
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import REPRODUCIBILITY, Clip, Engine, NullListener, Origin, ProgressListener
from tests.support import clips
from tests.support.listeners import RaisingListener, RecordingListener

HEADER_BYTES = 44
CANCELLED_AT = 5  # the step at which a request is cancelled
_ids = itertools.count()


@dataclass(frozen=True)
class EngineCase:
    """An engine under test, and how it differs from others."""

    engine: Engine  # shared by all tests
    open_another: Callable[[], Engine]  # opens a second one with the same model, which the test closes
    origin: Origin  # of its clips
    draws_seeds: bool = True  # a clip names the seed that was drawn for a request without one
    reports_every_step: bool = True  # else it is polled, and the last steps may be missing
    streams_sound: bool = True  # the listener receives samples

    def generate(self, listener: ProgressListener | None = None, **fields: Any) -> Clip:
        return self.engine.generate(request(**fields), listener or NullListener())


def request(**fields: Any) -> GenerateRequest:
    """Return a request with an id of its own, because a service reports progress by id."""
    return clips.request(client_job_id=f"suite-{next(_ids)}", **fields)


class EngineSuite:
    """Tests that take a fixture `case`, an EngineCase."""

    @pytest.mark.parametrize("duration", [0.5, 0.51, 0.58, 2 / 3, 0.7501, 9.99, 30.0])
    def test_a_clip_is_exactly_as_long_as_requested(self, case: EngineCase, duration: float) -> None:
        """To the sample: 16-bit mono at 32 kHz."""
        info = case.generate(duration=duration, do_sample=False).info

        assert (info.frames, info.sample_rate, info.channels, info.bits) == (round(duration * 32_000), 32_000, 1, 16)

    def test_the_wav_is_a_plain_file(self, case: EngineCase) -> None:
        """A header of 44 bytes that agrees with the samples after it, so that any program can read it."""
        clip = case.generate(duration=0.51)

        assert clip.info == inspect(clip.wav)
        assert len(clip.wav) == HEADER_BYTES + 2 * clip.info.frames
        with wave.open(io.BytesIO(clip.wav)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (32_000, 1, 2)
            assert file.readframes(file.getnframes()) == clip.wav[HEADER_BYTES:]

    def test_the_same_seed_gives_the_same_bytes(self, case: EngineCase) -> None:
        """Another clip in between changes nothing; another seed gives another sound."""
        first = case.generate(seed=1)
        other = case.generate(seed=2, duration=1.5)
        again = case.generate(seed=1)

        assert first.wav == again.wav
        assert other.wav[HEADER_BYTES:][: len(first.wav) - HEADER_BYTES] != first.wav[HEADER_BYTES:]

    def test_a_clip_names_the_seed_that_was_honoured(self, case: EngineCase) -> None:
        """The seed of the request, up to the largest one."""
        assert [case.generate(seed=seed, duration=0.5).seed for seed in (0, 7, 2**53 - 1)] == [0, 7, 2**53 - 1]

    def test_a_request_without_a_seed_gets_a_random_one(self, case: EngineCase) -> None:
        """Where the clip names it, it is honoured like a requested one."""
        wild: dict[str, Any] = {
            "temperature": 2.0,
            "top_k": 0,
            "top_p": 1.0,
        }  # else nano's first second is often the same
        first, second = case.generate(seed=None, **wild), case.generate(seed=None, **wild)

        assert first.wav != second.wav
        if case.draws_seeds:
            assert first.seed != second.seed
            assert case.generate(seed=first.seed, **wild).wav == first.wav
        else:
            assert (first.seed, second.seed) == (None, None)

    def test_a_clip_has_everything_that_reproducing_it_needs(self, case: EngineCase) -> None:
        """Its origin, the license of the weights, and what its bytes depend on."""
        clip = case.generate()

        assert clip.origin == case.origin
        assert clip.license
        assert {*REPRODUCIBILITY} <= clip.extra.keys()
        assert clip.elapsed_s > 0
        assert clip.warnings == ()

    def test_the_kind_of_the_origin_and_the_slots_are_known_before_the_first_clip(self, case: EngineCase) -> None:
        """Batches and services ask for them before anything is generated."""
        assert case.engine.origin.kind in {"local", "http"}
        assert case.engine.slots >= 1

    def test_steps_are_reported_in_order(self, case: EngineCase) -> None:
        """`done` never decreases, `total` never changes, and at the end they are equal."""
        listener = RecordingListener()
        case.generate(listener, duration=5.0)

        done = [done for done, _ in listener.steps]
        totals = {total for _, total in listener.steps}
        assert done == sorted(done)
        assert len(totals) == 1
        assert all(1 <= step <= total for step, total in listener.steps)
        if case.reports_every_step:
            assert done == sorted(set(done))
            assert {done[-1]} == totals

    def test_the_samples_that_a_listener_receives_are_those_of_the_wav(self, case: EngineCase) -> None:
        """All chunks together, to the byte; an engine that streams no sound sends none."""
        listener = RecordingListener()
        clip = case.generate(listener, duration=1.23)

        assert listener.pcm == (clip.wav[HEADER_BYTES:] if case.streams_sound else b"")
        assert all(pcm and (rate, channels) == (32_000, 1) for pcm, rate, channels in listener.chunks)

    def test_the_listener_is_called_on_the_callers_thread(self, case: EngineCase) -> None:
        """So a listener needs no lock, and its exception is the caller's."""
        listener = RecordingListener()
        case.generate(listener, duration=5.0)

        assert listener.threads == {threading.get_ident()}

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_an_exception_from_the_listener_cancels_the_request(
        self, case: EngineCase, error: type[BaseException]
    ) -> None:
        """It comes out of `generate`, and the engine still gives the same bytes for the next request."""
        before = case.generate().wav
        listener = RaisingListener(error(), at=CANCELLED_AT)

        with pytest.raises(error):
            case.generate(listener, seed=9, duration=30.0)

        done, total = listener.steps[-1]
        assert done < total
        assert case.generate().wav == before

    def test_an_exception_from_sound_cancels_the_request_too(self, case: EngineCase) -> None:
        """A player that was closed ends the take as Ctrl-C does."""
        if not case.streams_sound:
            pytest.skip("streams no sound")

        class ClosedPlayer(RecordingListener):
            def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
                raise BrokenPipeError

        listener = ClosedPlayer()
        with pytest.raises(BrokenPipeError):
            case.generate(listener, duration=30.0)

        done, total = listener.steps[-1]
        assert done < total

    def test_an_empty_prompt_is_unconditional(self, case: EngineCase) -> None:
        """It gives a clip of the same length, and the same bytes for the same seed, whatever the guidance scale."""
        first, second = (case.generate(prompt="", guidance_scale=scale) for scale in (1.0, 5.0))

        assert first.info.frames == 32_000
        assert first.wav == second.wav

    def test_requests_from_several_threads_give_the_bytes_that_they_give_alone(self, case: EngineCase) -> None:
        """With different lengths, prompts and guidance scales; some are cancelled on the way, some must wait."""
        prompts = ["calm ambient piano", "energetic techno with drums", "", "piano " * 70]

        def generate(number: int) -> bytes | None:
            cancelled = number % 5 == 4
            fields: dict[str, Any] = {
                "prompt": prompts[number % 4],
                "duration": 30.0 if cancelled else 0.5 + (number * 7 % 13) / 5,
                "guidance_scale": 1.0 + number % 3,
                "seed": number,
            }
            listener = RaisingListener(ZeroDivisionError(), at=CANCELLED_AT) if cancelled else None
            try:
                return case.generate(listener, **fields).wav
            except ZeroDivisionError:
                return None

        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(generate, range(16)))

        assert together == [generate(number) for number in range(16)]
        assert [number for number, wav in enumerate(together) if wav is None] == [4, 9, 14]

    def test_a_closed_engine_leaves_others_of_the_same_model_usable(self, case: EngineCase) -> None:
        """Two engines of one model give the same bytes, and closing one does not affect the other."""
        wav = case.generate().wav
        other = case.open_another()
        try:
            assert other.generate(request(), NullListener()).wav == wav
        finally:
            other.close()

        assert case.generate().wav == wav
