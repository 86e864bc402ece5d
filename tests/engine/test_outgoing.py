"""What is sent of the sounds of a request, and how the answer is completed."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli import limits
from musicgen_cli.audio import wav
from musicgen_cli.audio.wav import inspect
from musicgen_cli.engine import outgoing
from musicgen_cli.engine.base import CONTINUE, CONTINUE_OWN, LONG, MELODY, NO_INPUTS, Abilities, Inputs, Recipe
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.fleet import Fleet
from musicgen_cli.engine.outgoing import pack
from musicgen_cli.errors import BadAnswerError, InvalidValueError, MusicgenError, NotOfferedError, OutOfTimeError
from tests.support import clips, fakes
from tests.support.clients import answer_with
from tests.support.fake_engine import joined
from tests.support.listeners import NotesOnlyListener

ANY = Abilities(frozenset({CONTINUE, LONG}))
MELODIES = Abilities(frozenset({MELODY, LONG}))
OWN = Abilities(frozenset({CONTINUE_OWN, LONG}))
RECIPE = Recipe(clips.request(duration=2.0, seed=1), NO_INPUTS, "digest")


def sent_wav(members: Any) -> bytes:
    return base64.b64decode(members["continue_base64"], validate=True)


def test_a_sound_that_fits_is_sent_whole() -> None:
    """97 s of 32 kHz mono; one sample more is too large."""
    most = (outgoing.SOUND_BYTES - 44) // 2
    fits, larger = (wav.pcm16_wav(b"\1\2" * samples, sample_rate=32_000, channels=1) for samples in (most, most + 1))
    request = clips.request(duration=20.0)

    whole = pack(request, Inputs(continue_wav=fits), ANY)
    assert sent_wav(whole.members) == fits
    assert "continue_offset_s" not in whole.members
    assert whole.head == b""
    assert len(json.dumps({**request.model_dump(), **whole.members})) < limits.SOUND_REQUEST_BYTES
    cut = pack(request, Inputs(continue_wav=larger), ANY)
    assert cut.members["continue_offset_s"] == 84  # 97.5 s but for 12 s of context, one to spare, and a part of one
    assert cut.head + sent_wav(cut.members)[44:] == larger[44:]


def test_a_sound_that_fits_as_bytes_can_be_too_long() -> None:
    """The service would hold it at the model's rate."""
    pytest.importorskip("soxr", reason="needs the extra local")
    slow = wav.pcm16_wav(b"\1\2" * 404_000, sample_rate=4_000, channels=1)
    cut = pack(clips.request(duration=1.0), Inputs(continue_wav=slow), ANY)

    assert cut.members["continue_offset_s"] == 71
    info = inspect(sent_wav(cut.members))
    assert (info.sample_rate, info.is_float, info.frames) == (32_000, True, 30 * 32_000)
    assert len(cut.head) == 71 * 32_000 * 2


def test_sounds_that_cant_be_sent_are_refused() -> None:
    """More than a body holds, a sound over 600 s, and what is no sound; nothing is sent."""
    request = clips.request(duration=1.0)
    melody = wav.pcm16_wav(b"\1\2" * 3_300_000, sample_rate=32_000, channels=1)
    with pytest.raises(InvalidValueError, match=r"takes at most 6\.2 MB of sound, these would be 6\.6 MB"):
        pack(clips.request(duration=90.0), Inputs(melody_wav=melody), MELODIES)
    with pytest.raises(InvalidValueError, match="the sound has 601 s, at most 600 s"):
        pack(request, Inputs(continue_wav=wav.pcm16_wav(b"\1\2" * 4_808_000, sample_rate=8_000, channels=1)), ANY)
    with pytest.raises(InvalidValueError, match="not a WAV"):
        pack(request, Inputs(continue_wav=b"ID3"), ANY)


