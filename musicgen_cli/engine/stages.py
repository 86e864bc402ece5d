"""
What a local engine makes for one clip, one after the other.

Mostly it is the clip alone. A model without an audio encoder knows the codes of a sound only if it makes the sound
itself. It then makes again, from their recipes, the sound that the clip goes on from, and whatever that went on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from musicgen_cli import limits
from musicgen_cli.audio import chroma
from musicgen_cli.audio.source import Source, read_source
from musicgen_cli.audio.source_file import check_longest
from musicgen_cli.checkpoint.audio_encoder import refusal
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Inputs, NullListener, ProgressListener, Recipe
from musicgen_cli.engine.take import Beginning, TakePlan, plan_take
from musicgen_cli.errors import InvalidValueError


@dataclass(frozen=True, slots=True)
class Stage:
    """One clip to make."""

    request: GenerateRequest
    inputs: Inputs
    plan: TakePlan
    source: Source | None = None  # what it goes on from, if that is encoded
    tune: FloatArray | None = None  # what it follows, mono at the rate of `chroma`


def plan_stages(
    checkpoint: Checkpoint, shape: Shape, request: GenerateRequest, inputs: Inputs, *, can_encode: bool
) -> list[Stage]:
    """
    Plan a clip, and before it what has to be made again.

    Args:
        checkpoint: The model.
        can_encode: Whether the model has an audio encoder.

    Raises:
        InvalidValueError: A duration or an input is out of range or can't be used.
        NoAudioEncoderError: The model can neither encode the sound nor make it again.
    """
    tune = _read_tune(inputs)
    if not inputs.is_continuation:
        return [Stage(request, inputs, plan_take(shape, request.duration, inputs.overlap, None), tune=tune)]
    source = None
    if inputs.continue_wav is not None:
        source = read_source(inputs.continue_wav, rate=shape.codec.rate, channels=shape.decoder.channels)
    if can_encode:
        if source is None:
            raise InvalidValueError(f"{checkpoint.name} goes on from the sound itself, which is missing")
        beginning = _beginning(source, inputs.continue_offset_s, shape)
        plan = plan_take(shape, request.duration, inputs.overlap, beginning)
        return [Stage(request, inputs, plan, source, tune)]
    if inputs.continue_offset_s:
        raise refusal(checkpoint, "of this one there is only the end")
    stages: list[Stage] = []
    last: Beginning | None = None
    for step in [*_chain(inputs.recipe, checkpoint), Recipe(request, inputs)]:
        plan = plan_take(shape, step.request.duration, step.inputs.overlap, last)
        stages.append(Stage(step.request, step.inputs, plan, tune=tune if step.inputs is inputs else None))
        last = plan.as_beginning(shape.codec.hop)
    if source is not None and stages[-2].plan.all_samples != source.frames:
        raise refusal(checkpoint, "this one isn't what its recipe makes")
    check_longest(stages[-2].plan.all_samples / shape.codec.rate)
    return stages


def _beginning(source: Source, offset_s: int, shape: Shape) -> Beginning:
    """
    Return a sound as what a clip goes on from.

    Args:
        offset_s: Seconds of the sound before what there is of it.

    Raises:
        InvalidValueError: It is too long, or what is missing doesn't end where a frame does.
    """
    codec = shape.codec
    check_longest(offset_s + source.frames / codec.rate)
    if offset_s * codec.rate % codec.hop:
        raise InvalidValueError(f"the part of a sound that is left out must be whole frames, got {offset_s} s")
    return Beginning(source.frames, source.frames // codec.hop, missing=offset_s * codec.rate // codec.hop)


class SharedProgress(NullListener):
    """Passes on the progress of one stage as a part of that of all, and the sound of the last one."""

    def __init__(self, listener: ProgressListener, steps: Sequence[int], index: int) -> None:
        """
        Begin a stage.

        Args:
            listener: That of the clip.
            steps: Of each stage.
            index: Of this one.
        """
        self._listener, self._before, self._total = listener, sum(steps[:index]), sum(steps)
        self._is_last = index == len(steps) - 1

    def step(self, done: int, total: int) -> None:  # noqa: ARG002  # that of the stage
        """Pass on the steps of all stages."""
        self._listener.step(self._before + done, self._total)

    def note(self, text: str) -> None:
        """Pass on a note."""
        self._listener.note(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Pass on samples of the clip itself."""
        if self._is_last:
            self._listener.sound(pcm, sample_rate, channels)

    def pause(self) -> None:
        """Let others go first."""
        self._listener.pause()


def _read_tune(inputs: Inputs) -> FloatArray | None:
    if inputs.melody_wav is None:
        return None
    samples: FloatArray = read_source(inputs.melody_wav, rate=chroma.RATE, channels=1, name="the melody").samples[0]
    return samples


def _chain(recipe: Recipe | None, checkpoint: Checkpoint) -> list[Recipe]:
    """
    Return the recipes of what a clip goes on from, the first one first.

    Raises:
        NoAudioEncoderError: One of them can't be made again by this model.
    """
    chain: list[Recipe] = []
    while recipe is not None:
        if (
            recipe.checkpoint != checkpoint.digest
            or recipe.request.seed is None
            or recipe.inputs.melody_wav is not None
        ):
            raise refusal(checkpoint, "this one was made by another model")
        chain.append(recipe)
        if len(chain) > limits.RECIPES:
            raise refusal(checkpoint, f"this one is the last of more than {limits.RECIPES} continuations")
        if recipe.inputs.recipe is None and recipe.inputs.continue_wav is not None:
            raise refusal(checkpoint, "this one went on from a sound that it didn't make")
        recipe = recipe.inputs.recipe
    if not chain:
        raise refusal(checkpoint, "this one is not known to be one of them")
    return chain[::-1]
