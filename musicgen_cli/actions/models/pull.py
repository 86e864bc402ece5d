"""
Brings a model onto this machine: from the hub, or from a folder.

The files are collected in a staging folder, and those from the hub are checked against the hashes that it lists. When a
pull is interrupted they stay there, and the next one downloads only what is missing. Pickle is never downloaded.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgen_cli.actions.models import inventory
from musicgen_cli.actions.models.fidelity import REFERENCE
from musicgen_cli.actions.models.model_files import CONFIG, is_weights, local_files, remote_files
from musicgen_cli.actions.models.prepare import Provenance, install
from musicgen_cli.actions.models.staging import Staging, link_or_copy
from musicgen_cli.checkpoint.checkpoint import (
    Checkpoint,
    hub_repository,
    local_name,
    named_folder,
    open_checkpoint,
    parse_config,
    weights_license,
)
from musicgen_cli.checkpoint.manifest import read_manifest
from musicgen_cli.checkpoint.names import NAMES, PUBLISHED, is_valid_name
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.errors import (
    CheckpointError,
    DamagedError,
    ModelAbsentError,
    ServiceError,
    ServiceUnreachableError,
    UnknownModelError,
    UsageError,
)
from musicgen_cli.extras import needs
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.hub import Hub
    from musicgen_cli.checkpoint.repository import RemoteFile, Repository


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
    Download a model from the hub or import a folder, and prepare it.

    Args:
        name: One of PUBLISHED, OWNER/REPO, or a checkpoint's folder, which is imported under the folder's name.
        listener: Gets the bytes of a download as its steps, and a note on each thing that is done.
        revision: A branch, a tag or a commit on the hub; None is the main branch.
        precision: The one to prepare; None is the default of this machine.
        keep_weights: Whether the weights stay after the graphs were made from them.

    Raises:
        UsageError: The name is reserved or used by another model, or a revision is given for a folder.
        UnknownModelError: Neither the hub nor a folder has that name.
        AbsentError: This version has no such precision, the machine is offline, or the hub's model isn't public.
        CheckpointError: The files are no MusicGen checkpoint in safetensors.
        ModelBusyError: Another process is writing the model.
        ModelsFolderError: The models directory has no room or can't be written.
        MusicgenError: As for `Hub.repository` and `Hub.fetch`.
    """
    if name in NAMES and name not in PUBLISHED:
        raise UsageError(
            f"{name!r} can't be pulled", hint="nano comes with musicgen; auto stands for a model that is installed"
        )
    if (folder := named_folder(name)) is not None:
        folder = folder.resolve()
        _check_importable(folder.name, revision)
        staging = Staging(folder.name, models_dir)
        return _Pull(staging, listener, _usable_precision(precision), keep_weights).import_folder(folder)
    repository_id = hub_repository(name)
    if repository_id is None:
        raise UnknownModelError(
            f"no model and no folder is called {name!r}",
            hint=f"name one of {', '.join(PUBLISHED)}, OWNER/REPO, or a folder",
        )
    staging = Staging(local_name(repository_id), models_dir)
    task = _Pull(staging, listener, _usable_precision(precision), keep_weights)
    with _open_hub() as hub:
        return task.download(hub, repository_id, revision)


def pull_absent(
    name: str, models_dir: Path, listener: ProgressListener, *, precision: str | None = None, keep_weights: bool = False
) -> None:
    """
    Pull a model that a command needs and that isn't installed.

    Raises:
        ModelAbsentError: It can't be downloaded.
        UnknownModelError: The hub doesn't have it, and it isn't one of PUBLISHED.
        MusicgenError: As for `pull`.
    """
    try:
        pull(name, models_dir, listener, precision=precision, keep_weights=keep_weights)
    except (ServiceUnreachableError, ServiceError, UnknownModelError) as err:
        if isinstance(err, UnknownModelError) and name not in PUBLISHED:
            raise
        raise ModelAbsentError(
            f"the model {name!r} is not on this machine and can't be downloaded: {err}", hint=err.hint
        ) from err


