"""
Brings a model onto this machine: from the hub, or from a folder.

Files gather in `<models_dir>/.pulling/<name>`, each checked against the hash that the hub tells; what is whole stays
there if the pull breaks off, and the next one goes on. When all are there, the model is opened once, as it will be
opened later, which makes its graphs beside it and proves that every tensor is there in its shape. Then the weights go,
unless they are to be kept, the folder is synced, and takes its place in one rename. Pickle is never fetched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgen_cli import atomic
from musicgen_cli.actions.models import inventory
from musicgen_cli.actions.models.fidelity import EXACT, measure
from musicgen_cli.checkpoint.checkpoint import (
    Checkpoint,
    find_checkpoint,
    hub_repository,
    local_name,
    open_checkpoint,
    parse_config,
    weights_license,
)
from musicgen_cli.checkpoint.manifest import FileRecord, Manifest, read_manifest, size_and_sha256
from musicgen_cli.checkpoint.names import NAMES, PUBLISHED, is_valid_name
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import PICKLE_SUFFIXES, WEIGHTS_FILE, WEIGHTS_INDEX, parse_shard_index
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.errors import (
    CheckpointError,
    DamagedError,
    MemoryNeededError,
    ModelAbsentError,
    ModelsFolderError,
    ServiceError,
    ServiceUnreachableError,
    UnknownModelError,
    UsageError,
)
from musicgen_cli.extras import needs
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.hub import Hub, RemoteFile, Repository

_CONFIG, _TOKENIZER = _NEEDED = ("config.json", "tokenizer.json")
_BESIDE = (
    "README.md",  # the model card, with the licence
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_WEIGHTS = ".safetensors"


def pull(
    name: str,
    models_dir: Path,
    listener: ProgressListener,
    *,
    revision: str | None = None,
    precision: str | None = None,
    keep_weights: bool = False,
) -> Checkpoint:
    """
    Fetch a model, or import a folder, and prepare it.

    Args:
        name: Of PUBLISHED, OWNER/REPO, or a checkpoint's folder, which is imported under its own name.
        listener: Hears of bytes, where they come from the hub, and what is being done.
        revision: A branch, a tag or a commit on the hub; None is its main branch.
        precision: To prepare; None is the one that is used without being asked for.
        keep_weights: Otherwise only what was prepared stays.

    Raises:
        UsageError: The name can't be pulled.
        UnknownModelError: The hub doesn't have it.
        AbsentError: This version has no such precision, the machine is offline, or the hub doesn't give it to us.
        CheckpointError: It is no MusicGen checkpoint in safetensors.
        ModelBusyError: Another process is at work on it.
        ModelsFolderError: There is no room for it, or no permission.
        MusicgenError: As for `Hub.repository` and `Hub.fetch`.
    """
    if name in NAMES and name not in PUBLISHED:
        raise UsageError(f"{name!r} can't be pulled", hint="nano comes with musicgen, and auto is no model")
    folder = Path(name).expanduser()
    repository = None if name not in PUBLISHED and folder.is_dir() else hub_repository(name)
    stored = folder.resolve().name if repository is None else local_name(repository)
    if repository is None and not folder.is_dir():
        raise UnknownModelError(
            f"no model and no folder is called {name!r}", hint=f"{', '.join(PUBLISHED)}, OWNER/REPO or a folder"
        )
    if repository is None and (not is_valid_name(stored) or stored in NAMES):
        raise UsageError(
            f"a model can't be called {stored!r}", hint="rename the folder: letters, digits, '.', '-' and '_'"
        )
    if repository is None and revision is not None:
        raise UsageError("--revision is for models from the hub")
    task = _Task(stored, models_dir, listener, _prepared(precision), keep_weights=keep_weights)
    if repository is None:
        return task.take_in(folder.resolve())
    with _open_hub() as hub:
        return task.fetch(hub, repository, revision)


def pull_absent(
    name: str, models_dir: Path, listener: ProgressListener, *, precision: str | None = None, keep_weights: bool = False
) -> None:
    """
    Pull a model that was only asked for.

    Raises:
        ModelAbsentError: It can't be had.
        UnknownModelError: The hub doesn't know it, and it isn't one of PUBLISHED.
        MusicgenError: As for `pull`.
    """
    try:
        pull(name, models_dir, listener, precision=precision, keep_weights=keep_weights)
    except (ServiceUnreachableError, ServiceError, UnknownModelError) as err:
        if isinstance(err, UnknownModelError) and name not in PUBLISHED:
            raise
        raise ModelAbsentError(f"the model {name!r} isn't here and can't be fetched: {err}", hint=err.hint) from err


@dataclass(frozen=True, slots=True)
class _Task:
    """One model to bring here."""

    name: str
    models_dir: Path
    listener: ProgressListener
    precision: str
    keep_weights: bool

    def fetch(self, hub: Hub, repository_name: str, revision: str | None) -> Checkpoint:
        """Fetch from the hub."""
        with inventory.model_lock(self.name, self.models_dir):
            repository = hub.repository(repository_name, revision)
            self._check_place(repository.id)
            files = _wanted(hub, repository, self.listener.note)
            license_ = weights_license(repository.id, repository.license)
            if here := self._whole(repository.id, repository.commit):
                return here
            staging = inventory.staging_dir(self.models_dir, self.name)
            partials = {file.name: file.partial(staging) for file in files}
            self._staging(keep=[*partials, *(path.name for path in partials.values())])
            have = [file for file in files if file.is_at(staging / file.name) or self._link(file, staging)]
            for file in have:
                partials[file.name].unlink(missing_ok=True)
            total, done = (sum(file.size for file in some) for some in (files, have))
            started = sum(path.stat().st_size for path in partials.values() if path.is_file())
            self.listener.note(
                f"fetching {repository.id}, revision {repository.commit}, {total} bytes ({size(total)}); "
                f"licence {_said(license_)}" + (f"; {size(done + started)} are here already" if done + started else "")
            )
            self._check_room(total - done - started, sum(file.size for file in files if file.name.endswith(_WEIGHTS)))

            def heard(received: int) -> None:
                nonlocal done
                done += received
                self.listener.step(done, total)

            for file in files:
                if file not in have:
                    hub.fetch(repository, file, staging, received=heard, note=self.listener.note)
                    self.listener.note(f"fetched {file.name}, {size(file.size)}")
                if file.name == _CONFIG:  # what can't be used isn't fetched
                    Shape.of(parse_config((staging / _CONFIG).read_bytes(), f"{_CONFIG} of {repository.id}"))
            return self._finish(staging, repository.id, repository.commit, license_)

    def take_in(self, folder: Path) -> Checkpoint:
        """Import a folder."""
        with inventory.model_lock(self.name, self.models_dir):
            source = open_checkpoint(self.name, folder)
            Shape.of(source.config)
            files = [source.tokenizer, *(folder / name for name in (_CONFIG, WEIGHTS_INDEX, *_BESIDE)), *source.weights]
            files = [path for path in files if path.is_file()]
            self._check_place(str(folder))
            total, weights = (sum(path.stat().st_size for path in some) for some in (files, source.weights))
            self.listener.note(f"importing {folder}, {total} bytes ({size(total)}); licence {_said(source.license)}")
            self._check_room(total if self.keep_weights else total - weights, weights)
            staging = self._staging(keep=())
            for path in files:
                if path in source.weights and not self.keep_weights:
                    _link_or_copy(path, staging / path.name)  # it goes again, so what it shares is never changed
                else:
                    shutil.copyfile(path, staging / path.name)
            return self._finish(staging, str(folder), None, source.license)

    def _finish(self, staging: Path, source: str, revision: str | None, license_: str | None) -> Checkpoint:
        """Make a model of the files, and give it its place."""
        draft = open_checkpoint(self.name, staging)
        old = self._old(draft.digest)
        graphs = inventory.prepared_graphs(old, old.directory) if old else {}
        known = old.manifest.fidelity if old and old.manifest else {}
        manifest = Manifest(
            source=source,
            revision=revision,
            license=license_,
            checkpoint=draft.digest,
            weights_kept=True,
            files={path.name: _known(path) for path in sorted(staging.iterdir())},
            tensors=draft.tensors().shapes,
            fidelity={precision: kl for precision, kl in known.items() if precision in graphs},
        )
        manifest.write(staging)
        for folder in graphs.values():
            place = staging / folder.directory.relative_to(self.models_dir / self.name)
            shutil.copytree(folder.directory, place, copy_function=_link_or_copy)
        registry.open_local(str(staging), precision=self.precision, note=self.listener.note).close()
        fidelity = self._fidelity(open_checkpoint(self.name, staging))
        manifest.model_copy(update={"weights_kept": self.keep_weights, "fidelity": fidelity}).write(staging)
        if not self.keep_weights:
            for path in draft.weights:
                path.unlink()
        self._swap(staging)
        return find_checkpoint(self.name, self.models_dir)

    def _fidelity(self, draft: Checkpoint) -> Mapping[str, float]:
        """Measure the precision while the float32 weights are at hand; graphs made for that alone go again."""
        known = draft.manifest.fidelity if draft.manifest else {}
        if self.precision in known:
            return known
        before = inventory.prepared_graphs(draft, draft.directory)
        try:
            return {**known, self.precision: measure(draft, self.precision, draft.directory, self.listener.note)}
        except MemoryNeededError as err:
            self.listener.note(f"how far {self.precision} is from {EXACT} isn't measured: {err}")
            return known
        finally:
            for precision, graphs in inventory.prepared_graphs(draft, draft.directory).items():
                if precision not in before:
                    shutil.rmtree(graphs.directory)

    def _whole(self, source: str, commit: str) -> Checkpoint | None:
        """Return the model if it is here as it is wanted, to the byte."""
        try:
            here = open_checkpoint(self.name, self.models_dir / self.name)
            if not here.manifest or (here.manifest.source, here.manifest.revision) != (source, commit):
                return None
            ready = inventory.prepared_graphs(here, here.directory)
            if self.precision not in ready or (self.keep_weights and not here.weights):
                return None
            self.listener.note(f"{self.name} is here, checking it")
            inventory.check(here, here.directory)
        except (CheckpointError, DamagedError):
            return None
        return here

    def _old(self, digest: str) -> Checkpoint | None:
        """Return the model that is here if it has the same weights."""
        try:
            here = open_checkpoint(self.name, self.models_dir / self.name)
        except CheckpointError:
            return None
        return here if here.manifest and here.digest == digest else None

    def _check_place(self, source: str) -> None:
        """Check that nothing lies there that came from elsewhere: it would be lost."""
        there = self.models_dir / self.name
        try:
            manifest = read_manifest(there)
        except CheckpointError:  # damaged: what it was can't be known, and pulling is what helps
            return
        if there.exists() and (manifest is None or manifest.source != source):
            raise UsageError(
                f"{there} is in the way, it came from {manifest.source if manifest else 'somewhere else'}",
                hint=f"move it away, or remove it with `musicgen model rm {self.name}`",
            )

    def _staging(self, *, keep: Sequence[str]) -> Path:
        """Make the folder that files gather in, and clear it but for those."""
        staging = inventory.staging_dir(self.models_dir, self.name)
        staging.mkdir(parents=True, exist_ok=True)
        for path in staging.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in keep:
                path.unlink()
        return staging

    def _link(self, file: RemoteFile, staging: Path) -> bool:
        """Take a file from the model that is here, if it is the same."""
        path = self.models_dir / self.name / file.name
        if not file.is_at(path):
            return False
        (staging / file.name).unlink(missing_ok=True)
        _link_or_copy(path, staging / file.name)
        return True

    def _check_room(self, to_write: int, weights: int) -> None:
        """Check that files and graphs fit; a graph takes as much as the weights at most."""
        needed = to_write + weights * (1 if self.precision == EXACT else 2)
        free = shutil.disk_usage(self.models_dir).free
        if needed > free:
            raise ModelsFolderError(
                f"the model {self.name!r} needs {size(needed)} of disk while it is prepared, "
                f"{size(free)} are free in {self.models_dir}",
                hint="XDG_DATA_HOME names another place" if os.name == "posix" else None,
            )

    def _swap(self, staging: Path) -> None:
        """Sync a whole folder and give it its name; what had the name goes."""
        for path in staging.rglob("*"):
            if path.is_file():
                with path.open("r+b") as file:  # Windows syncs only what may be written
                    atomic.sync(file.fileno())
        kept, old = self.models_dir / self.name, staging.with_name(f"{self.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if kept.exists():
            kept.rename(old)
        staging.rename(kept)
        shutil.rmtree(old, ignore_errors=True)


def _open_hub() -> Hub:
    # Read when the library is imported; without it, it says which programs are installed here, and asks the hub for a
    # list of agents to look for. Whoever wants that can set 0.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with needs("local"):
        from musicgen_cli.checkpoint.hub import Hub
    return Hub()


def _prepared(precision: str | None) -> str:
    """
    Return the precision that will be prepared.

    The bundled model is opened in it, for what can't run here isn't worth fetching.
    """
    asked: dict[str, Any] = {} if precision is None else {"precision": precision}
    engine = registry.open_local("nano", note=lambda _: None, **asked)
    engine.close()
    return str(engine.origin.precision)


def _wanted(hub: Hub, repository: Repository, note: Callable[[str], None]) -> list[RemoteFile]:
    """
    Choose what is fetched, small files first.

    Raises:
        CheckpointError: Something that is needed isn't there, or only as pickle.
    """
    files = repository.files
    names = [*_NEEDED, *(name for name in _BESIDE if name in files)]
    if WEIGHTS_FILE in files:
        names.append(WEIGHTS_FILE)
    elif WEIGHTS_INDEX in files:
        names += [
            WEIGHTS_INDEX,
            *parse_shard_index(hub.read(repository, files[WEIGHTS_INDEX], note), f"{WEIGHTS_INDEX} of {repository.id}"),
        ]
    elif pickles := sorted(name for name in files if Path(name).suffix in PICKLE_SUFFIXES):
        raise CheckpointError(
            f"{repository.id} has its weights only as {pickles[0]}, which is pickle and never fetched",
            hint=f"its owner can publish {WEIGHTS_FILE} beside it",
        )
    else:
        names.append(WEIGHTS_FILE)
    for name in names:
        if name not in files:
            raise CheckpointError(f"{repository.id} has no {name}", hint="a model needs config, tokenizer and weights")
    return [files[name] for name in names]


def _said(license_: str | None) -> str:
    if license_ is None:
        return "unknown"
    return f"{license_}: non-commercial use only" if "-nc" in license_.lower() else license_


def _known(path: Path) -> FileRecord:
    size, sha256 = size_and_sha256(path)
    return FileRecord(bytes=size, sha256=sha256)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; where that can't be done, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
