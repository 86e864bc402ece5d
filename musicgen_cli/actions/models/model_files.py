"""
Which files of repositories and folders belong to a model: config, tokenizer, weights, and a few that describe it.

An adapter needs its base model, too, and a model of audiocraft's a text encoder and perhaps a codec from elsewhere.
These come from repositories of their own, into the folders `base` and `codec` (checkpoint/assembly.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from musicgen_cli import foreign
from musicgen_cli.checkpoint.assembly import BASE_FOLDER, CODEC_FOLDER, CONFIG, TOKENIZER
from musicgen_cli.checkpoint.bounds import JSON_BYTES
from musicgen_cli.checkpoint.checkpoint import hub_repository, no_tokenizer, weights_license
from musicgen_cli.checkpoint.lora import parse_adapter_config
from musicgen_cli.checkpoint.published import CONVERSIONS, check_can_be_run
from musicgen_cli.checkpoint.weight_files import ADAPTER_CONFIG, CODEC, LANGUAGE_MODEL, Kind, choose_weights
from musicgen_cli.errors import CheckpointError, UnknownModelError

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.hub import Hub
    from musicgen_cli.checkpoint.repository import RemoteFile, Repository

_OPTIONAL = (
    "README.md",  # the model card, with the licence
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_DESCRIPTION_BYTES = 1_000_000  # of a state_dict.bin; the description of its tensors comes first, large's has 0.3 MB
_MAX_POINTER_BYTES = 100_000  # a compression_state_dict.bin that only names a codec has 1 kB, others have megabytes

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Download:
    """One file to download, and where it goes."""

    repository: Repository
    file: RemoteFile
    folder: str = ""  # in the model's folder; empty is that folder itself

    @property
    def path(self) -> str:
        """Where it goes, in the model's folder."""
        return f"{self.folder}/{self.file.name}" if self.folder else self.file.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pull downloads."""

    repository: Repository  # of the model itself, in the revision that is taken
    license: str | None  # of the weights, with that of a base model
    downloads: tuple[Download, ...]  # small files first


def plan_download(hub: Hub, repository: str, revision: str | None, note: Note) -> Plan:
    """
    Choose the files that are downloaded for a model of the hub.

    Args:
        repository: OWNER/REPO.
        note: Called with one line about what is taken from elsewhere, and for each request that is repeated.

    Raises:
        CheckpointError: A file that a model needs isn't there, the weights are of a kind that isn't read, or it is
            known that the model can't be run.
        MusicgenError: As for `Hub.repository` and `Hub.read`.
    """
    planner = _Planner(hub, note)
    found = planner.find(repository, revision)
    kind, downloads = planner.model(found)
    license_ = weights_license(found.id, found.license)
    base = next((download.repository for download in downloads if download.folder == BASE_FOLDER), None)
    if kind is Kind.ADAPTER and base is not None:
        licenses = (license_, weights_license(base.id, base.license))
        license_ = " AND ".join(dict.fromkeys(name for name in licenses if name)) or None
    return Plan(found, license_, tuple(downloads))


def plan_missing_parts(hub: Hub, folder: Path, kind: Kind, note: Note) -> tuple[Download, ...]:
    """
    Choose the files that are downloaded beside a folder, whose model lacks a base model, a text encoder or a codec.

    Raises:
        CheckpointError: As for `plan_download`.
        OSError: The folder can't be read.
        MusicgenError: As for `plan_download`.
    """

    def read(name: str) -> bytes:
        is_large = name == CODEC and (folder / name).stat().st_size > _MAX_POINTER_BYTES
        return b"" if is_large else foreign.read(folder / name, JSON_BYTES)

    return tuple(_small_first(_Planner(hub, note).parts(kind, str(folder), read)))


def lacks_parts(folder: Path, kind: Kind) -> bool:
    """Tell whether a folder's model needs files from elsewhere that aren't in it yet."""
    return kind is not Kind.TRANSFORMERS and not (folder / BASE_FOLDER).is_dir()


def local_files(folder: Path, weights: tuple[str, ...]) -> list[str]:
    """
    Choose the files of a folder that are imported, as paths in it.

    Args:
        weights: The names of its own weights.
    """
    names = [CONFIG, TOKENIZER, ADAPTER_CONFIG, *_OPTIONAL, *weights]
    parts = [
        str(path.relative_to(folder).as_posix())
        for part in (BASE_FOLDER, CODEC_FOLDER)
        for path in sorted((folder / part).glob("*"))
    ]
    return [name for name in (*names, *parts) if (folder / name).is_file()]


def is_weights(path: str) -> bool:
    """Tell whether a file of these, or one of another model beside it, is removed unless weights are kept."""
    return "/" in path or PurePosixPath(path).suffix in {".safetensors", ".bin"}


@dataclass(frozen=True, slots=True)
class _Planner:
    """Chooses files by what repositories list, and by the small files that say more."""

    hub: Hub
    note: Note
    contents: dict[tuple[str, ...], bytes] = field(default_factory=dict)  # of small files, by repository, commit, name

    def find(self, name: str, revision: str | None = None) -> Repository:
        """List a repository; where its main branch has pickle only, in the revision that is known to have better."""
        check_can_be_run(name)
        listed = self.hub.repository(name, revision)
        if listed.current_id != listed.id:
            self.note(f"{listed.id} is now called {listed.current_id}")
        if revision is not None or name not in CONVERSIONS:
            return listed
        if any(file.endswith(".safetensors") for file in self._weights(listed)[1]):
            return listed
        conversion, commit = CONVERSIONS[name]
        try:
            converted = self.hub.repository(name, conversion)
        except UnknownModelError:
            return listed
        if not converted.commit.startswith(commit):  # somebody has changed it since
            return listed
        self.note(f"{name} has pickle on its main branch; taking the same weights as safetensors from {conversion}")
        return converted

    def model(self, repository: Repository) -> tuple[Kind, list[Download]]:
        """Choose the files of a model, with those that it needs from other repositories, small ones first."""
        kind, weights = self._weights(repository)
        optional = [name for name in _OPTIONAL if name in repository.names]
        if kind is Kind.TRANSFORMERS:
            self._check_complete(repository)
            names = [CONFIG, TOKENIZER, *optional, *weights]
            return kind, [Download(repository, self.hub.file(repository, name)) for name in names]
        if kind is Kind.AUDIOCRAFT:
            self._check_training(repository)
        own = [name for name in (CONFIG, TOKENIZER, ADAPTER_CONFIG) if name in repository.names]
        downloads = [Download(repository, self.hub.file(repository, name)) for name in (*own, *optional, *weights)]
        parts = self.parts(kind, repository.id, lambda name: self._read(repository, name))
        return kind, _small_first([*downloads, *parts])

    def parts(self, kind: Kind, place: str, read: Callable[[str], bytes]) -> Iterator[Download]:
        """
        Choose the files that a model needs from other repositories.

        Args:
            place: Where the model is, for messages.
            read: Returns the bytes of one of its files; empty if they are too many to name another repository.
        """
        if kind is Kind.ADAPTER:
            base = parse_adapter_config(read(ADAPTER_CONFIG), place).base
            self.note(f"{place} is an adapter of {base[:80]}")
            yield from self._base(place, base)
        elif kind is Kind.AUDIOCRAFT:
            from musicgen_cli.checkpoint.audiocraft import BASE

            yield from self._codec(place, read(CODEC))
            self.note(f"the text encoder and the tokenizer of {place} are those of {BASE}")
            yield from self._base(place, BASE)

    def _base(self, place: str, name: str) -> list[Download]:
        repository = hub_repository(name)
        if repository is None:
            raise CheckpointError(
                f"{place} is an adapter of {name[:80]!r}, which is no repository of the hub",
                hint="its base model is a folder of whoever trained it",
            )
        found = self.find(repository)
        if self._weights(found)[0] is not Kind.TRANSFORMERS:
            raise CheckpointError(f"{repository}, the base of {place}, isn't a model in transformers' layout")
        _, downloads = self.model(found)
        return [replace(download, folder=BASE_FOLDER) for download in downloads if download.file.name not in _OPTIONAL]

    def _codec(self, place: str, content: bytes) -> Iterator[Download]:
        """Choose the files of the codec that a compression_state_dict.bin names, none if it holds one."""
        import numpy as np

        from musicgen_cli.checkpoint.audiocraft import codec_repository
        from musicgen_cli.checkpoint.torch_file import parse_torch_file

        if not content:
            return
        name = codec_repository(parse_torch_file(np.frombuffer(content, np.uint8), CODEC))
        if name is None:
            return
        self.note(f"the codec of {place} is that of {name}")
        repository = self.hub.repository(name, None)
        names = (CODEC,) if CODEC in repository.names else (CONFIG, *self._weights(repository)[1])
        for file in names:
            yield Download(repository, self.hub.file(repository, file), CODEC_FOLDER)

    def _check_training(self, repository: Repository) -> None:
        """Check how a language model of audiocraft's was trained, by the beginning of its gigabytes."""
        from musicgen_cli.checkpoint.audiocraft import check_training
        from musicgen_cli.checkpoint.torch_file import describe_start

        root = describe_start(self.hub.read_start(repository, LANGUAGE_MODEL, _DESCRIPTION_BYTES))
        if root is not None:
            check_training(root, f"{LANGUAGE_MODEL} of {repository.id}")

    def _weights(self, repository: Repository) -> tuple[Kind, tuple[str, ...]]:
        """Choose the files of weights, after the index that names them."""
        chosen = choose_weights(repository.names, lambda name: self._read(repository, name), repository.id)
        return chosen.kind, (chosen.index, *chosen.names) if chosen.index else chosen.names

    def _read(self, repository: Repository, name: str) -> bytes:
        file = self.hub.file(repository, name)
        if name == CODEC and file.size > _MAX_POINTER_BYTES:
            return b""
        key = repository.id, repository.commit, name
        if key not in self.contents:
            self.contents[key] = self.hub.read(repository, file, self.note)
        return self.contents[key]

    def _check_complete(self, repository: Repository) -> None:
        if CONFIG not in repository.names:
            raise CheckpointError(f"{repository.id} has no {CONFIG}", hint="is it a model of MusicGen's?")
        if TOKENIZER not in repository.names:
            raise no_tokenizer(repository.id, repository.names)


def _small_first(downloads: Iterable[Download]) -> list[Download]:
    return sorted(downloads, key=lambda download: is_weights(download.file.name))
