"""
Brings a model onto this machine: from the hub, or from a folder.

The files are collected in a staging folder, and those from the hub are checked against the hashes that it lists. When a
pull is interrupted they stay there, and the next one downloads only what is missing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli import atomic
from musicgen_cli.actions.models import inventory
from musicgen_cli.actions.models.model_files import (
    Plan,
    is_weights,
    lacks_parts,
    local_files,
    plan_download,
    plan_missing_parts,
)
from musicgen_cli.actions.models.prepare import Provenance, install, needed_variant
from musicgen_cli.actions.models.staging import Staging, copy, link_or_copy
from musicgen_cli.actions.models.transfer import Transfer, graphs_size, partial_paths
from musicgen_cli.checkpoint.assembly import CONFIG, TOKENIZER, folder_weights, read_config
from musicgen_cli.checkpoint.checkpoint import (
    Checkpoint,
    hub_repository,
    local_name,
    named_folder,
    no_tokenizer,
    open_checkpoint,
    weights_license,
)
from musicgen_cli.checkpoint.hub_cache import find_snapshot
from musicgen_cli.checkpoint.manifest import read_manifest
from musicgen_cli.checkpoint.model_card import license_of
from musicgen_cli.checkpoint.names import NAMES, PUBLISHED, is_valid_name
from musicgen_cli.checkpoint.published import check_can_be_run
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.weight_files import Kind
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
    from musicgen_cli.checkpoint.repository import Repository


def pull(
    name: str,
    models_dir: Path,
    listener: ProgressListener,
    *,
    revision: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    keep_weights: bool = False,
) -> Checkpoint:
    """
    Download a model from the hub or import a folder, and prepare it.

    Args:
        name: One of PUBLISHED, OWNER/REPO, or a checkpoint's folder, which is imported under the folder's name.
        listener: Gets the bytes of a download as its steps, and a note on each thing that is done.
        revision: A branch, a tag or a commit on the hub; None is the main branch.
        precision: The one to prepare; None is the default of this machine.
        engine: The one to prepare the model for; None is the default of this machine.
        keep_weights: Whether the weights stay after the graphs were made from them.

    Raises:
        UsageError: The name is reserved or used by another model, or a revision is given for a folder.
        UnknownModelError: Neither the hub nor a folder has that name.
        AbsentError: This version has no such precision, the machine is offline, or the hub's model isn't public.
        CheckpointError: The files are no MusicGen checkpoint, or of a kind that isn't read.
        ModelBusyError: Another process is writing the model.
        ModelsFolderError: The models directory has no room or can't be written.
        MusicgenError: As for `Hub.repository` and `Hub.fetch`.
    """
    if name in NAMES and name not in PUBLISHED:
        raise UsageError(
            f"{name!r} can't be pulled", hint="nano comes with musicgen; auto stands for a model that is installed"
        )
    if (folder := named_folder(name)) is not None:
        return _import(
            folder.resolve(),
            models_dir,
            listener,
            revision=revision,
            precision=_usable(precision, engine),
            engine=engine,
            keep_weights=keep_weights,
        )
    repository_id = hub_repository(name)
    if repository_id is None:
        raise UnknownModelError(
            f"no model and no folder is called {name!r}",
            hint=f"name one of {', '.join(PUBLISHED)}, OWNER/REPO, or a folder",
        )
    check_can_be_run(repository_id)
    staging = Staging(local_name(repository_id), models_dir)
    task = _Pull(staging, listener, _usable(precision, engine), engine, keep_weights)
    with _open_hub() as hub:
        return task.download(hub, repository_id, revision)


def pull_absent(
    name: str,
    models_dir: Path,
    listener: ProgressListener,
    *,
    precision: str | None = None,
    engine: str | None = None,
    keep_weights: bool = False,
) -> None:
    """
    Pull a model that a command needs and that isn't installed.

    Raises:
        ModelAbsentError: It can't be downloaded.
        UnknownModelError: The hub doesn't have it, and it isn't one of PUBLISHED.
        MusicgenError: As for `pull`.
    """
    try:
        pull(name, models_dir, listener, precision=precision, engine=engine, keep_weights=keep_weights)
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
    precision: str | None
    engine: str | None  # None: the default of this machine
    keep_weights: bool

    @property
    def _prepared(self) -> str:
        """The precision that is prepared."""
        return self.precision or registry.DEFAULT_PRECISION

    def download(self, hub: Hub, repository_id: str, revision: str | None) -> Checkpoint:
        """Download the model from the hub, unless the same revision is installed and undamaged."""
        with self.staging.lock(hint="files that were downloaded completely are kept for the next pull"):
            _check_replaceable(self.staging, repository_id)
            plan = plan_download(hub, repository_id, revision, self.listener.note)
            if installed := self._up_to_date(plan.repository):
                return installed
            provenance = Provenance(plan.repository.id, plan.repository.commit, plan.license)
            self._download_files(hub, plan, provenance)
            return self._install(provenance)

    def import_folder(self, folder: Path, provenance: Provenance) -> Checkpoint:
        """Copy the model from a folder; what it needs from elsewhere is downloaded."""
        with self.staging.lock():
            _check_replaceable(self.staging, provenance.source)
            kind, weights = folder_weights(folder)
            names = local_files(folder, weights)
            if kind is Kind.TRANSFORMERS and TOKENIZER not in names:
                raise no_tokenizer(str(folder), {path.name for path in folder.iterdir()})
            sizes = {name: (folder / name).stat().st_size for name in names}
            total = sum(sizes.values())
            self.listener.note(
                f"importing {folder}, {total} bytes ({size(total)}); licence {_license_terms(provenance.license)}"
            )
            kept = {name for name in names if self.keep_weights or not is_weights(name)}
            heavy = sum(sizes[name] for name in names if is_weights(name))
            shape = Shape.of(read_config(folder)) if kind is Kind.TRANSFORMERS else None
            room = graphs_size(shape, self._prepared, heavy)
            self.staging.check_free_space(sum(sizes[name] for name in kept) + room)
            self.staging.clear()
            for name in names:
                target = self.staging.directory / name
                atomic.make_private_folder(target.parent)
                if name in kept:
                    copy(folder / name, target)
                else:
                    link_or_copy(folder / name, target)  # only read, and removed again
            if lacks_parts(folder, kind):
                self._download_parts(folder, kind)
            return self._install(provenance)

    def _download_files(self, hub: Hub, plan: Plan, provenance: Provenance) -> None:
        """Complete the files in the staging folder, of which an earlier pull may have left some."""
        self.staging.clear(keep={download.path for download in plan.downloads} | partial_paths(plan.downloads))
        transfer = Transfer(self.staging, plan.downloads, self._prepared)
        repository, total, present = plan.repository, transfer.total, transfer.present
        self.listener.note(
            f"downloading {repository.id}, revision {repository.commit}, {total} bytes ({size(total)}); "
            f"licence {_license_terms(provenance.license)}" + (f"; {size(present)} are here already" if present else "")
        )
        transfer.run(hub, self.listener)

    def _download_parts(self, folder: Path, kind: Kind) -> None:
        """Download what an imported folder needs from elsewhere."""
        with _open_hub() as hub:
            parts = plan_missing_parts(hub, folder, kind, self.listener.note)
            transfer = Transfer(self.staging, parts, self._prepared)
            if missing := transfer.total - transfer.present:
                self.listener.note(f"downloading them, {missing} bytes ({size(missing)})")
            transfer.run(hub, self.listener)

    def _install(self, provenance: Provenance) -> Checkpoint:
        directory = self.staging.directory
        draft = open_checkpoint(self.staging.name, directory)
        Shape.of(draft.config)
        # What is left without the weights is a model of its own: it needs what is now in the base model or in them.
        if not (directory / CONFIG).is_file():
            atomic.write(directory / CONFIG, f"{json.dumps(draft.config, indent=1)}\n".encode())
        if draft.tokenizer.parent != directory:
            link_or_copy(draft.tokenizer, directory / draft.tokenizer.name)
        return install(
            self.staging,
            provenance,
            self._prepared,
            engine=self.engine,
            keep_weights=self.keep_weights,
            fall_back=self.precision is None,
            note=self.listener.note,
        )

    def _up_to_date(self, repository: Repository) -> Checkpoint | None:
        """Return the installed model if it is of this revision, has what is to be prepared, and isn't damaged."""
        try:
            installed = open_checkpoint(self.staging.name, self.staging.installed)
            manifest = installed.manifest
            if not manifest or (manifest.source, manifest.revision) != (repository.id, repository.commit):
                return None
            graphs = inventory.prepared_graphs(installed, installed.directory)
            precision = self.precision or installed.precision or registry.DEFAULT_PRECISION
            is_prepared = needed_variant(installed, precision, self.engine) in graphs
            if not is_prepared or (self.keep_weights and not installed.weights):
                return None
            self.listener.note(f"{installed.name} is on this machine already; checking its files")
            inventory.check(installed, installed.directory)
        except (CheckpointError, DamagedError):
            return None
        return installed


