"""Request → clip → checked WAV → blob → record: what `generate` does, without a terminal."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from musicgen_cli import limits
from musicgen_cli._version import __version__
from musicgen_cli.actions.bars import overridden, with_duration
from musicgen_cli.actions.library.differences import other_sound
from musicgen_cli.actions.library.made_from import source_s
from musicgen_cli.actions.library.takes import fields_of, find_take, takes_of_set
from musicgen_cli.actions.pool import as_done
from musicgen_cli.actions.source_finder import NO_SOUNDS, SoundOptions, Sounds, SourceFinder, members
from musicgen_cli.actions.sources import inputs_of, with_context
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Engine, ProgressListener
from musicgen_cli.errors import ArtifactNotFoundError, InvalidValueError, MusicgenError, UsageError
from musicgen_cli.store import Artifact, ArtifactDraft, Store, check_tag
from musicgen_cli.text import as_whole, number


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What a user requests: the fields of the request that are set, and values of the takes' records."""

    fields: Mapping[str, Any]  # prompt, duration (or bars and bpm), … as given; a missing one gets its default
    creator: str = limits.CREATOR
    tags: Sequence[str] = ()  # the user's own
    variations: int = 1
    parent_id: str | None = None  # any form that `Store.get` takes
    variation_set_id: str | None = None
    from_id: str | None = None  # a take whose prompt and parameters are the defaults
    sounds: SoundOptions = NO_SOUNDS  # that they are made from


@dataclass(frozen=True, slots=True)
class PlannedTake:
    """One take that was checked and can be made: its request, and its record without what the clip adds."""

    request: GenerateRequest
    draft: ArtifactDraft

    @property
    def duration(self) -> float:
        """The length of the whole take in seconds, with what it goes on from."""
        return self.request.duration + source_s(self.draft.extra)


@dataclass(frozen=True, slots=True)
class StoredTake:
    """A take that was made and stored."""

    artifact: Artifact
    clip: Clip
    warnings: tuple[str, ...] = field(default=())


def plan(options: GenerateOptions, store: Store, *, note: Callable[[str], None] = lambda _: None) -> list[PlannedTake]:
    """
    Check every value and plan one take for each variation, before anything is loaded or sent.

    Files that takes are to be made from are imported once all is checked.

    Args:
        note: Called with a line about a duration that was given in bars, and about each file that is imported.

    Raises:
        InvalidValueError: A value is out of range or of the wrong form, or a sound can't be used.
        NotFoundError, AmbiguousIdError: The parent, the take to start from or a sound isn't in the store.
        UsageError: The take to start from was imported, and has no prompt and no parameters; bars and a duration.
        DamagedError: The audio that takes are to be made from is damaged.
    """
    variations = as_whole(options.variations)
    if type(variations) is not int or variations not in limits.VARIATIONS:
        raise InvalidValueError(f"variations must be a whole number, {limits.VARIATIONS}, got {variations!r:.40}")
    tags = all_tags(options.tags)
    parent_id = options.parent_id and find_take(options.parent_id, store).id
    start = options.from_id and find_take(options.from_id, store)
    finder = SourceFinder(store, creator=options.creator, note=note)
    sounds = _sounds(options.sounds, start or None, finder)
    first, length = _first_request(options.fields, start or None, sounds, variations)
    if length:
        note(length)
    set_id, index = options.variation_set_id, 0
    if set_id is not None:
        index = store.next_variation_index(set_id)
    elif variations > 1:
        set_id = f"set_{secrets.token_hex(6)}"
    sounds = finder.store(sounds)
    if parent_id is None:
        parent_id = start.id if start and options.sounds.continue_ is None else sounds.parent_id
    assert first.seed is not None
    return [
        planned_take(
            first.model_copy(update={"seed": first.seed + i}),
            tags=tags,
            creator=options.creator,
            parent_id=parent_id,
            variation_set_id=set_id,
            variation_index=None if set_id is None else index + i,
            extra=members(sounds),
        )
        for i in range(variations)
    ]