@pytest.mark.parametrize(("duration", "seconds"), [(30.0, 31.0), (31.0, 92.0)])
def test_no_more_of_a_melody_is_sent_than_a_clip_reaches(duration: float, seconds: float) -> None:
    """If it is too large; the model reads the very samples that it would read of the whole."""
    pytest.importorskip("soxr", reason="needs the extra local")
    import numpy as np

    from musicgen_cli.audio.source import read_source

    noise = np.random.default_rng(1).integers(-9000, 9000, 11_025 * 180, np.int16).tobytes()
    melody = wav.pcm16_wav(noise, sample_rate=11_025, channels=1)
    small = wav.pcm16_wav(noise[: 2 * 11_025 * 90], sample_rate=11_025, channels=1)
    request = clips.request(duration=duration)
    sent, whole = (
        base64.b64decode(pack(request, Inputs(melody_wav=each), MELODIES).members["melody_base64"])
        for each in (melody, small)
    )

    assert whole == small
    assert inspect(sent).duration == seconds
    read, expected = (read_source(each, rate=32_000, channels=1).samples for each in (sent, melody))
    reached = round((seconds - 1) * 32_000)
    assert np.array_equal(read[:, :reached], expected[:, :reached])


def test_a_sound_with_a_recipe_is_not_sent_to_a_model_that_makes_it_again() -> None:
    """Its digest is; a model that can listen gets the sound and no recipe."""
    inputs = Inputs(continue_wav=fakes.tone(2.0), recipe=RECIPE)
    own, other = (pack(clips.request(), inputs, service).members for service in (OWN, ANY))

    assert set(own) == {"continue_request", "continue_sha256"}
    assert set(other) == {"continue_base64"}


class FakeSounds:
    """A service that answers with the sound that it gets and a tone, and its health."""

    def __init__(self, server: HTTPServer, **health: Any) -> None:
        self.bodies: list[Any] = []
        self.answer: dict[str, Any] = {}  # changed members
        self.sound: bytes | None = None
        server.expect_request("/health").respond_with_json({"status": "ok", **health})
        answer_with(server, self.predict)
        self.url = server.url_for("").rstrip("/")
        self.engine = RemoteEngine(self.url, timeout_s=20, max_wait_s=0)

    def predict(self, request: Request) -> Response:
        body = json.loads(request.data)
        self.bodies.append(body)
        tone = fakes.tone(body["duration"], seed=body["seed"])
        sound = joined(sent_wav(body), tone) if "continue_base64" in body else tone
        answer = fakes.good_answer(body, self.sound or sound)
        answer["metadata"] |= {"context_s": 1.0, "windows": 2, "overlap": 3.5, "unknown": 1}
        return Response(json.dumps(answer | self.answer), content_type="application/json")

    def generate(self, inputs: Inputs = NO_INPUTS, **fields: Any) -> Any:
        return self.engine.generate(clips.request(**fields), NotesOnlyListener(), inputs)


SOUND = fakes.tone(3.0, seed=9)


def test_a_clip_says_what_the_service_has_read(httpserver: HTTPServer) -> None:
    """Context, windows and overlap; the overlap is sent if it isn't the default."""
    service = FakeSounds(httpserver, features=["continue"])
    clip = service.generate(Inputs(continue_wav=SOUND, overlap=3.5), duration=1.0)

    assert clip.wav == joined(SOUND, fakes.tone(1.0, seed=1))
    assert (clip.extra["context_s"], clip.extra["windows"], clip.extra["overlap"]) == (1.0, 2, 3.5)
    assert "unknown" not in clip.extra
    assert service.bodies[0]["overlap"] == 3.5


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (fakes.tone(1.0), "has 1 s, not the sound of 3 s and 1 s more"),
        (fakes.tone(4.2), "has 4.2 s, not the sound"),
        (fakes.tone(4.0, seed=3), "doesn't begin with the sound"),
    ],
)
def test_an_answer_that_is_no_continuation_is_bad(httpserver: HTTPServer, sound: bytes, message: str) -> None:
    """Too short, too long, or with another beginning."""
    service = FakeSounds(httpserver, features=["continue"])
    service.sound = sound
    with pytest.raises(BadAnswerError, match=message):
        service.generate(Inputs(continue_wav=SOUND), duration=1.0)


