"""
The sounds of a request on their way to a service and back.

A body has a limit, and a model reads only the end of a sound that it goes on from. So of a sound that is too large, the
part that the model doesn't read stays here and is put before the sound of the answer: the clip is the same to the
byte as one that is made in this process.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from musicgen_cli import limits
from musicgen_cli.audio import wav
from musicgen_cli.audio.source_file import check_longest, context_s
from musicgen_cli.audio.wav import WavInfo
from musicgen_cli.contract import Answer, GenerateRequest
from musicgen_cli.engine import wire
from musicgen_cli.engine.base import CONTINUE, Abilities, Inputs
from musicgen_cli.errors import BadAnswerError, InvalidValueError, InvalidWavError
from musicgen_cli.extras import needs
from musicgen_cli.text import number, size

# Bytes of sounds that a body holds: base64 makes them a third larger, and the rest of a body has a limit of its own.
SOUND_BYTES = (limits.SOUND_REQUEST_BYTES - limits.REQUEST_BYTES) // 4 * 3
_SPARE_S = 1.0  # of sound before what the model reads
_SLACK_S = 0.1  # by which an answer's duration may differ; other servers deliver three frames less
_FADE_S = 0.05  # at the end of a sound, which an answer may change


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is sent, and what is needed to complete its answer."""

    request: GenerateRequest
    members: Mapping[str, Any] = field(default_factory=dict)  # of the request's JSON
    source: bytes | None = None  # the WAV that the answer begins with
    head: bytes = b""  # samples that come before it, as the answer has them
    sound_s: float = 0.0  # the length of `source`
    resumes: bool = False  # whether the service goes on if it is sent again

    @property
    def body(self) -> bytes:
        """The body of `POST /predict`."""
        return json.dumps({**self.request.model_dump(), **self.members}, ensure_ascii=False).encode()

    @property
    def answer_bytes(self) -> int:
        """How large an answer may be."""
        seconds = self.sound_s + self.request.duration - limits.CONTEXT_S
        return limits.ANSWER_BYTES + math.ceil(max(0.0, seconds) * limits.ANSWER_BYTES_PER_S)

    def complete(self, answer: Answer) -> Answer:
        """
        Check that an answer begins with the sound that it goes on from, and put before it what stayed here.

        Raises:
            BadAnswerError: It is too short or too long, or begins with another sound.
        """
        info = answer.info
        if self.source is None:
            return answer
        seconds, expected_s = info.frames / info.sample_rate, self.sound_s + self.request.duration
        if abs(seconds - expected_s) > _SLACK_S:
            raise BadAnswerError(
                f"the service's answer has {number(round(seconds, 3))} s, not the sound of "
                f"{number(round(self.sound_s, 3))} s and {number(self.request.duration)} s more"
            )
        self._check_beginning(self.source, answer)
        if not self.head:
            return answer
        data = answer.wav[info.data_start : info.data_start + info.data_bytes]
        whole = wav.pcm16_wav(self.head + data, sample_rate=info.sample_rate, channels=info.channels)
        return replace(answer, wav=whole, info=wav.inspect(whole))

    def _check_beginning(self, source: bytes, answer: Answer) -> None:
        sent, info = wav.inspect(source), answer.info
        if _form(sent) != _form(info):
            if self.head and (info.bits, info.is_float) != (16, False):
                raise BadAnswerError("the service's answer is not a WAV of 16 bits")
            return
        kept = max(0, sent.frames - round(_FADE_S * sent.sample_rate)) * sent.channels * sent.bits // 8
        theirs = memoryview(answer.wav)[info.data_start :][:kept]
        if theirs != memoryview(source)[sent.data_start :][:kept]:
            raise BadAnswerError("the service's answer doesn't begin with the sound that it was to go on from")


