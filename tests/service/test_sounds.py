"""Requests with sounds over a fake engine: what reaches it, what is held, and what is refused."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.contract import GenerateRequest, read_answer
from musicgen_cli.engine.base import CONTINUE, CONTINUE_OWN, LONG, MELODY, NO_INPUTS, Abilities, Inputs, Recipe
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.wire import members
from musicgen_cli.errors import ServiceBusyError
from musicgen_cli.service import bodies, sound_budget
from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.bodies import Bodies
from musicgen_cli.service.callers import Caller
from musicgen_cli.service.job import Job
from musicgen_cli.service.refusal import RefusedError
from tests.support import fakes
from tests.support.fake_engine import FakeEngine, joined
from tests.support.listeners import RecordingListener
from tests.support.services import FakeService, Logged, StartService, sound_of
from tests.support.waiting import wait_until

SOUND = fakes.tone(1.0)
SHORT = fakes.tone(0.6)  # small enough for a usual body
LARGE = pcm16_wav(SOUND[44:] * 90, sample_rate=32_000, channels=1)
ALL = Abilities(frozenset({CONTINUE, MELODY, LONG}))


def body_of(inputs: Inputs, **fields: Any) -> dict[str, Any]:
    return {"duration": 0.5, "seed": 3, **fields, **members(inputs)}


@pytest.fixture
def service(start: StartService, engine: FakeEngine) -> FakeService:
    engine.abilities = ALL
    return start(engine, max_duration=600.0)


def test_sounds_reach_the_engine(service: FakeService, logged: Logged) -> None:
    """As they were sent, small and large; the metadata say what the model has read, the log what they were."""
    for wav in (SOUND, LARGE):
        inputs = Inputs(continue_wav=wav, continue_offset_s=2, melody_wav=SOUND, overlap=3.0)
        answer = service.post(body_of(inputs))
        assert answer.status_code == 200
        assert service.engine.inputs[-1] == inputs
        made = service.engine.sound(GenerateRequest(duration=0.5, seed=3))
        assert sound_of(answer) == joined(wav, made)
        assert answer.json()["metadata"]["context_s"] == 1.5
        request = GenerateRequest(duration=0.5, seed=3)
        assert read_answer(answer.content, request).info.frames == (len(wav) - 44) // 2 + 16_000
    assert len(wait_until(lambda: found if len(found := logged("source=sound+melody")) == 2 else [])) == 2


def test_the_answer_can_be_the_sound_itself(service: FakeService) -> None:
    """In pieces, whose length the head says."""
    answer = service.post(body_of(Inputs(continue_wav=LARGE)), headers={"Accept": "audio/wav"})

    assert answer.content == joined(LARGE, service.engine.sound(GenerateRequest(duration=0.5, seed=3)))
    assert answer.headers["content-length"] == str(len(answer.content))


def test_what_the_model_cant_use_is_422(start: StartService, engine: FakeEngine) -> None:
    """Before it waits; the answer names the field."""
    recipe = Recipe(GenerateRequest(seed=1), NO_INPUTS, "a")
    for features, inputs, reason in (
        ((), Inputs(continue_wav=SHORT), "continue_base64 can't be used: fake can't go on from a sound"),
        ((), Inputs(continue_sha256="0" * 64, recipe=recipe), "continue_sha256 can't be used"),
        ((CONTINUE,), Inputs(melody_wav=SHORT), "melody_base64 can't be used: fake is no melody model"),
        ((CONTINUE,), Inputs(continue_sha256="0" * 64, recipe=recipe), "continue_base64 is missing"),
        ((CONTINUE_OWN,), Inputs(continue_wav=SHORT[:20_044]), "continue_base64 can't be used: the WAV's header"),
        ((CONTINUE_OWN,), Inputs(continue_wav=SHORT), "continue_request is missing"),
    ):
        engine.abilities = Abilities(frozenset(features))
        service = start(engine)
        answer = service.post(body_of(inputs))
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(reason)
    assert engine.requests == []


def test_an_ended_job_keeps_no_sound(service: FakeService) -> None:
    """Its progress can be asked for, but its sounds are gone."""
    before = held_inputs()
    service.post(body_of(Inputs(continue_wav=LARGE), client_job_id="a"))
    service.engine.inputs.clear()

    job = service.queue.find("a", Caller("127.0.0.1"))
    assert job is not None
    assert job.inputs == NO_INPUTS
    assert service.queue.sounds.bytes == 0
    assert wait_until(lambda: held_inputs() == before)


def held_inputs() -> int:
    """Return how many inputs with large sounds there are in this process."""
    gc.collect()
    return sum(each.sound_bytes > len(SOUND) for each in gc.get_objects() if isinstance(each, Inputs))


def test_sounds_that_wait_are_bounded(
    service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client has at most half; it is told to come again, before its large body is read."""
    monkeypatch.setattr(sound_budget, "SOUND_BYTES", 4 * len(LARGE) - 2)
    engine.hold()
    running = service.later(body_of(Inputs(continue_wav=LARGE)))
    wait_until(lambda: service.queue.sounds.bytes)
    refused = service.post(body_of(Inputs(continue_wav=LARGE)))

    assert refused.status_code == 503
    assert refused.json() == {"detail": "too many requests with sounds wait"}
    assert "retry-after" in refused.headers
    small = service.later(body_of(Inputs(continue_wav=SOUND)))
    wait_until(lambda: service.queue.sounds.bytes == len(LARGE) + len(SOUND))
    (line,) = [line for line in service.get("/metrics").text.splitlines() if line.startswith("musicgen_sound_bytes ")]
    assert float(line.split()[1]) == len(LARGE) + len(SOUND)
    engine.release()
    assert {running.result().status_code, small.result().status_code} == {200}
    assert service.post(body_of(Inputs(continue_wav=LARGE))).status_code == 200


