"""
The HTTP contract: the body of a request, the body of an answer, and how each is checked.

The client is strict about what it sends and liberal in what it accepts. The service clamps numbers that are out of
range and says so in its answer.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, from_json

from musicgen_cli import limits
from musicgen_cli.audio import wav
from musicgen_cli.audio.wav import WavInfo
from musicgen_cli.errors import BadAnswerError, InvalidValueError, InvalidWavError
from musicgen_cli.request_fields import BY_NAME, FIELDS, PARAMETERS, RANGES
from musicgen_cli.text import as_whole, number, undecoded

_WHOLE = frozenset(field.name for field in FIELDS if field.type is int)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]")


def _prompt(text: str) -> str:
    if len(text) > limits.PROMPT_CHARS:
        raise PydanticCustomError("prompt", f"must be at most {limits.PROMPT_CHARS} characters, got {len(text)}")
    if problem := undecoded(text):
        raise PydanticCustomError("prompt", "{problem}", {"problem": problem})
    if match := _FORBIDDEN.search(text):
        raise PydanticCustomError(
            "prompt", f"must not contain control characters except tab and line feed, got U+{ord(match[0]):04X}"
        )
    return text


def _job_id(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(limits.CLIENT_JOB_ID, text):
        raise PydanticCustomError("job_id", "must be 1-256 letters, digits or any of . _ : -")
    return text


def _field(name: str) -> Any:
    """Return pydantic's description of a request field: its default and its bounds."""
    row = BY_NAME[name]
    if row.range is None:
        return Field(row.default)
    return Field(row.default, ge=row.type(row.range.low), le=row.type(row.range.high))


class GenerateRequest(BaseModel):
    """The body of `POST /predict`. `prompt` "" means unconditional; `duration` in seconds."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    prompt: Annotated[str, AfterValidator(_prompt)] = _field("prompt")
    duration: float = _field("duration")
    temperature: float = _field("temperature")
    top_k: int = _field("top_k")
    top_p: float = _field("top_p")
    guidance_scale: float = _field("guidance_scale")
    do_sample: bool = _field("do_sample")
    client_job_id: Annotated[str | None, AfterValidator(_job_id)] = _field("client_job_id")
    seed: int | None = _field("seed")

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> GenerateRequest:
        """
        Build a request without changing any value; a whole number may be written as 1.0.

        Raises:
            InvalidValueError: A value is out of range, not finite or of the wrong type; the message names the field
                and its range.
        """
        try:
            return cls.model_validate(
                {name: as_whole(value) if name in _WHOLE else value for name, value in values.items()}
            )
        except ValidationError as err:
            raise InvalidValueError(_sentence(err)) from err

    @classmethod
    def clamped(cls, body: object) -> tuple[GenerateRequest, dict[str, float]]:
        """
        Build a request from a client's JSON as the service does: numbers out of range become the nearest bound.

        Returns:
            The request, and by name the original values of the fields that were clamped.

        Raises:
            InvalidValueError: Not an object, a wrong type, NaN or infinity, a forbidden prompt or job id.
        """
        if not isinstance(body, dict):
            raise InvalidValueError("the request must be a JSON object")
        values = {name: value for name, value in body.items() if name in cls.model_fields}
        if values.get("prompt", "") is None:
            values["prompt"] = ""
        originals: dict[str, float] = {}
        for name, allowed in RANGES.items():
            value = values.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
                continue  # absent, or invalid, which `checked` reports
            if value not in allowed:
                originals[name] = value
                values[name] = allowed.clamp(value)
        return cls.checked(values), originals

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as they are sent, without the prompt and the job id."""
        return self.model_dump(include={field.name for field in PARAMETERS}, exclude_none=True)


class GenerateResponse(BaseModel):
    """The body of a 200. `sample_rate` in Hz, `duration` in seconds as delivered."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    audio_base64: str
    sample_rate: int
    duration: float
    num_samples: int
    channels: int
    prompt: str | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was checked: its audio and its metadata."""

    wav: bytes
    info: WavInfo
    metadata: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """Return a metadata member if it is a short string, else None."""
        value = self.metadata.get(name)
        return value[:256] if isinstance(value, str) and value else None

    @property
    def seed(self) -> int | None:
        """The seed that the service says it used."""
        value = self.metadata.get("seed")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_answer(body: bytes, request: GenerateRequest) -> Answer:
    """
    Check the body of a 200 against the contract, against the WAV in it, and against its request.

    Raises:
        BadAnswerError: Something doesn't match; the message names the first bad field and never shows the body.
    """
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError as err:
        raise BadAnswerError("the service's answer is not JSON", hint=_WRONG_SERVICE) from err
    if not isinstance(parsed, dict):
        raise BadAnswerError("the service's answer is not a JSON object", hint=_WRONG_SERVICE)
    try:
        answer = GenerateResponse.model_validate(parsed)
    except ValidationError as err:
        raise BadAnswerError(
            f"the service's answer does not follow the HTTP contract: {_sentence(err)}", hint=_WRONG_SERVICE
        ) from err
    metadata = answer.metadata or {}
    _check_echo("prompt", answer.prompt, request.prompt)
    _check_echo("client_job_id", metadata.get("client_job_id"), request.client_job_id)
    _check_echo("client_job_id", parsed.get("client_job_id"), request.client_job_id)
    try:
        content = binascii.a2b_base64(answer.audio_base64, strict_mode=True)
    except ValueError as err:
        raise BadAnswerError("the service's answer has a bad 'audio_base64': not base64") from err
    try:
        info = wav.inspect(content)
    except InvalidWavError as err:
        raise BadAnswerError(f"the service's answer has a bad 'audio_base64': {err}") from err
    slack = info.sample_rate / limits.FRAMES_PER_SECOND  # the contract's tolerance: one frame of the codec
    for name, stated, actual, tolerance in (
        ("sample_rate", answer.sample_rate, info.sample_rate, 0),
        ("channels", answer.channels, info.channels, 0),
        ("num_samples", answer.num_samples, info.frames, slack),
        ("duration", answer.duration, info.frames / info.sample_rate, 0.05),
    ):
        if abs(stated - actual) > tolerance:
            raise BadAnswerError(
                f"the service's answer contradicts its audio: {name!r} is {number(stated)}, the WAV says "
                f"{number(round(actual, 3))}"
            )
    return Answer(content, info, metadata)


_WRONG_SERVICE = "is that a MusicGen service? `--url` and MUSICGEN_URL name it"


def _check_echo(name: str, echo: object, sent: str | None) -> None:
    if echo is not None and sent is not None and echo != sent:
        raise BadAnswerError(f"the service answered another request: its {name!r} is not what was sent")


def _sentence(err: ValidationError) -> str:
    """Describe the first error: the field, what it must be, and its value."""
    first = err.errors(include_url=False, include_context=True)[0]
    name = str(first["loc"][0]) if first["loc"] else "body"
    kind, value = first["type"], first["input"]
    if kind == "missing":
        return f"{name} is missing"
    if kind in {"prompt", "job_id"}:
        return f"{name} {first['msg']}"
    if isinstance(value, str):
        shown = f"{value!r}"[:40]
    else:
        shown = number(value) if isinstance(value, float) else f"{value}"[:40]
    if name in RANGES:
        whole = "a whole number, " if name in _WHOLE else ""
        return f"{name} must be {whole}{RANGES[name]}, got {shown}"
    expected = {"bool_type": "true or false", "string_type": "text"}.get(kind, str(first["msg"]).lower())
    return f"{name} must be {expected}, got {shown}"
