"""
Downloads the files of a plan into a staging folder.

Small files come first. Once they are there the config is checked, and the room is reckoned that the weights and the
graphs take, so that gigabytes aren't downloaded for a model that can't be run or doesn't fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli import atomic, foreign
from musicgen_cli.actions.models.fidelity import REFERENCE
from musicgen_cli.actions.models.model_files import Download, is_weights
from musicgen_cli.actions.models.staging import Staging
from musicgen_cli.checkpoint.assembly import BASE_FOLDER, CONFIG, parse_config
from musicgen_cli.checkpoint.bounds import CONFIG_BYTES
from musicgen_cli.checkpoint.checkpoint import local_name
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.sizes import graph_bytes
from musicgen_cli.checkpoint.weight_files import LANGUAGE_MODEL
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.hub import Hub


class Transfer:
    """Files to download into a staging folder, and how many of their bytes are there already."""

    def __init__(self, staging: Staging, downloads: tuple[Download, ...], precision: str) -> None:
        """
        Find out what is missing; a complete file is read once for this.

        Args:
            precision: Whose graphs will need room, too.

        Raises:
            OSError: The folder can't be read or written.
        """
        self._staging, self._downloads, self._precision = staging, downloads, precision
        self._missing = {download.path for download in downloads if not self._is_complete(download)}
        self.total = sum(download.file.size for download in downloads)
        self.present = sum(map(self._present, downloads))

    def run(self, hub: Hub, listener: ProgressListener) -> None:
        """
        Download what is missing.

        Raises:
            CheckpointError: The config is of another kind of model.
            ModelsFolderError: There is no room.
            OSError: A file can't be written.
            MusicgenError: As for `Hub.fetch`.
        """
        done = sum(download.file.size for download in self._downloads if download.path not in self._missing)

        def received(count: int) -> None:
            nonlocal done
            done += count
            listener.step(done, self.total)

        weights = [download for download in self._downloads if is_weights(download.file.name)]
        for download in self._downloads:
            if weights and download is weights[0]:
                self._check_before(weights)
            if download.path in self._missing:
                directory = self._staging.directory / download.folder
                atomic.make_private_folder(directory)
                hub.fetch(download.repository, download.file, directory, received=received, note=listener.note)
                listener.note(f"downloaded {download.path}, {size(download.file.size)}")

    def _is_complete(self, download: Download) -> bool:
        """Tell whether a file is here; one of another model that is installed with its weights is taken from it."""
        other = self._staging.models_dir / local_name(download.repository.id)
        return self._staging.has(download.file, download.folder, [other] if download.folder else [])

    def _present(self, download: Download) -> int:
        if download.path not in self._missing:
            return download.file.size
        partial = download.file.partial(self._staging.directory / download.folder)
        return partial.stat().st_size if partial.is_file() else 0

    def _check_before(self, weights: list[Download]) -> None:
        """Check the configs of models that are here by now, and the room for the rest."""
        shape = None
        for download in self._downloads:
            if download.file.name == CONFIG and download.folder in ("", BASE_FOLDER):
                content = foreign.read(self._staging.directory / download.path, CONFIG_BYTES)
                shape = Shape.of(parse_config(content, f"{CONFIG} of {download.repository.id}"))
        if any(download.file.name == LANGUAGE_MODEL for download in weights):
            shape = None  # the config that is here is that of another model, with its text encoder
        total = sum(download.file.size for download in weights)
        missing = total - sum(map(self._present, weights))
        self._staging.check_free_space(missing + graphs_size(shape, self._precision, total))


def graphs_size(shape: Shape | None, precision: str, weights: int) -> int:
    """
    Return about how many bytes the graphs take that preparing a precision may write.

    Args:
        shape: Of the model, if it is known yet.
        weights: Bytes of the weights, which bound the graphs otherwise, as none are smaller than float16.
    """
    precisions = {precision, REFERENCE}  # a pull falls back to REFERENCE if the other is too far from it
    if shape is None:
        return 2 * weights * len(precisions)
    return sum(graph_bytes(shape, int8=name != REFERENCE) for name in precisions)


def partial_paths(downloads: tuple[Download, ...]) -> set[str]:
    """Return the paths in the staging folder of partial downloads."""
    return {Path(download.folder, download.file.partial(Path()).name).as_posix() for download in downloads}