def _sounds(options: SoundOptions, start: Artifact | None, finder: SourceFinder) -> Sounds:
    """Find what takes are made from: what the options name, else what the take to start from was made from."""
    sounds = finder.find(options)
    if start is None or not start.extra or sounds.source is not None or sounds.melody is not None:
        return sounds
    recorded = finder.find_recorded(start.extra)
    return recorded if options.overlap is None else replace(recorded, overlap=options.overlap)


def _first_request(
    given: Mapping[str, Any], start: Artifact | None, sounds: Sounds, variations: int
) -> tuple[GenerateRequest, str]:
    """
    Return the request of the first take with a seed, and a line about its length.

    What isn't given is as in the take to start from, else as in the take to go on from.
    """
    fields = dict(given)
    if start is not None:
        fields = overridden(fields_from(start, variations=variations), fields)
    if sounds.source is not None:
        fields = overridden(sounds.source.fields, fields)
    fields, length = with_duration(fields)
    if fields.get("seed") is None:
        fields["seed"] = secrets.randbelow(int(limits.SEED.high) + 2 - variations)
    first = GenerateRequest.checked(fields)
    assert first.seed is not None
    if first.seed + variations - 1 not in limits.SEED:
        raise InvalidValueError(
            f"seed must be {limits.SEED} for every variation, got {first.seed} with {variations} variations"
        )
    sounds.check(first.duration)
    return first, length


def all_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """
    Return the tags of a new take: those that every take has, then the user's, without repeats.

    Raises:
        InvalidValueError: One is of the wrong form, or there are too many.
    """
    complete = tuple(dict.fromkeys((*limits.TAGS, *(check_tag(tag) for tag in tags))))
    if len(complete) > limits.MAX_TAGS:
        raise InvalidValueError(f"a take can have at most {limits.MAX_TAGS} tags, got {len(complete)}")
    return complete


def planned_take(request: GenerateRequest, *, tags: tuple[str, ...], creator: str, **record: Any) -> PlannedTake:
    """
    Plan one take from values that were checked; a seed and a job id are drawn where there are none.

    Args:
        tags: The complete tags, as `all_tags` returns them.
        record: Further members of the `ArtifactDraft` that are known before the take is made.
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
        requested_duration=round(request.duration + source_s(record.get("extra")), 3),
        client_job_id=request.client_job_id,
        **record,
    )
    return PlannedTake(request, draft)


def expected_bytes(planned: PlannedTake) -> int:
    """Estimate the size of a take's audio."""
    return round(planned.duration * limits.SAMPLE_RATE) * limits.CHANNELS * 2


def make(planned: PlannedTake, engine: Engine, store: Store, listener: ProgressListener) -> StoredTake:
    """
    Make one take and store it; it is durable when this returns.

    Raises:
        MusicgenError: Nothing was stored.
    """
    return store_clip(planned, generate(planned, engine, store, listener), store)


def generate(planned: PlannedTake, engine: Engine, store: Store, listener: ProgressListener) -> Clip:
    """Make the clip of a planned take, from the sounds of other takes if its record says so; see `Engine.generate`."""
    return engine.generate(planned.request, listener, inputs_of(planned.draft.extra, store))


def store_clip(planned: PlannedTake, clip: Clip, store: Store) -> StoredTake:
    """
    Store the clip of a planned take; it is durable when this returns.

    Raises:
        MusicgenError: Nothing was stored.
    """
    origin = asdict(clip.origin)
    origin |= {"version": __version__, "url": origin.pop("url")}  # the order of a record's members
    draft = replace(
        planned.draft,
        origin={name: value for name, value in origin.items() if value is not None},
        seed=clip.seed,
        license=clip.license,
        elapsed_s=round(clip.elapsed_s, 3),
        extra=with_context({**planned.draft.extra, **clip.extra}),
    )
    artifact = store.put(clip.wav, draft)
    sounds = (*_same_sound(artifact, planned, store), *_other_sound(artifact, store))
    return StoredTake(artifact, clip, (*_warnings(planned, clip), *sounds))