@pytest.mark.parametrize(
    ("health", "inputs", "duration", "message"),
    [
        ({}, NO_INPUTS, 31.0, "this service makes at most 30 s"),
        ({"max_duration": 45}, NO_INPUTS, 46.0, "this service makes at most 45 s"),
        ({"max_duration": "600"}, NO_INPUTS, 46.0, "this service makes at most 30 s"),
        ({"features": ["seed"]}, Inputs(continue_wav=SOUND), 1.0, "this service can't go on from a sound"),
        ({"features": "continue"}, Inputs(continue_wav=SOUND), 1.0, "this service can't go on from a sound"),
        ({"features": [1, None]}, Inputs(melody_wav=SOUND), 1.0, "this service can't follow a melody"),
        ({"model": "sm\x1ball"}, Inputs(melody_wav=SOUND), 1.0, r"melody \(its model is sm\\x1ball\)"),
        ({"features": ["continue-own"]}, Inputs(continue_wav=SOUND), 1.0, "only go on from takes that its model made"),
    ],
)
def test_what_a_service_doesnt_offer_is_not_sent(
    httpserver: HTTPServer, health: dict[str, Any], inputs: Inputs, duration: float, message: str
) -> None:
    """It is asked first; the exit code is that of a wrong option."""
    service = FakeSounds(httpserver, **health)
    with pytest.raises(NotOfferedError, match=message) as caught:
        service.generate(inputs, duration=duration)

    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert service.bodies == []


def test_a_service_without_a_health_check_is_asked_for_no_more_than_all_can(httpserver: HTTPServer) -> None:
    """A usual request is sent without asking."""
    answer_with(httpserver, fakes.ours)
    httpserver.expect_request("/health").respond_with_data(status=404)
    engine = RemoteEngine(httpserver.url_for("").rstrip("/"), timeout_s=20, max_wait_s=0)
    engine.generate(clips.request(duration=30.0), NotesOnlyListener())
    with pytest.raises(NotOfferedError, match="at most 30 s"):
        engine.generate(clips.request(duration=30.5), NotesOnlyListener())

    assert [request.path for request, _ in httpserver.log] == ["/predict", "/health"]


def test_a_long_answer_may_be_larger(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In proportion to what was asked for; a short one may not."""
    monkeypatch.setattr(limits, "ANSWER_BYTES", 3_000_000)
    service = FakeSounds(httpserver, max_duration=600)

    assert service.generate(duration=40.0).info.duration == 40.0
    service.sound = fakes.tone(40.0)
    with pytest.raises(BadAnswerError, match="larger than"):
        service.generate(duration=30.0)


def test_a_fleet_uses_the_services_that_can(httpserver: HTTPServer) -> None:
    """Whichever is less busy; if none can, it says what the first said."""
    able = FakeSounds(httpserver, max_duration=600).engine
    with HTTPServer() as other:
        unable = FakeSounds(other).engine
        fleet = Fleet([unable, able], model=None, max_outage_s=1, warn=pytest.fail)
        clip = fleet.generate(clips.request(duration=40.0), NotesOnlyListener())
        assert clip.origin.url == able.url
        none = Fleet([unable], model=None, max_outage_s=1, warn=pytest.fail)
        with pytest.raises(NotOfferedError, match="at most 30 s"):
            none.generate(clips.request(duration=40.0), NotesOnlyListener())


def test_a_fleet_waits_for_a_service_that_can_only_so_long(httpserver: HTTPServer) -> None:
    """One that is up and can't doesn't make it wait for ever for one that is down."""
    unable = FakeSounds(httpserver).engine
    down = RemoteEngine("http://127.0.0.1:9", timeout_s=1, max_wait_s=0)
    fleet = Fleet([unable, down], model=None, max_outage_s=0.5, warn=lambda _: None)
    with pytest.raises(MusicgenError, match="at most 30 s"):
        fleet.generate(clips.request(duration=40.0), NotesOnlyListener())


@pytest.mark.parametrize(("duration", "is_long"), [(30.0, False), (40.0, True)])
def test_a_long_clip_whose_connection_broke_can_go_on(httpserver: HTTPServer, duration: float, is_long: bool) -> None:
    """The hint names the seed, with which the service goes on; the client can't know whether it still works on it."""
    httpserver.expect_request("/health").respond_with_json({"max_duration": 600})
    engine = RemoteEngine(httpserver.url_for("").rstrip("/"), timeout_s=0.3, max_wait_s=0)
    answer_with(httpserver, slow)
    with pytest.raises(OutOfTimeError) as caught:
        engine.generate(clips.request(duration=duration, seed=77), NotesOnlyListener())

    assert ("`--seed 77` goes on from the last window" in str(caught.value.hint)) == is_long


def slow(request: Request) -> Response:
    """Answer too late."""
    time.sleep(0.6)
    return fakes.shorter(request)
