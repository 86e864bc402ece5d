"""Nine bugs that a store could have; a call puts one of them into this process, so that a test can show it finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.store import ArtifactDraft, Store, journal
from musicgen_cli.store.artifacts import Artifact
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.journal import Appender


def _replace(owner: object, name: str, function: Callable[..., object]) -> None:
    setattr(owner, name, function)


def _never_syncs(matches: Callable[[Path], bool]) -> Callable[[], None]:
    """Make the bug that files or directories whose path matches are not synced."""

    def seed() -> None:
        real_sync = atomic.sync

        def sync(fd: int) -> None:
            if not matches(Path(f"/proc/self/fd/{fd}").readlink()):
                real_sync(fd)

        _replace(atomic, "sync", sync)

    return seed


def _writes_the_index_first() -> None:
    put_blob, put = Blobs.put, Store.put

    def put_in_wrong_order(self: Store, wav: bytes, draft: ArtifactDraft) -> Artifact:
        _replace(Blobs, "put", lambda self, digest, data: None)
        _replace(Blobs, "holds", lambda self, digest: True)
        artifact = put(self, wav, draft)
        put_blob(Blobs(self.root), artifact.digest, wav)
        return artifact

    _replace(Store, "put", put_in_wrong_order)


def _trusts_an_existing_blob() -> None:
    _replace(Blobs, "is_intact", Blobs.holds)


def _never_seals() -> None:
    _replace(journal, "seal", lambda fd: None)


def _syncs_the_directory_after_the_first_line() -> None:
    append, sync_directory = Appender.append, atomic.sync_directory

    def append_then_sync(self: Appender, lines: Sequence[bytes]) -> None:
        postponed: list[Path] = []
        _replace(atomic, "sync_directory", lambda path, *, follow=False: postponed.append(path))
        try:
            append(self, lines)
        finally:
            _replace(atomic, "sync_directory", sync_directory)
        for path in postponed:
            sync_directory(path, follow=True)

    _replace(Appender, "append", append_then_sync)


def _syncs_only_what_it_wrote() -> None:
    put = Blobs.put

    def put_if_absent(self: Blobs, digest: Digest, data: bytes) -> None:
        if not self.is_intact(digest):
            put(self, digest, data)

    _replace(Blobs, "put", put_if_absent)


BUGS = {
    "no file fsync": _never_syncs(lambda path: path.name.startswith(".tmp-")),
    "no directory fsync": _never_syncs(Path.is_dir),
    "no index fsync": _never_syncs(lambda path: path.name == "index.jsonl"),
    "no fsync of blobs": _never_syncs(lambda path: path.name == "blobs"),
    "index before blob": _writes_the_index_first,
    "existing blob trusted": _trusts_an_existing_blob,
    "torn line not sealed": _never_seals,
    "directory fsync after first line": _syncs_the_directory_after_the_first_line,
    "fsync only by the writer of a blob": _syncs_only_what_it_wrote,
}