def make_all(
    planned_takes: Sequence[PlannedTake],
    engine: Engine,
    store: Store,
    listener_of: Callable[[int, PlannedTake], AbstractContextManager[ProgressListener]],
    *,
    jobs: int,
) -> Generator[StoredTake]:
    """
    Make several takes, up to `jobs` at once; store and yield them in the order in which they were planned.

    A clip that is made before an earlier one waits to be stored, so that the last one that was planned is the newest
    take. If the caller leaves early, as on Ctrl-C, the waiting clips are stored at once.

    Args:
        listener_of: Returns the listener of each take, counted from 0; called from any thread.

    Raises:
        MusicgenError: The first failure. No more takes are begun after it, and those that were made are yielded first.
    """
    failure: MusicgenError | None = None

    def tasks() -> Iterator[tuple[int, PlannedTake]]:
        for pair in enumerate(planned_takes):
            if failure is not None:
                return
            yield pair

    waiting: dict[int, Clip] = {}  # filled by the threads, so that no clip is lost on its way to the caller's

    def work(pair: tuple[int, PlannedTake]) -> None:
        i, planned = pair
        with listener_of(i, planned) as listener:
            waiting[i] = generate(planned, engine, store, listener)

    def store_next(i: int) -> StoredTake:
        return store_clip(planned_takes[i], waiting.pop(i), store)

    next_index = 0
    try:
        for _, result in as_done(tasks(), work, jobs=jobs):
            if isinstance(result, MusicgenError):
                failure = failure or result
                continue
            while next_index in waiting:
                yield store_next(next_index)
                next_index += 1
    finally:  # those after the one that failed, and after Ctrl-C those that were made early
        stored = [store_next(i) for i in sorted([*waiting])]  # a copy: threads may still add to it
    yield from stored
    if failure is not None:
        raise failure


def fields_from(source: Artifact, *, variations: int = 1) -> dict[str, Any]:
    """
    Return the fields of a request for takes like another one; without its seed for a set, which would repeat its sound.

    Raises:
        UsageError: It was imported, and nothing is known of how it was made.
    """
    fields = fields_of(source)
    if not fields["prompt"] and len(fields) == 1:
        raise UsageError(
            f"{source.id} has no prompt and no parameters to start from: it was imported",
            hint="`--continue ID` goes on from its sound; `--parent ID` and a prompt make another take",
        )
    if variations > 1:
        fields.pop("seed", None)
    return fields


def _same_sound(artifact: Artifact, planned: PlannedTake, store: Store) -> Iterator[str]:
    """Say which take of the same variation set has the same sound."""
    if artifact.variation_set_id is None or "-" not in artifact.id:  # the id of a sound that is new has no number
        return
    for take in takes_of_set(artifact.variation_set_id, store):
        if take.content_hash == artifact.content_hash and take.id != artifact.id:
            is_greedy = not planned.request.do_sample or planned.request.top_k == 1 or planned.request.top_p == 0
            reason = ": without sampling the seed changes nothing" if is_greedy else ""
            yield f"{artifact.id} has the same sound as {take.id} of its set{reason}"
            return


def _other_sound(artifact: Artifact, store: Store) -> Iterator[str]:
    """Say why a take that was made again from its parent's request doesn't sound like that."""
    if artifact.parent_id is None:
        return
    with suppress(ArtifactNotFoundError):  # it was removed meanwhile
        if text := other_sound(store.get(artifact.parent_id), artifact):
            yield text


def _warnings(planned: PlannedTake, clip: Clip) -> Iterator[str]:
    yield from clip.warnings
    actual = clip.info.frames / clip.info.sample_rate
    if abs(planned.duration - actual) >= 0.001:
        yield f"requested {number(round(planned.duration, 3))} s, got {number(round(actual, 3))} s"
    if clip.seed is None:
        yield "the service doesn't confirm the seed: the same seed may give another take"
