"""
Turns the files in a staging folder into an installed model.

The model is opened once, as every command will open it. That writes its graphs beside it, and proves that each tensor
is there in the right shape. The precision is measured while the float32 weights are there; then these are removed
unless they are to be kept, and the folder takes its final name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.models.fidelity import REFERENCE, measure
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.actions.models.staging import Staging, link_or_copy
from musicgen_cli.checkpoint.assembly import BASE_FOLDER, CODEC_FOLDER
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from musicgen_cli.checkpoint.manifest import FileRecord, Manifest, size_and_sha256
from musicgen_cli.engine import registry
from musicgen_cli.errors import CheckpointError, MemoryNeededError


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model's files come from."""

    source: str  # OWNER/REPO, or a folder
    revision: str | None  # the commit; None for a folder
    license: str | None  # of the weights; None is unknown


def install(
    staging: Staging, provenance: Provenance, precision: str, *, keep_weights: bool, note: Callable[[str], None]
) -> Checkpoint:
    """
    Prepare the model in a staging folder, and install it.

    Args:
        note: Called with one line about each step that takes long.

    Raises:
        CheckpointError: The files are damaged, or not a model that is supported.
        EngineError: The model can't be run.
        OSError: The folder can't be written.
    """
    draft = open_checkpoint(staging.name, staging.directory)
    previous = _installed_with_digest(staging, draft.digest)
    graphs = prepared_graphs(previous, previous.directory) if previous else {}
    fidelity = previous.manifest.fidelity if previous and previous.manifest else {}
    manifest = Manifest(
        source=provenance.source,
        revision=provenance.revision,
        license=provenance.license,
        checkpoint=draft.digest,
        weights_kept=True,
        files={
            path.relative_to(staging.directory).as_posix(): _record(path)
            for path in sorted(staging.directory.rglob("*"))
            if path.is_file()
        },
        tensors=draft.tensors().shapes,
        fidelity={measured: kl for measured, kl in fidelity.items() if measured in graphs},
    )
    manifest.write(staging.directory)
    for folder in graphs.values():
        target = staging.directory / folder.directory.relative_to(staging.installed)
        atomic.make_private_folder(target.parent)
        shutil.copytree(folder.directory, target, copy_function=link_or_copy)
    registry.open_local(str(staging.directory), precision=precision, note=note).close()
    fidelity = _with_fidelity(open_checkpoint(staging.name, staging.directory), precision, note)
    manifest.model_copy(update={"weights_kept": keep_weights, "fidelity": fidelity}).write(staging.directory)
    if not keep_weights:
        for path in draft.weights:
            path.unlink()
        for part in (BASE_FOLDER, CODEC_FOLDER):
            shutil.rmtree(staging.directory / part, ignore_errors=True)
    staging.publish()
    return find_checkpoint(staging.name, staging.models_dir)


def _with_fidelity(draft: Checkpoint, precision: str, note: Callable[[str], None]) -> Mapping[str, float]:
    """Return the measured precisions with this one; graphs that only the measurement needed are removed again."""
    measured = draft.manifest.fidelity if draft.manifest else {}
    if precision in measured:
        return measured
    before = prepared_graphs(draft, draft.directory)
    try:
        return {**measured, precision: measure(draft, precision, draft.directory, note)}
    except MemoryNeededError as err:
        note(f"the difference of {precision} from {REFERENCE} can't be measured: {err}")
        return measured
    finally:
        for prepared, graphs in prepared_graphs(draft, draft.directory).items():
            if prepared not in before:
                shutil.rmtree(graphs.directory)


def _installed_with_digest(staging: Staging, digest: str) -> Checkpoint | None:
    """Return the installed model of this name if it has the same weights: its graphs can be used again."""
    try:
        installed = open_checkpoint(staging.name, staging.installed)
    except CheckpointError:
        return None
    return installed if installed.manifest and installed.digest == digest else None


def _record(path: Path) -> FileRecord:
    size, sha256 = size_and_sha256(path)
    return FileRecord(bytes=size, sha256=sha256)
