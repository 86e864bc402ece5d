"""Request → clip → checked WAV → blob → record: what `generate` does, without a terminal."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from musicgen_cli import limits
from musicgen_cli._version import __version__
from musicgen_cli.actions.pool import as_done
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Engine, ProgressListener
from musicgen_cli.errors import InvalidValueError, MusicgenError
from musicgen_cli.limits import number
from musicgen_cli.store import Artifact, ArtifactDraft, Store, check_tag

_FIELDS = frozenset(GenerateRequest.model_fields) - {"client_job_id"}


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What somebody asks for: fields of the request that were given, and what the record should say."""

    values: Mapping[str, Any]  # prompt, duration, … as given; what is absent takes its default
    creator: str = limits.CREATOR
    tags: Sequence[str] = ()  # the user's
    variations: int = 1
    parent_id: str | None = None  # any form that `Store.get` takes
    variation_set_id: str | None = None
    from_id: str | None = None  # a take whose prompt and parameters are the defaults


@dataclass(frozen=True, slots=True)
class PlannedTake:
    """One take that was checked and may be made: the request, and the record but for what the clip adds."""

    request: GenerateRequest
    draft: ArtifactDraft


@dataclass(frozen=True, slots=True)
class StoredTake:
    """A take that is stored."""

    artifact: Artifact
    clip: Clip
    warnings: tuple[str, ...] = field(default=())


def plan(wish: GenerateOptions, store: Store) -> list[PlannedTake]:
    """
    Check every value and turn a wish into orders, one a variation, before anything is loaded or sent.

    Raises:
        InvalidValueError: A value is out of range or of the wrong form.
        ArtifactNotFoundError, AmbiguousIdError: The parent or the take to start from isn't there.
    """
    if wish.variations not in limits.VARIATIONS:
        raise InvalidValueError(f"variations must be a whole number, {limits.VARIATIONS}, got {wish.variations}")
    tags = tuple(dict.fromkeys((*limits.TAGS, *(check_tag(tag) for tag in wish.tags))))
    if len(tags) > limits.TAGS_EACH:
        raise InvalidValueError(f"a take can have {limits.TAGS_EACH} tags, got {len(tags)}")
    values = dict(wish.values)
    parent_id = wish.parent_id and store.get(wish.parent_id).id
    if wish.from_id:
        origin = store.get(wish.from_id)
        values = parameters_of(origin) | values
        parent_id = parent_id or origin.id
    if values.get("seed") is None:
        values["seed"] = secrets.randbelow(int(limits.SEED.high) + 2 - wish.variations)
    first = GenerateRequest.checked(values)
    assert first.seed is not None
    if first.seed + wish.variations - 1 not in limits.SEED:
        raise InvalidValueError(
            f"seed must be {limits.SEED} for every variation, got {first.seed} with {wish.variations} variations"
        )
    set_id, index = wish.variation_set_id, 0
    if set_id is not None:
        index = store.next_variation_index(set_id)
    elif wish.variations > 1:
        set_id = f"set_{secrets.token_hex(6)}"
    return [
        planned_take(
            first.model_copy(update={"seed": first.seed + i}),
            tags=tags,
            creator=wish.creator,
            parent_id=parent_id,
            variation_set_id=set_id,
            variation_index=None if set_id is None else index + i,
        )
        for i in range(wish.variations)
    ]


def planned_take(request: GenerateRequest, *, tags: tuple[str, ...], creator: str, **known: Any) -> PlannedTake:
    """
    Make the order of one take from what was checked; a seed and a job id are drawn where there are none.

    Args:
        tags: All of them.
        known: What else of a `Draft` is known before the take is made.
    """
    request = request.model_copy(
        update={
            "seed": secrets.randbelow(int(limits.SEED.high) + 1) if request.seed is None else request.seed,
            "client_job_id": request.client_job_id or str(uuid.uuid4()),
        }
    )
    draft = ArtifactDraft(
        tags=tags,
        prompt=request.prompt,
        params=request.params,
        creator=creator,
        origin={},
        requested_duration=request.duration,
        client_job_id=request.client_job_id,
        **known,
    )
    return PlannedTake(request, draft)


def expected_bytes(planned: PlannedTake) -> int:
    """Reckon how large a take's sound will be."""
    return round(planned.request.duration * limits.SAMPLE_RATE) * limits.CHANNELS * 2


def make(planned: PlannedTake, engine: Engine, store: Store, listener: ProgressListener) -> StoredTake:
    """
    Make one take and store it; when this returns it is durable.

    Raises:
        MusicgenError: Nothing was stored.
    """
    clip = engine.generate(planned.request, listener)
    origin = {
        "kind": clip.origin.kind,
        "model": clip.origin.model,
        "engine": clip.origin.engine,
        "precision": clip.origin.precision,
        "device": clip.origin.device,
        "version": __version__,
        "url": clip.origin.url,
    }
    draft = replace(
        planned.draft,
        origin={name: value for name, value in origin.items() if value is not None},
        seed=clip.seed,
        license=clip.license,
        elapsed_s=round(clip.elapsed_s, 3),
        extra=dict(clip.extra),
    )
    artifact = store.put(clip.wav, draft)
    return StoredTake(artifact, clip, tuple(_notes(planned.request, clip)))


def make_all(
    planned_takes: Sequence[PlannedTake],
    engine: Engine,
    store: Store,
    heard: Callable[[int, PlannedTake], AbstractContextManager[ProgressListener]],
    *,
    jobs: int,
) -> Iterator[StoredTake]:
    """
    Make several takes and store them, `jobs` at once; yield them in the order of `orders`.

    Args:
        heard: Gives a listener to each order, counted from 0; called by any thread.

    Raises:
        MusicgenError: The first failure; no more takes were begun after it, and those that were made are yielded.
    """
    failure: MusicgenError | None = None

    def begun() -> Iterator[tuple[int, PlannedTake]]:
        for pair in enumerate(planned_takes):
            if failure is not None:
                return
            yield pair

    def work(pair: tuple[int, PlannedTake]) -> StoredTake:
        with heard(*pair) as listener:
            return make(pair[1], engine, store, listener)

    early: dict[int, StoredTake] = {}
    due = 0
    for (i, _), result in as_done(begun(), work, jobs=jobs):
        if isinstance(result, MusicgenError):
            failure = failure or result
            continue
        early[i] = result
        while due in early:
            yield early.pop(due)
            due += 1
    for i in sorted(early):  # what stands after the one that failed
        yield early[i]
    if failure is not None:
        raise failure


def parameters_of(artifact: Artifact) -> dict[str, Any]:
    """Return the prompt and the parameters that made a take, as fields of a request."""
    values = {name: value for name, value in artifact.params.items() if name in _FIELDS}
    values["prompt"] = artifact.prompt
    if artifact.seed is not None:
        values["seed"] = artifact.seed
    return values


def _notes(request: GenerateRequest, clip: Clip) -> list[str]:
    notes = list(clip.warnings)
    wanted, got = request.duration, clip.info.frames / clip.info.sample_rate
    if abs(wanted - got) >= 0.001:
        notes.append(f"asked for {number(wanted)} s, got {number(round(got, 3))} s")
    if clip.seed is None:
        notes.append("the service doesn't say that it used the seed: this take may not come out the same again")
    return notes