def pack(request: GenerateRequest, inputs: Inputs, service: Abilities) -> Outgoing:
    """
    Decide what is sent of a request's sounds.

    Args:
        service: What the service can do; it has been checked that this is enough.

    Raises:
        InvalidValueError: They are too large to be sent, or one isn't a sound.
        MissingExtraError: A large sound has another form than the model's, and nothing here can convert it.
    """
    inputs = replace(inputs, melody_wav=_melody(request, inputs))
    source = inputs.continue_wav
    if source is None:
        _check_size(inputs.sound_bytes)
        return Outgoing(request, wire.members(inputs))
    info = _inspect(source)
    seconds = info.frames / info.sample_rate
    if CONTINUE not in service.features:
        by_recipe = replace(inputs, continue_wav=None, continue_sha256=hashlib.sha256(source).hexdigest())
        _check_size(by_recipe.sound_bytes)
        return Outgoing(request, wire.members(by_recipe), source, sound_s=seconds)
    inputs = replace(inputs, recipe=None)
    if inputs.sound_bytes <= SOUND_BYTES and seconds <= limits.SOURCE_SENT_S:
        return Outgoing(request, wire.members(inputs), source, sound_s=seconds)
    check_longest(seconds)
    read_s = context_s(request.duration, inputs.overlap) + _SPARE_S
    # Whole seconds are whole frames of the codec, which a model counts from the beginning of the sound.
    offset_s = max(0, math.floor(seconds - read_s))
    head, tail = _split(source, info, offset_s, service)
    inputs = replace(inputs, continue_wav=tail, continue_offset_s=offset_s)
    _check_size(inputs.sound_bytes)
    sent = wav.inspect(tail)
    return Outgoing(request, wire.members(inputs), tail, head, sent.frames / sent.sample_rate)


def _split(source: bytes, info: WavInfo, offset_s: int, service: Abilities) -> tuple[bytes, bytes]:
    """
    Split a sound.

    Returns:
        The first seconds as samples of 16 bits at the model's rate and with its channels; the rest as a WAV from which
        the service reads the very samples that it would read from the whole.
    """
    first = offset_s * service.sample_rate  # sample after the head
    if _form(info) == (service.sample_rate, service.channels, 16, False):
        data = source[info.data_start : info.data_start + info.data_bytes]
        cut = first * service.channels * 2
        return data[:cut], wav.pcm16_wav(data[cut:], sample_rate=info.sample_rate, channels=info.channels)
    with needs("local"):
        from musicgen_cli.audio.source import read_source
    whole = read_source(source, rate=service.sample_rate, channels=service.channels)
    rest = whole.samples[:, first:].T
    form = WavInfo(service.sample_rate, service.channels, len(rest), 32, is_float=True, data_start=0)
    return whole.pcm[:, :first].T.astype("<i2").tobytes(), wav.to_wav(array("f", rest.tobytes()), form)


def _melody(request: GenerateRequest, inputs: Inputs) -> bytes | None:
    """
    Return what is sent of a melody: of one that is too large, no more than the windows of the clip reach.

    A window reads the tune from where it begins in the clip, over the model's whole context.
    """
    melody = inputs.melody_wav
    if melody is None:
        return None
    info = _inspect(melody)
    if len(melody) <= SOUND_BYTES and info.frames / info.sample_rate <= limits.SOURCE_SENT_S:
        return melody
    reached_s = limits.CONTEXT_S + _SPARE_S
    if request.duration > limits.CONTEXT_S or inputs.is_continuation:
        reached_s += request.duration + limits.CONTEXT_S
    return wav.shortened(melody, info, math.ceil(reached_s * info.sample_rate))


def _inspect(source: bytes) -> WavInfo:
    try:
        return wav.inspect(source)
    except InvalidWavError as err:
        raise InvalidValueError(f"the sound can't be used: {err}") from err


def _check_size(sound_bytes: int) -> None:
    if sound_bytes > SOUND_BYTES:
        raise InvalidValueError(
            f"a service takes at most {size(SOUND_BYTES)} of sound, these would be {size(sound_bytes)}",
            hint="`--local` takes more; a sound of 16 bits in mono is smaller, and so is a shorter one",
        )


def _form(info: WavInfo) -> tuple[int, int, int, bool]:
    return info.sample_rate, info.channels, info.bits, info.is_float
