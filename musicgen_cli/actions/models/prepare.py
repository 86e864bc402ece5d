"""
Turns the files in a staging folder into an installed model.

The model is opened once, as every command will open it. That writes its graphs beside it, and proves that each tensor
is there in the right shape. The precision is measured while the float32 weights are there. If it is too far from them,
float32 is prepared in its place, and the weights are kept; else they are removed unless they are to be kept. Then the
folder takes its final name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.models.fidelity import MAX_KL, REFERENCE, in_words, measure
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.actions.models.staging import Staging, link_or_copy
from musicgen_cli.checkpoint.assembly import BASE_FOLDER, CODEC_FOLDER
from musicgen_cli.checkpoint.audio_encoder import has_audio_encoder
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from musicgen_cli.checkpoint.manifest import FileRecord, Manifest, size_and_sha256
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import registry
from musicgen_cli.engine.hardware import USED_WEIGHTS
from musicgen_cli.engine.onnx.graph_cache import NATIVE, NATIVE_VARIANT, prepare_encoder_graphs
from musicgen_cli.errors import CheckpointError, MemoryNeededError, ModelsFolderError


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
    fall_back: bool,
    note: Callable[[str], None],
) -> Checkpoint:
    """
    Prepare the model in a staging folder, and install it.

    Args:
        precision: The one to prepare. The installed model is loaded in it where no other is asked for.
        engine: For which it is prepared; None is the default of this machine.
        fall_back: Prepare float32 in its place if it turns out to be too far from that.
        note: Called with one line about each step that takes long, and about how near the precision is to float32.

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
        precision=precision,
    )
    manifest.write(staging.directory)
    for folder in graphs.values():
        target = staging.directory / folder.directory.relative_to(staging.installed)
        atomic.make_private_folder(target.parent)
        shutil.copytree(folder.directory, target, copy_function=link_or_copy)
    _build(staging, precision, engine, note)
    draft = open_checkpoint(staging.name, staging.directory)
    variant = needed_variant(draft, precision, engine)
    manifest = _measured(manifest, variant, draft, note)
    if fall_back and manifest.fidelity[variant] > MAX_KL and _replaced(staging, precision, variant, note):
        manifest = manifest.model_copy(update={"precision": REFERENCE})
        keep_weights = True
    manifest.model_copy(update={"weights_kept": keep_weights}).write(staging.directory)
    if not keep_weights:
        if has_audio_encoder(draft):
            prepare_encoder_graphs(draft, Shape.of(draft.config), cache_dir=staging.directory, note=note).close()
        for path in draft.weights:
            path.unlink()
        for part in (BASE_FOLDER, CODEC_FOLDER):
            shutil.rmtree(staging.directory / part, ignore_errors=True)
    staging.publish()
    return find_checkpoint(staging.name, staging.models_dir)


def needed_variant(checkpoint: Checkpoint, precision: str, engine: str | None) -> str:
    """Return the variant (`graph_cache.variant`) of a model that an engine uses; None is the default one."""
    backend = registry.BACKENDS[engine] if engine else registry.default_backend(checkpoint, precision)
    return NATIVE_VARIANT if backend.name == NATIVE else precision


def _build(staging: Staging, precision: str, engine: str | None, note: Callable[[str], None]) -> None:
    """Open the model, which writes its graphs beside it."""
    registry.open_local(str(staging.directory), engine=engine, precision=precision, note=note).close()


def _measured(manifest: Manifest, variant: str, draft: Checkpoint, note: Callable[[str], None]) -> Manifest:
    """Return the manifest with the fidelity of a variant, and say it."""
    fidelity = dict(manifest.fidelity)
    if variant not in fidelity:
        fidelity[variant] = measure(draft, variant, draft.directory, note)
    if variant != REFERENCE:
        note(in_words(manifest.precision or REFERENCE, fidelity[variant]))
    return manifest.model_copy(update={"fidelity": fidelity})


def _replaced(staging: Staging, precision: str, variant: str, note: Callable[[str], None]) -> bool:
    """Prepare float32 in place of a variant that is too far from it; where there is no room for it, return False."""
    draft = open_checkpoint(staging.name, staging.directory)
    try:
        staging.check_free_space(draft.tensors().float32_bytes(*USED_WEIGHTS))
        _build(staging, REFERENCE, None, note)
    except (ModelsFolderError, MemoryNeededError) as err:
        note(f"{precision} stays, because {REFERENCE} can't be prepared: {err}")
        return False
    shutil.rmtree(prepared_graphs(draft, draft.directory)[variant].directory)
    note(
        f"{REFERENCE} was prepared instead, and the model is loaded in it: exact, but larger and slower; "
        f"the weights are kept, so that `--precision {precision}` can still be tried"
    )
    return True


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
