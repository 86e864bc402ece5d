"""
The actions for other Python programs: `from musicgen_cli import generate, batch, Store`.

Settings come from where the command's come from; nothing is printed, what would be goes to the logger `musicgen`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from musicgen_cli import settings
from musicgen_cli.actions.batch.batch import Batch, Outcome, find_parents
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.batch.worklist import BatchItem, Worklist
from musicgen_cli.actions.generate import GenerateOptions, expected_bytes, make_all, plan
from musicgen_cli.actions.jobs.job import EngineConfig
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import Engine, NullListener, ProgressListener
from musicgen_cli.engine.client import RemoteEngine
from musicgen_cli.engine.fleet import Fleet
from musicgen_cli.errors import InvalidValueError, ServiceUnreachableError, UsageError
from musicgen_cli.extras import needs
from musicgen_cli.settings import Settings
from musicgen_cli.store import Artifact, Store

_log = logging.getLogger("musicgen")


def generate(
    prompt: str = "",
    *,
    variations: int = 1,
    tags: Sequence[str] = (),
    creator: str | None = None,
    parent_id: str | None = None,
    variation_set_id: str | None = None,
    from_id: str | None = None,
    local: bool | None = None,
    model: str | None = None,
    url: str | None = None,
    store: Path | None = None,
    **values: Any,
) -> list[Artifact]:
    """
    Make one or more takes and keep each.

    Args:
        values: Further fields of the request: `duration`, `seed`, …

    Raises:
        MusicgenError: As the command `generate`; takes that were made before it are in the store.
    """
    chosen = settings.load({"creator": creator, "local": local, "model": model, "url": url, "store": store})
    _check_model(model, chosen)
    kept = Store(chosen.store, warn=_log.warning)
    wish = GenerateOptions(
        values={"prompt": prompt, **values} if prompt or not from_id else values,
        creator=chosen.creator,
        tags=tags,
        variations=variations,
        parent_id=parent_id,
        variation_set_id=variation_set_id and settings.label("variation_set_id", variation_set_id),
        from_id=from_id,
    )
    planned_takes = plan(wish, kept)
    kept.check_room(sum(expected_bytes(planned) for planned in planned_takes))
    engine = registry.open_local(chosen.model, note=_log.info) if chosen.local else registry.open_remote(chosen)
    with closing(engine):
        takes = make_all(planned_takes, engine, kept, _heard, jobs=engine.slots)
        return [take.artifact for take in takes]


def batch(
    rows: Iterable[Mapping[str, Any]],
    *,
    sweep: Sequence[str] = (),
    run: str | None = None,
    redo: bool = False,
    force: bool = False,
    jobs: int | None = None,
    retry: int = 1,
    max_failures: int | None = None,
    local: bool | None = None,
    model: str | None = None,
    urls: Sequence[str] = (),
    store: Path | None = None,
) -> Iterator[Outcome]:
    """
    Make a take of each row that the store hasn't got; yield each with its artifact or its error, as it ends.

    Args:
        rows: Fields as in a batch file; they are counted from 1.

    Raises:
        InvalidValueError: Rows are wrong, and nothing was made.
        MusicgenError: As `Batch.run`.
    """
    chosen = settings.load({"local": local, "model": model, "url": urls[0] if urls else None, "store": store})
    _check_model(model, chosen)
    kept = Store(chosen.store, warn=_log.warning)
    with closing(Worklist({"creator": chosen.creator}, Sweep(sweep))) as work:
        wrong = []
        for line, row in enumerate(rows, 1):
            try:
                work.add(line, dict(row))
            except InvalidValueError as err:
                wrong.append(f"row {line}: {err}")
        parents, lost = find_parents(work, kept)
        wrong += [f"row {line}: {err}" for name, err in lost.items() for line in work.drop(name)]
        if wrong:
            raise InvalidValueError("; ".join(wrong))
        if not work.takes:
            return
        engine = open_engine(chosen, urls, note=_log.info, warn=_log.warning)
        made = Batch(work, kept, model=engine.origin.model, run=run, parents=parents, redo=redo, force=force)
        with closing(engine), made.exclusive_lock():
            yield from made.run(engine, _Unseen(), jobs=jobs or engine.slots, retry=retry, max_failures=max_failures)


def open_engine(
    chosen: Settings,
    urls: Sequence[str] = (),
    *,
    note: Callable[[str], None],
    warn: Callable[[str], None],
    **loading: Any,
) -> Engine:
    """
    Open what makes the takes of a batch: the model in this process, or one or more services.

    Args:
        urls: Of the services; none means the one of the settings.
        loading: `engine`, `device` and `precision` of a local model.

    Raises:
        ServiceUnreachableError: None of the services can be reached.
        UsageError: The services have different models.
    """
    if chosen.local:
        return registry.open_local(chosen.model, note=note, **loading)
    services = [registry.open_remote(replace(chosen, url=url)) for url in dict.fromkeys(urls or [chosen.url])]
    models: set[str | None] = set()
    lost: dict[Engine, ServiceUnreachableError] = {}
    for service in services:
        assert isinstance(service, RemoteEngine)
        try:
            models.add(service.model(_Logged(note)))
        except ServiceUnreachableError as err:
            lost[service] = err
    if len(lost) == len(services):
        raise lost[services[0]]
    if len(models) > 1:
        raise UsageError(f"the services have different models: {', '.join(sorted(map(str, models)))}")
    fleet = Fleet(services, model=models.pop(), patience_s=chosen.max_wait, warn=warn)
    for service, why in lost.items():
        fleet.leave_out(service, why)
    return fleet


def engine_config_of(
    chosen: Settings, *, engine: str | None = None, device: str | None = None, precision: str | None = None
) -> EngineConfig:
    """
    Tell what shall make the takes of jobs, checked as far as it can be without loading or sending anything.

    Raises:
        UsageError: The address is none, or holds a password, which no job's file may.
        InvalidValueError: There is no such engine, device or precision.
        UnknownModelError, AbsentError, CheckpointError: The model can't be used.
    """
    if not chosen.local:
        registry.open_remote(chosen).close()
        if urlsplit(chosen.url).username is not None:
            raise UsageError(
                "a job can't hold an address with a password", hint="MUSICGEN_API_KEY is read when the job is run"
            )
        return EngineConfig(local=False, url=chosen.url, timeout=chosen.timeout, max_wait=chosen.max_wait)
    registry.check(engine, device, precision)
    how = EngineConfig(local=True, engine=engine, device=device, precision=precision)
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import resolve
    found = resolve(chosen.model, settings.models_dir()).directory
    folder = Path(chosen.model).expanduser()
    is_folder = folder.is_dir() and folder.samefile(found)
    return replace(how, model=str(folder.resolve()) if is_folder else chosen.model)


def _check_model(model: str | None, chosen: Settings) -> None:
    if model is not None and not chosen.local:
        raise UsageError("a model needs local=True", hint="a service chooses its model when it starts")


class _Logged(NullListener):
    """A listener that passes its notes on."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._note(text)


class _Unseen:
    """Watches a batch for nobody."""

    def begin(self, takes: int, audio_s: float) -> None:
        """Ignore how much there is to do."""

    def making(self, _: BatchItem, /) -> AbstractContextManager[ProgressListener]:
        """Log the notes of a take."""
        return nullcontext(_Logged(_log.info))


def _heard(*_: object) -> AbstractContextManager[ProgressListener]:
    return nullcontext(_Logged(_log.info))