def _import(
    folder: Path,
    models_dir: Path,
    listener: ProgressListener,
    *,
    revision: str | None,
    precision: str | None,
    engine: str | None,
    keep_weights: bool,
) -> Checkpoint:
    """Import a folder under its name, or a snapshot in the cache of huggingface_hub as the model that it is."""
    if revision is not None:
        raise UsageError("--revision is for models from the hub, not for a folder")
    if snapshot := find_snapshot(folder):
        folder, name = snapshot.directory, local_name(snapshot.repository)
        license_ = weights_license(snapshot.repository, license_of(folder / "README.md"))
        provenance = Provenance(snapshot.repository, snapshot.commit, license_)
    else:
        name = folder.name
        _check_importable(name)
        provenance = Provenance(str(folder), None, license_of(folder / "README.md"))
    task = _Pull(Staging(name, models_dir), listener, precision, engine, keep_weights)
    return task.import_folder(folder, provenance)


def _check_importable(name: str) -> None:
    """
    Check the name under which a folder would be imported.

    Raises:
        UsageError: It can't be that of an imported model.
    """
    if not is_valid_name(name) or name in NAMES:
        raise UsageError(
            f"an imported model can't be called {name!r}",
            hint="rename the folder to a name that is free, of letters, digits, '.', '-' and '_'",
        )


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
    if not os.environ.get("HF_ENDPOINT"):  # set to nothing, it would be a hub without an address
        os.environ.pop("HF_ENDPOINT", None)
    with needs("local"):
        from musicgen_cli.checkpoint.hub import Hub
    return Hub()


def _usable(precision: str | None, engine: str | None) -> str | None:
    """
    Return the precision, if a model can be opened in it here, so that none is downloaded in vain.

    Raises:
        AbsentError: This version has no such precision.
    """
    registry.open_local("nano", precision=precision, engine=engine, note=lambda _: None).close()
    return precision


def _license_terms(license_: str | None) -> str:
    if license_ is None:
        return "unknown"
    return f"{license_}: non-commercial use only" if "-nc" in license_.lower() else license_
