"""What a service can make, as its `/health` says; a request that it can't serve is refused before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import CONTINUE, CONTINUE_OWN, MELODY, Abilities, Inputs
from musicgen_cli.errors import NotOfferedError
from musicgen_cli.text import number, one_line

_MODEL_CHARS = 60  # of a model's name in a message


def needs_offer(request: GenerateRequest, inputs: Inputs) -> bool:
    """Return whether not every service can serve a request."""
    return request.duration > limits.CONTEXT_S or inputs.is_continuation or inputs.melody_wav is not None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a service can make; without a health check no more than every service can."""

    abilities: Abilities = field(default_factory=Abilities)
    max_duration: float = limits.CONTEXT_S  # s
    model: str | None = None

    @classmethod
    def of(cls, health: Mapping[str, object]) -> Offer:
        """Read a health report; what is missing in it, or isn't as it should be, counts as not offered."""
        features, longest, model = health.get("features"), health.get("max_duration"), health.get("model")
        rate, channels = health.get("sample_rate"), health.get("channels")
        usual = Abilities()
        return cls(
            Abilities(
                frozenset(name for name in features if isinstance(name, str))
                if isinstance(features, list)
                else usual.features,
                rate if type(rate) is int and 1_000 <= rate <= limits.SOURCE_MOST_RATE else usual.sample_rate,
                channels if type(channels) is int and channels in (1, 2) else usual.channels,
            ),
            float(longest) if isinstance(longest, int | float) and longest > 0 else limits.CONTEXT_S,
            one_line(model)[:_MODEL_CHARS] if isinstance(model, str) and model else None,
        )

    def check(self, request: GenerateRequest, inputs: Inputs) -> None:
        """
        Check that the service can serve a request.

        Raises:
            NotOfferedError: It can't; the message says what it can't do.
        """
        features = self.abilities.features
        if request.duration > self.max_duration:
            raise NotOfferedError(
                f"this service makes at most {number(self.max_duration)} s",
                hint=f"`--local` makes up to {number(limits.DURATION.high)} s, and so does a service that was started "
                f"with `--max-duration {number(limits.DURATION.high)}`",
            )
        if inputs.melody_wav is not None and MELODY not in features:
            model = f" (its model is {self.model})" if self.model else ""
            raise NotOfferedError(
                f"this service can't follow a melody{model}",
                hint="`--local --model melody` can, and so can a service that was started with `--model melody`",
            )
        if not inputs.is_continuation or CONTINUE in features:
            return
        if CONTINUE_OWN not in features:
            raise NotOfferedError("this service can't go on from a sound", hint="`--local` can")
        if inputs.recipe is None:
            raise NotOfferedError(
                "this service can only go on from takes that its model made, and this one is not known to be one of "
                "them",
                hint="a model with an audio encoder can go on from any sound: `musicgen serve --model small`, for one",
            )
