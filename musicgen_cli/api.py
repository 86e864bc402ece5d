"""
The public functions for other Python programs: `from musicgen_cli import generate, batch, Store`.

Settings come from the same places as the command's. Nothing is printed: notes and warnings go to the logger `musicgen`.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from musicgen_cli import settings as configuration
from musicgen_cli.actions.batch.batch import Batch, checked_numbers
from musicgen_cli.actions.batch.outcome import Outcome
from musicgen_cli.actions.batch.parents import find_parents
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.batch.worklist import BatchItem, Worklist
from musicgen_cli.actions.engines import LogReporter, configure, open_engine, open_fleet
from musicgen_cli.actions.generate import GenerateOptions, StoredTake, expected_bytes, make_all, plan
from musicgen_cli.actions.source_finder import SoundOptions, SourceFinder
from musicgen_cli.engine.base import LogListener, ProgressListener
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.request_fields import FIELDS, LENGTH_FIELDS
from musicgen_cli.settings import Settings
from musicgen_cli.store import Artifact, Store

_log = logging.getLogger("musicgen")
_reporter = LogReporter(_log.info, _log.warning)


def generate(
    prompt: str = "",
    *,
    variations: int = 1,
    tags: str | Sequence[str] = (),
    creator: str | None = None,
    parent_id: str | Artifact | None = None,
    variation_set_id: str | None = None,
    from_id: str | Artifact | None = None,
    continue_: str | Path | Artifact | None = None,
    melody: str | Path | Artifact | None = None,
    overlap: float | None = None,
    local: bool | None = None,
    model: str | None = None,
    url: str | None = None,
    store: str | Path | None = None,
    **fields: Any,
) -> list[Artifact]:
    """
    Make one or more takes and store each.

    Args:
        prompt: What it should sound like; "" makes an unconditional take, or one with the prompt of the take that it
            starts or goes on from.
        variations: The number of takes, of one variation set, with seeds counting up.
        tags: Tags of each take; a text is one tag.
        creator: Recorded with each take; None means the setting.
        parent_id: The take that these come from: itself, its id, the start of one, or `last`.
        variation_set_id: The variation set that they join.
        from_id: A take whose prompt and parameters are the defaults, named in the same way.
        continue_: The sound that they go on from: a take, named in the same way, or the path of a file, which is
            imported. Its prompt and its parameters but the seed are the defaults.
        melody: The sound whose tune they follow, named like `continue_`. Needs a melody model.
        overlap: Seconds of what came before that each window of 30 s begins with; None means 12.
        local: Run the model in this process; None means the setting.
        model: Name or folder of a local model. A published model that isn't on this machine is pulled first.
        url: Address of the service; None means the setting.
        store: The store's folder; None means the setting.
        fields: Further fields of the request: `duration` in seconds (or `bars`, and `bpm` unless the prompt names the
            tempo), `seed`, `temperature`, …

    Raises:
        TypeError: There is no such field.
        MusicgenError: As the command `generate`; takes that were made before the failure are in the store.
    """
    _check_fields(fields)
    settings = _settings(creator=creator, local=local, model=model, url=url, store=store)
    archive = Store(settings.store, warn=_log.warning)
    options = GenerateOptions(
        fields={"prompt": prompt, **fields} if prompt or not (from_id or continue_) else fields,
        creator=settings.creator,
        tags=[tags] if isinstance(tags, str) else tags,
        variations=variations,
        parent_id=_id_of(parent_id),
        variation_set_id=None if (name := variation_set_id) is None else configuration.label("variation_set_id", name),
        from_id=_id_of(from_id),
        sounds=SoundOptions(_sound(continue_), _sound(melody), overlap),
    )
    planned_takes = plan(options, archive, note=_log.info)
    archive.check_free_space(sum(map(expected_bytes, planned_takes)))
    config = configure(settings)
    with closing(open_engine(config, _reporter, api_key=settings.api_key, clips=len(planned_takes))) as engine:
        takes = make_all(planned_takes, engine, archive, _listener, jobs=engine.slots)
        return [_logged(take) for take in takes]


def batch(
    rows: Iterable[Mapping[str, Any]],
    *,
    sweep: str | Sequence[str] = (),
    run: str | None = None,
    redo: bool = False,
    force: bool = False,
    jobs: int | None = None,
    retry: int = 1,
    max_failures: int | None = None,
    local: bool | None = None,
    model: str | None = None,
    urls: str | Sequence[str] = (),
    store: str | Path | None = None,
) -> Iterator[Outcome]:
    """
    Make a take of each row unless it is stored already; yield each with its artifact or its error, as it ends.

    Args:
        rows: Fields as in a batch file. Messages count rows from 1.
        sweep: Values that multiply each row, such as `guidance_scale=3,5,7` and `seed=1..4`.
        run: The run's name; a run with another name makes all takes again.
        redo: Make takes again that the store has.
        force: Let exports replace files.
        jobs: Requests at once; None means as many as the engine makes at once.
        retry: How many more times a request is tried after a failure that may be temporary.
        max_failures: Begin no more takes after this many failures.
        local: Run the model in this process; None means the setting.
        model: Name or folder of a local model. A published model that isn't on this machine is pulled first.
        urls: Addresses of one or more services with the same model; none means the setting.
        store: The store's folder; None means the setting.

    Raises:
        TypeError: `rows` is one row, or not of mappings.
        InvalidValueError: A number is out of its range, or rows are wrong, and nothing was made.
        MusicgenError: As `Batch.run`.
    """
    if isinstance(rows, Mapping | str):
        raise TypeError(f"rows must be a list of mappings, got one {type(rows).__name__}")
    jobs, retry, max_failures = checked_numbers(jobs, retry, max_failures)
    sweep, urls = ([each] if isinstance(each, str) else each for each in (sweep, urls))
    settings = _settings(local=local, model=model, url=urls[0] if urls else None, store=store)
    archive = Store(settings.store, warn=_log.warning)
    finder = SourceFinder(archive, creator=settings.creator, note=_log.info)
    with closing(Worklist({"creator": settings.creator}, Sweep(sweep), finder)) as worklist:
        wrong = []
        for line, row in enumerate(rows, 1):
            try:
                worklist.add(line, _as_dict(line, row))
            except InvalidValueError as err:
                wrong.append(f"row {line}: {err}")
        parents, missing = find_parents(worklist, archive)
        wrong += [f"row {line}: {err}" for name, err in missing.items() for line in worklist.drop(name)]
        if wrong:
            raise InvalidValueError("; ".join(wrong))
        if not worklist.takes:
            return
        engine = open_fleet(configure(settings), _reporter, api_key=settings.api_key, urls=urls, clips=worklist.takes)
        work = Batch(worklist, archive, model=engine.origin.model, run=run, parents=parents, redo=redo, force=force)
        with closing(engine), work.exclusive_lock():
            yield from work.run(engine, _BatchLog(), jobs=jobs or engine.slots, retry=retry, max_failures=max_failures)


def _as_dict(line: int, row: object) -> dict[str, Any]:
    """
    Return a row of a batch as a dictionary.

    Raises:
        TypeError: It is something else, such as a prompt alone.
    """
    if not isinstance(row, Mapping):
        raise TypeError(f"rows must be a list of mappings, and row {line} is a {type(row).__name__}")
    return dict(row)


def _id_of(take: str | Artifact | None) -> str | None:
    """
    Return the id of a take that was named by itself, or by an id.

    Raises:
        InvalidValueError: It is empty.
    """
    if take == "":
        raise InvalidValueError("an id must not be empty: None stands for no take")
    return take.id if isinstance(take, Artifact) else take


def _sound(sound: str | Path | Artifact | None) -> str | None:
    """Return the name of a sound: a path is that of a file, even if it looks like an id."""
    return os.path.abspath(sound) if isinstance(sound, Path) else _id_of(sound)  # noqa: PTH100  # links aren't followed


def _check_fields(fields: Mapping[str, Any]) -> None:
    """
    Check the names of further fields, as Python does for other arguments.

    Raises:
        TypeError: There is no such field; the message names the nearest argument, or all fields.
    """
    names = [field.name for field in (*FIELDS, *LENGTH_FIELDS)]
    arguments = [*names, *(generate.__kwdefaults__ or {})]
    for name in fields:
        if name not in names:
            nearest = difflib.get_close_matches(name, arguments, n=1)
            meant = f"did you mean {nearest[0]!r}?" if nearest else f"fields are {', '.join(names)}"
            raise TypeError(f"generate() got an unexpected keyword argument {name!r}; {meant}")


def _settings(**options: Any) -> Settings:
    """Load the settings, and refuse a model where a service is to be used."""
    settings = configuration.load(options)
    if options["model"] is not None and not settings.local:
        raise UsageError("model needs local=True", hint="a service chooses its model when it starts")
    return settings


def _logged(take: StoredTake) -> Artifact:
    """Log the warnings of a take, and return its record."""
    for text in take.warnings:
        _log.warning(text)
    return take.artifact


class _BatchLog:
    """Logs the notes of a batch's takes."""

    def begin(self, takes: int, audio_s: float) -> None:
        """Ignore how much there is to do."""

    def making(self, _: BatchItem, /) -> AbstractContextManager[ProgressListener]:
        """Return the listener of one take."""
        return _listener()


def _listener(*_: object) -> AbstractContextManager[ProgressListener]:
    return nullcontext(LogListener(_log.info))
