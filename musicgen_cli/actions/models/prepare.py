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

from musicgen_cli.actions.models.fidelity import REFERENCE, measure
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.actions.models.staging import Staging, link_or_copy
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from musicgen_cli.checkpoint.manifest import FileRecord, Manifest, size_and_sha256
from musicgen_cli.engine import registry
from musicgen_cli.engine.onnx.graph_cache import NATIVE, NATIVE_VARIANT
from musicgen_cli.errors import CheckpointError, MemoryNeededError


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model's files come from."""

    source: str  # OWNER/REPO, or a folder
    revision: str | None  # the commit; None for a folder
    license: str | None  # of the weights; None is unknown


def install(
    staging: Staging,
    provenance: Provenance,
    precision: str,
    *,
    engine: str | None,
    keep_weights: bool,
    note: Callable[[str], None],
) -> Checkpoint:
    """
    Prepare the model in a staging folder, and install it.

    Args:
        engine: For which it is prepared; None is the default of this machine.
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
        files={path.name: _record(path) for path in sorted(staging.directory.iterdir())},
        tensors=draft.tensors().shapes,
        fidelity={measured: kl for measured, kl in fidelity.items() if measured in graphs},
    )
    manifest.write(staging.directory)
    for folder in graphs.values():
        target = staging.directory / folder.directory.relative_to(staging.installed)
        shutil.copytree(folder.directory, target, copy_function=link_or_copy)
    variant = needed_variant(draft, precision, engine)
    registry.open_local(str(staging.directory), engine=engine, precision=precision, note=note).close()
    fidelity = _with_fidelity(open_checkpoint(staging.name, staging.directory), variant, note)
    manifest.model_copy(update={"weights_kept": keep_weights, "fidelity": fidelity}).write(staging.directory)
    if not keep_weights:
        for path in draft.weights:
            path.unlink()
    staging.publish()
    return find_checkpoint(staging.name, staging.models_dir)


def needed_variant(checkpoint: Checkpoint, precision: str, engine: str | None) -> str:
    """Return the variant (`graph_cache.variant`) of a model that an engine uses; None is the default one."""
    backend = registry.BACKENDS[engine] if engine else registry.default_backend(checkpoint, precision)
    return NATIVE_VARIANT if backend.name == NATIVE else precision


def _with_fidelity(draft: Checkpoint, variant: str, note: Callable[[str], None]) -> Mapping[str, float]:
    """Return the measured variants with this one; graphs that only the measurement needed are removed again."""
    measured = draft.manifest.fidelity if draft.manifest else {}
    if variant in measured:
        return measured
    before = prepared_graphs(draft, draft.directory)
    try:
        return {**measured, variant: measure(draft, variant, draft.directory, note)}
    except MemoryNeededError as err:
        note(f"the difference of {variant} from {REFERENCE} can't be measured: {err}")
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
