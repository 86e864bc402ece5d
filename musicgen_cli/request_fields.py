"""
The fields of a request: one row each.

The HTTP contract's model and ranges, the options of `generate` and `batch`, the columns of a batch file, the fields of
`--sweep` and `--from`, the schema of the MCP tool and the table in docs/generate.md are made from these rows. This file
imports nothing heavy, because the command line imports it at every start.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicgen_cli import limits
from musicgen_cli.text import number

Scalar = str | float | int | bool


@dataclass(frozen=True, slots=True)
class RequestField:
    """One field of a request."""

    name: str
    type: type[Scalar]
    default: Scalar | None  # None: drawn or left out
    meaning: str  # a phrase for help texts, schemas and docs
    range: limits.Range | None = None
    flags: tuple[str, ...] = ()  # names of the command line's option; without any the field isn't an option
    is_parameter: bool = True  # part of what a take's record calls `params`, and can be swept

    @property
    def allowed(self) -> str:
        """The default, if there is one, and the range as help texts show them: `[10; 0.5-30 s]`."""
        if self.range is None:
            return ""
        return f"[{self.range}]" if self.default is None else f"[{number(self.range.default)}; {self.range}]"

    def words(self, value: Scalar) -> list[str]:
        """Return the command line's words that set the option to this value."""
        if self.type is bool:
            yes, no = self.flags[-1].split("/")
            return [yes if value else no]
        return [self.flags[-1], number(value) if isinstance(value, float) else str(value)]


def _number(name: str, type_: type[Scalar], allowed: limits.Range, meaning: str, *flags: str) -> RequestField:
    option = f"--{name.replace('_', '-')}"
    return RequestField(name, type_, type_(allowed.default), meaning, allowed, (*flags, option))


FIELDS = (
    RequestField("prompt", str, "", "What it should sound like; empty: unconditional", is_parameter=False),
    _number("duration", float, limits.DURATION, "Length of the new sound in seconds", "-d"),
    _number("temperature", float, limits.TEMPERATURE, "Sampling temperature: higher is more random"),
    _number("top_k", int, limits.TOP_K, "Sample from the k most likely codes; 0: all"),
    _number("top_p", float, limits.TOP_P, "Sample from the most likely codes up to this total probability; 1: all"),
    _number("guidance_scale", float, limits.GUIDANCE_SCALE, "How strongly to follow the prompt; 1: no guidance", "-g"),
    RequestField("do_sample", bool, True, "Sample; otherwise always take the most likely code",
                 flags=("--sample/--greedy",)),
    RequestField("client_job_id", str, None, "The client's own id for the request", is_parameter=False),
    RequestField("seed", int, None, "The same seed gives the same take; without one, a random one is recorded",
                 limits.SEED, ("--seed",)),
)  # fmt: skip

# A length in music instead of seconds. A request has only the duration that it becomes (`actions/bars.py`).
LENGTH_FIELDS = (
    RequestField("bars", int, None, "Length in bars of four beats, at --bpm or the tempo that the prompt names",
                 limits.BARS, ("--bars",), is_parameter=False),
    RequestField("bpm", float, None, "Tempo for --bars", limits.BPM, ("--bpm",), is_parameter=False),
)  # fmt: skip

# Sounds that a take is made from. Of a request they become `Inputs` of the engine (`actions/sources.py`).
SOUND_FIELDS = (
    RequestField("continue", str, None, "Go on from this sound: a take's id, or a file",
                 flags=("--continue",), is_parameter=False),
    RequestField("melody", str, None, "Follow the tune of this sound: a take's id, or a file",
                 flags=("--melody",), is_parameter=False),
    RequestField("overlap", float, limits.OVERLAP.default,
                 "Seconds of what came before that each window of 30 s begins with",
                 limits.OVERLAP, ("--overlap",), is_parameter=False),
)  # fmt: skip

BY_NAME = {field.name: field for field in FIELDS}
PARAMETERS = tuple(field for field in FIELDS if field.is_parameter)
RANGES = {field.name: field.range for field in FIELDS if field.range is not None}
