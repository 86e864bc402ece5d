"""Lists of values that multiply the rows of a batch: `guidance_scale=3,5,7`, `seed=1..4`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

from musicgen_cli.actions.source_finder import check_overlap
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.request_fields import PARAMETERS, SOUND_FIELDS
from musicgen_cli.text import nearest

_RANGE = r"\s*(-?\d{1,18})\.\.(-?\d{1,18})\s*"
_SOUNDS = {field.name: field for field in SOUND_FIELDS}
_FIELDS = (*(field.name for field in PARAMETERS), *_SOUNDS)


class Sweep:
    """
    All combinations of the values of some fields.

    Args:
        texts: `FIELD=VALUE,VALUE,…` or `FIELD=FIRST..LAST`, each field once.

    Raises:
        UsageError: A text is neither, its field can't be swept, or a value is out of range.
    """

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._axes: dict[str, Sequence[Any]] = {}
        self._sounds: dict[str, Sequence[Any]] = {}
        for text in texts:
            name, sign, values = text.partition("=")
            name = name.strip().replace("-", "_")
            if not sign or not values.strip():
                raise UsageError(f"a sweep must be like guidance_scale=3,5,7 or seed=1..4, got {text[:40]!r}")
            if name not in _FIELDS:
                raise UsageError(f"{name[:40]!r} can't be swept, {nearest(name[:40], _FIELDS)}")
            axes = self._sounds if name in _SOUNDS else self._axes
            if name in axes:
                raise UsageError(f"{name} is swept twice", hint=f"name all values at once: {name}=…,…")
            axes[name] = _values(name, values)
        self.requests = math.prod(map(len, self._axes.values()))
        self.size = self.requests * math.prod(map(len, self._sounds.values()))

    @property
    def sounds(self) -> Iterator[dict[str, Any]]:
        """The combinations of the fields of sounds, each of which makes a row of its own; one without these fields."""
        return (dict(zip(self._sounds, values, strict=True)) for values in itertools.product(*self._sounds.values()))

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return a combination of the parameters, 0 to `requests - 1`; the last field changes first."""
        combination = {}
        for name, values in reversed(self._axes.items()):
            number, index = divmod(number, len(values))
            combination[name] = values[index]
        return combination


def _values(name: str, text: str) -> Sequence[Any]:
    if name in _SOUNDS and _SOUNDS[name].type is str:  # a path may hold dots
        return [_text(name, piece) for piece in text.split(",")]
    if (".." in text or re.fullmatch(r"\s*\d+\s*-\s*\d+\s*", text)) and not re.fullmatch(_RANGE, text):
        raise UsageError(f"a range in a sweep must be of whole numbers like 1..4, got {name}={text[:40]}")
    if not (ends := re.fullmatch(_RANGE, text)):
        return [_checked(name, piece) for piece in text.split(",")]
    low, high = _checked(name, ends[1]), _checked(name, ends[2])
    if low > high:
        raise InvalidValueError(f"a sweep's range goes up, got {name}={text}")
    if isinstance(low, int):
        return range(low, high + 1)
    return [float(value) for value in range(int(low), int(high) + 1)]


def _text(name: str, text: str) -> str:
    if not text.strip():
        raise InvalidValueError(f"{name} must have a value in a sweep, got {text!r}")
    return text.strip()


def _checked(name: str, text: str) -> Any:
    """Return a value as a request holds it, so that 3 and 3.0 are the same."""
    try:
        value = from_json(text.strip().lower(), allow_inf_nan=False)
    except ValueError:
        value = text.strip()
    if value is None:
        raise InvalidValueError(f"{name} must have a value in a sweep, got {text!r}")
    if name in _SOUNDS:
        check_overlap(value)
        return float(value)
    return getattr(GenerateRequest.checked({name: value}), name)
