"""
Opens the engine that the settings choose, for the command line, Python, jobs, batches, MCP, service and cluster alike.

`configure` turns settings and options into an `EngineConfig`, `prepare` pulls a model that isn't on this machine, and
`open_engine` opens the engine: a model in this process, one service, or several services as a fleet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from musicgen_cli.engine import registry
from musicgen_cli.errors import ServiceUnreachableError, UsageError
from musicgen_cli.extras import needs
from musicgen_cli.settings import Settings, models_dir

if TYPE_CHECKING:
    from musicgen_cli.engine.base import Engine, ProgressListener
    from musicgen_cli.engine.client import RemoteEngine


ANY_CLIPS = sys.maxsize  # wanted at once: as many as the engine has slots


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """
    What makes takes: a service, or a model in this process.

    Jobs of equal configurations share an engine. It has no API key, because it is written to a job's file.
    """

    local: bool
    url: str | None = None  # of a service
    timeout: float | None = None  # s
    max_wait: float | None = None  # s
    model: str = "auto"  # of a local engine: a name or a path
    engine: str | None = None  # this and the rest: as in `registry.open_local`
    device: str | None = None
    precision: str | None = None


class Reporter(Protocol):
    """Shows what happens while an engine is opened."""

    @property
    def note(self) -> Callable[[str], None]:
        """Shows one line of information."""

    @property
    def warn(self) -> Callable[[str], None]:
        """Shows one line about something that may be wrong."""

    def transfer(self, title: str) -> AbstractContextManager[ProgressListener]:
        """Show the progress of a download, in bytes."""


class LogReporter:
    """A reporter without a terminal."""

    def __init__(self, note: Callable[[str], None], warn: Callable[[str], None] | None = None) -> None:
        """
        Choose where lines go.

        Args:
            note: Called with each line of information.
            warn: Called with each warning; None means `note`.
        """
        self.note = note
        self.warn = warn or note

    @contextmanager
    def transfer(self, title: str) -> Iterator[ProgressListener]:
        """Pass the notes of a download on; its bytes are not shown."""
        from musicgen_cli.engine.base import LogListener

        self.note(title)
        yield LogListener(self.note)


def configure(
    settings: Settings, *, engine: str | None = None, device: str | None = None, precision: str | None = None
) -> EngineConfig:
    """
    Turn settings and the options of a local model into a configuration; nothing is loaded or sent.

    Raises:
        InvalidValueError: There is no such engine, device or precision.
        AbsentError: The engine doesn't have that device or precision.
    """
    if not settings.local:
        return EngineConfig(local=False, url=settings.url, timeout=settings.timeout, max_wait=settings.max_wait)
    return configure_local(settings.model, engine=engine, device=device, precision=precision)


def configure_local(
    model: str, *, engine: str | None = None, device: str | None = None, precision: str | None = None
) -> EngineConfig:
    """
    Return the configuration of a model in this process.

    Raises:
        InvalidValueError: There is no such engine, device or precision.
        AbsentError: The engine doesn't have that device or precision.
    """
    registry.backend_of(engine, device, precision)
    return EngineConfig(local=True, model=model, engine=engine, device=device, precision=precision)


def check_local_options(settings: Settings, options: Mapping[str, object]) -> None:
    """
    Refuse options that concern a local model where a service is to be used.

    Args:
        options: By name; None where one wasn't given.

    Raises:
        UsageError: One was given, but neither `--local` nor the setting of that name.
    """
    for name, value in options.items():
        if value is not None and not settings.local:
            raise UsageError(f"--{name} needs --local", hint="a service chooses its model when it starts")


def prepare(config: EngineConfig, reporter: Reporter) -> None:
    """
    Pull the model of a configuration if it is not on this machine.

    Raises:
        ModelAbsentError: It can't be downloaded.
        MusicgenError: As `pull.pull`; missing packages of the backend are reported before anything is downloaded.
    """
    if not config.local:
        return
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import is_absent
    if not is_absent(config.model, models_dir()):
        return
    from musicgen_cli.actions.models.pull import pull_absent

    backend = registry.backend_of(config.engine, config.device, config.precision)
    engine, precision = config.engine, config.precision
    if backend.needs_weights:  # a pull tests only the other backends, so this one is tested here
        open_engine(replace(config, model="nano"), reporter).close()
        engine = precision = None
    with reporter.transfer(f"pulling {config.model}") as listener:
        pull_absent(
            *(config.model, models_dir(), listener),
            precision=precision,
            engine=engine,
            keep_weights=backend.needs_weights,
        )


def open_engine(
    config: EngineConfig,
    reporter: Reporter,
    *,
    api_key: str | None = None,
    slots: int | None = None,
    clips: int | None = None,
    threads: int | None = None,
) -> Engine:
    """
    Open the engine of a configuration; a model that is not on this machine is pulled first.

    Args:
        api_key: Sent to the service as a Bearer token.
        slots: Of a local model: clips that are made at once.
        clips: Of a local model: the most that will be wanted at once; what they take of memory is reported.
        threads: Of a local model: for one operation on the CPU.

    Raises:
        UsageError: The address is invalid.
        AbsentError, EngineError, InvalidValueError: As `registry.open_local`.
    """
    if not config.local:
        return _service(config, api_key)
    prepare(config, reporter)
    return registry.open_local(
        config.model,
        engine=config.engine,
        device=config.device,
        precision=config.precision,
        slots=slots,
        clips=clips,
        threads=threads,
        note=reporter.note,
    )


def open_fleet(
    config: EngineConfig,
    reporter: Reporter,
    *,
    api_key: str | None = None,
    urls: Sequence[str] = (),
    clips: int | None = None,
) -> Engine:
    """
    Open one or more services that share the work, or the local model of the configuration.

    Args:
        urls: Addresses of the services; none means the one of the configuration.
        clips: As in `open_engine`.

    Raises:
        ServiceUnreachableError: None of the services can be reached.
        UsageError: The services have different models.
        MusicgenError: As `open_engine`.
    """
    if config.local:
        return open_engine(config, reporter, clips=clips)
    from musicgen_cli.engine.base import LogListener
    from musicgen_cli.engine.fleet import Fleet

    services = [
        _service(replace(config, url=url), api_key, waits_for_away=False)
        for url in dict.fromkeys(urls or [config.url or ""])
    ]
    models, unreachable = _ask_for_models(services, LogListener(reporter.note))
    if len(models) > 1:
        raise UsageError(f"the services have different models: {', '.join(sorted(map(str, models)))}")
    fleet = Fleet(services, model=models.pop(), max_outage_s=config.max_wait or 0.0, warn=reporter.warn)
    for service, err in unreachable.items():
        fleet.mark_down(service, err)
    return fleet


def model_name(
    config: EngineConfig, reporter: Reporter, *, api_key: str | None = None, urls: Sequence[str] = ()
) -> str | None:
    """
    Return the name of the model that `open_fleet` would open, without loading or pulling one; None if unknown.

    Raises:
        MusicgenError: As `open_fleet`.
    """
    if not config.local:
        engine = open_fleet(config, reporter, api_key=api_key, urls=urls)
        engine.close()
        return engine.origin.model
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import is_absent, local_name
    if is_absent(config.model, models_dir()):
        return local_name(config.model)
    return registry.resolve_model(config.model, reporter.note).name


def for_jobs(config: EngineConfig) -> EngineConfig:
    """
    Check a configuration without loading or sending anything, and make its paths absolute.

    Raises:
        UsageError: The address is invalid, or contains a password, which must not be written to a job's file.
        UnknownModelError, AbsentError, CheckpointError: The model can't be used.
    """
    if not config.local:
        _service(config, None).close()
        if urlsplit(config.url or "").username is not None:
            raise UsageError(
                "a job can't have an address with a password",
                hint="set MUSICGEN_API_KEY, which is read when the job is run",
            )
        return config
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import find_checkpoint, named_folder
    directory = find_checkpoint(config.model, models_dir()).directory
    folder = named_folder(config.model)
    if folder is not None and folder.samefile(directory):
        return replace(config, model=str(folder.resolve()))
    return config


def _ask_for_models(
    services: Sequence[RemoteEngine], listener: ProgressListener
) -> tuple[set[str | None], dict[RemoteEngine, ServiceUnreachableError]]:
    """
    Return the models of the services that can be reached, and why the others can't.

    Raises:
        ServiceUnreachableError: None can be reached, nor was one that may be restarting back in time.
        MusicgenError: As `RemoteEngine.model`.
    """
    from musicgen_cli.engine.responses import is_away

    models: set[str | None] = set()
    unreachable: dict[RemoteEngine, ServiceUnreachableError] = {}
    for service in services:
        try:
            models.add(service.model(listener, waits_for_away=False))
        except ServiceUnreachableError as err:
            unreachable[service] = err
    if not models:
        restarting = next((service for service, err in unreachable.items() if is_away(err)), None)
        if restarting is None:
            raise unreachable[services[0]]
        models.add(restarting.model(listener))
        del unreachable[restarting]
    return models, unreachable


def _service(config: EngineConfig, api_key: str | None, *, waits_for_away: bool = True) -> RemoteEngine:
    from musicgen_cli.engine.client import RemoteEngine

    assert config.url is not None
    assert config.timeout is not None
    assert config.max_wait is not None
    return RemoteEngine(
        config.url,
        timeout_s=config.timeout,
        max_wait_s=config.max_wait,
        api_key=api_key,
        waits_for_away=waits_for_away,
    )