def test_a_client_waits_when_there_are_too_many_sounds(
    service: FakeService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before its body was read, gets the answer all the same, and comes again."""
    monkeypatch.setattr(sound_budget, "SOUND_BYTES", 4 * len(LARGE) - 2)
    engine.hold()
    running = service.later(body_of(Inputs(continue_wav=LARGE)))
    wait_until(lambda: service.queue.sounds.bytes)
    listener = RecordingListener()
    client = RemoteEngine(service.url, timeout_s=60, max_wait_s=60)
    with ThreadPoolExecutor(1) as pool:
        request = GenerateRequest(duration=0.5, seed=4)
        clip = pool.submit(client.generate, request, listener, Inputs(continue_wav=LARGE))
        wait_until(lambda: listener.notes)
        engine.release()
        assert clip.result(60).wav == joined(LARGE, engine.sound(request))
    assert running.result().status_code == 200
    assert "too many requests with sounds wait), trying again" in listener.notes[0]


def test_a_clip_that_takes_longer_than_its_deadline_has_a_hint(service: FakeService, engine: FakeEngine) -> None:
    """Waiting for others helps little, and more time does."""
    engine.step_s = 0.02
    service.post({"duration": 0.5})
    client = RemoteEngine(service.url, timeout_s=2, max_wait_s=0)
    with pytest.raises(ServiceBusyError, match=r"the answer would take about .* s, the deadline is 2 s") as caught:
        client.generate(GenerateRequest(duration=300.0), RecordingListener())

    assert caught.value.hint == "`--timeout` allows more time"


def test_a_large_body_needs_a_place_in_the_queue(engine: FakeEngine) -> None:
    """And a model that can use it, and one that is loaded."""
    engine.abilities = ALL
    engine.slots = 1

    async def scenario() -> list[int | None]:
        queue = AdmissionQueue(lambda: engine, limit=0)
        statuses: list[int | None] = []

        def check() -> None:
            try:
                queue.check_room(Caller("a"))
                statuses.append(None)
            except RefusedError as err:
                statuses.append(err.status)

        check()
        await queue.load()
        check()
        engine.hold()
        task = asyncio.create_task(queue.run(Job(GenerateRequest(seed=1)), asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        check()
        engine.release()
        await task
        queue.abilities = Abilities(frozenset({CONTINUE_OWN}))
        check()
        queue.shut_down()
        return statuses

    assert asyncio.run(scenario()) == [503, None, 429, 413]


def large_body(pieces: list[bytes], pause_s: float) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        return messages.pop(0)

    return receive


def test_a_large_body_has_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that arrives at the least speed is read; a slower one is 408, and says how long it had."""
    monkeypatch.setattr(bodies, "SOUND_BYTES_PER_S", 1_000_000)
    scope: dict[str, Any] = {"headers": []}
    asked: list[int] = []

    async def read(pause_s: float) -> int:
        receive = large_body([b" " * 100_000] * 10, pause_s)
        return len(await Bodies(0.3).read(scope, receive, "a", lambda: asked.append(1)))

    assert asyncio.run(read(0.04)) == 1_000_000
    assert asked == [1]
    with pytest.raises(HTTPException, match="did not arrive within") as caught:
        asyncio.run(read(0.4))
    assert caught.value.status_code == 408


def test_few_large_bodies_arrive_at_a_time() -> None:
    """Four, and three of one client; further ones are refused, and those that arrive are not disturbed."""

    async def scenario() -> tuple[list[int], int]:
        bodies_ = Bodies(10)
        go_on = asyncio.Event()

        def part(sizes: list[int]) -> Receive:
            async def receive() -> Message:
                size = sizes.pop(0)
                if not sizes:
                    await go_on.wait()
                return {"type": "http.request", "body": b" " * size, "more_body": bool(sizes)}

            return receive

        async def read(client: str) -> int:
            try:
                return len(await bodies_.read({"headers": []}, part([100_000, 200_000]), client, lambda: None))
            except HTTPException as err:
                return err.status_code

        reading = [asyncio.create_task(read(client)) for client in "aaaabbc"]
        await asyncio.sleep(0)
        usual = len(await bodies_.read({"headers": []}, large_body([b" " * 60_000], 0), "a"))
        go_on.set()
        first = [await task for task in reading]
        return [*first, await read("a")], usual

    sizes, usual = asyncio.run(scenario())
    assert sizes == [300_000, 300_000, 300_000, 503, 300_000, 503, 503, 300_000]
    assert usual == 60_000