@dataclass(frozen=True, slots=True)
class _Pull:
    """One model to bring onto this machine."""

    staging: Staging
    listener: ProgressListener
    precision: str
    keep_weights: bool

    def download(self, hub: Hub, repository_id: str, revision: str | None) -> Checkpoint:
        """Download the model from the hub, unless the same revision is installed and undamaged."""
        with self.staging.lock(hint="files that were downloaded completely are kept for the next pull"):
            repository = hub.repository(repository_id, revision)
            _check_replaceable(self.staging, repository.id)
            files = remote_files(hub, repository, self.listener.note)
            if installed := self._up_to_date(repository):
                return installed
            provenance = Provenance(
                repository.id, repository.commit, weights_license(repository.id, repository.license)
            )
            self._download_files(hub, repository, files, provenance)
            return self._install(provenance)

    def import_folder(self, folder: Path) -> Checkpoint:
        """Copy the model from a folder."""
        with self.staging.lock():
            source = open_checkpoint(self.staging.name, folder)
            Shape.of(source.config)
            files = local_files(source)
            _check_replaceable(self.staging, str(folder))
            total, weights = (sum(path.stat().st_size for path in paths) for paths in (files, source.weights))
            provenance = Provenance(str(folder), None, source.license)
            self.listener.note(
                f"importing {folder}, {total} bytes ({size(total)}); licence {_license_terms(source.license)}"
            )
            self.staging.check_free_space(
                (total if self.keep_weights else total - weights) + self._graphs_size(weights)
            )
            self.staging.clear()
            for path in files:
                if path in source.weights and not self.keep_weights:
                    link_or_copy(path, self.staging.directory / path.name)  # only read, and removed again
                else:
                    shutil.copyfile(path, self.staging.directory / path.name)
            return self._install(provenance)

    def _download_files(
        self, hub: Hub, repository: Repository, files: list[RemoteFile], provenance: Provenance
    ) -> None:
        """Complete the files in the staging folder; the config is checked before the weights are downloaded."""
        partials = [file.partial(self.staging.directory) for file in files]
        self.staging.clear(keep={file.name for file in files} | {path.name for path in partials})
        missing = [file for file in files if not self.staging.has(file)]
        total = sum(file.size for file in files)
        done = total - sum(file.size for file in missing)
        present = done + sum(path.stat().st_size for path in partials if path.is_file())
        self.listener.note(
            f"downloading {repository.id}, revision {repository.commit}, {total} bytes ({size(total)}); "
            f"licence {_license_terms(provenance.license)}" + (f"; {size(present)} are here already" if present else "")
        )
        weights = sum(file.size for file in files if is_weights(file.name))
        self.staging.check_free_space(total - present + self._graphs_size(weights))

        def received(count: int) -> None:
            nonlocal done
            done += count
            self.listener.step(done, total)

        for file in files:
            if file in missing:
                hub.fetch(repository, file, self.staging.directory, received=received, note=self.listener.note)
                self.listener.note(f"downloaded {file.name}, {size(file.size)}")
            if file.name == CONFIG:
                config = (self.staging.directory / CONFIG).read_bytes()
                Shape.of(parse_config(config, f"{CONFIG} of {repository.id}"))

    def _install(self, provenance: Provenance) -> Checkpoint:
        return install(
            self.staging, provenance, self.precision, keep_weights=self.keep_weights, note=self.listener.note
        )

    def _up_to_date(self, repository: Repository) -> Checkpoint | None:
        """Return the installed model if it is of this revision, has what is to be prepared, and isn't damaged."""
        try:
            installed = open_checkpoint(self.staging.name, self.staging.installed)
            manifest = installed.manifest
            if not manifest or (manifest.source, manifest.revision) != (repository.id, repository.commit):
                return None
            graphs = inventory.prepared_graphs(installed, installed.directory)
            if self.precision not in graphs or (self.keep_weights and not installed.weights):
                return None
            self.listener.note(f"{installed.name} is on this machine already; checking its files")
            inventory.check(installed, installed.directory)
        except (CheckpointError, DamagedError):
            return None
        return installed

    def _graphs_size(self, weights: int) -> int:
        """Bound the bytes of the graphs that are written: those of a precision take at most as much as the weights."""
        return weights * (1 if self.precision == REFERENCE else 2)  # REFERENCE is made too, to compare with


def _check_importable(name: str, revision: str | None) -> None:
    """
    Check the name under which a folder would be imported, and that no revision is given for it.

    Raises:
        UsageError: The name can't be that of an imported model, or there is a revision.
    """
    if not is_valid_name(name) or name in NAMES:
        raise UsageError(
            f"an imported model can't be called {name!r}",
            hint="rename the folder to a name that is free, of letters, digits, '.', '-' and '_'",
        )
    if revision is not None:
        raise UsageError("--revision is for models from the hub, not for a folder")


def _check_replaceable(staging: Staging, source: str) -> None:
    """
    Check that no model from elsewhere has the name: it would be lost.

    Raises:
        UsageError: One has.
    """
    try:
        manifest = read_manifest(staging.installed)
    except CheckpointError:  # its source can't be read; a pull is what repairs it
        return
    if staging.installed.exists() and (manifest is None or manifest.source != source):
        raise UsageError(
            f"{staging.installed} exists already, and came from {manifest.source if manifest else 'elsewhere'}",
            hint=f"move it away, or remove it with `musicgen model rm {staging.name}`",
        )


def _open_hub() -> Hub:
    # huggingface_hub reads this when it is imported. Without it, it sends which programs are installed here, and asks
    # the hub for a list of coding assistants to look for. A user who wants that sets it to 0.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with needs("local"):
        from musicgen_cli.checkpoint.hub import Hub
    return Hub()


def _usable_precision(precision: str | None) -> str:
    """
    Return the precision that will be prepared; None stands for this machine's default.

    The bundled model is opened in it first, so that a model which can't run here isn't downloaded.

    Raises:
        AbsentError: This version has no such precision.
    """
    options: dict[str, Any] = {} if precision is None else {"precision": precision}
    engine = registry.open_local("nano", note=lambda _: None, **options)
    engine.close()
    return str(engine.origin.precision)


def _license_terms(license_: str | None) -> str:
    if license_ is None:
        return "unknown"
    return f"{license_}: non-commercial use only" if "-nc" in license_.lower() else license_
