"""Nine mistakes that a store could make, each put into this process by one call, to be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.store import ArtifactDraft, Store, journal
from musicgen_cli.store.artifacts import Artifact
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.journal import Appender


def _never_syncs(what: Callable[[Path], bool]) -> Callable[[], None]:
    def seed() -> None:
        real = atomic.sync

        def sync(fd: int) -> None:
            if not what(Path(f"/proc/self/fd/{fd}").readlink()):
                real(fd)

        atomic.sync = sync

    return seed


def _writes_the_index_first() -> None:
    put_blob, put = Blobs.put, Store.put

    def put_in_wrong_order(self: Store, wav: bytes, draft: ArtifactDraft) -> Artifact:
        Blobs.put = lambda self, digest, data: None
        Blobs.holds = lambda self, digest: True
        artifact = put(self, wav, draft)
        put_blob(Blobs(self.root), artifact.digest, wav)
        return artifact

    Store.put = put_in_wrong_order


def _trusts_what_is_there() -> None:
    Blobs.is_intact = Blobs.holds


def _never_seals() -> None:
    journal.seal = lambda fd: None


def _syncs_the_directory_after_the_first_line() -> None:
    append, sync_directory = Appender.append, atomic.sync_directory

    def append_then_sync(self: Appender, lines: Sequence[bytes]) -> None:
        atomic.sync_directory = lambda path, *, follow=False: None
        try:
            append(self, lines)
        finally:
            atomic.sync_directory = sync_directory
        if not self.snapshot.size:
            sync_directory(self._root, follow=True)

    Appender.append = append_then_sync


def _syncs_only_what_it_made() -> None:
    put = Blobs.put

    def put_if_absent(self: Blobs, digest: Digest, data: bytes) -> None:
        if not self.is_intact(digest):
            put(self, digest, data)

    Blobs.put = put_if_absent


BUGS = {
    "no file fsync": _never_syncs(lambda path: path.name.startswith(".tmp-")),
    "no directory fsync": _never_syncs(Path.is_dir),
    "no index fsync": _never_syncs(lambda path: path.name == "index.jsonl"),
    "no fsync of blobs": _never_syncs(lambda path: path.name == "blobs"),
    "index before blob": _writes_the_index_first,
    "existing blob trusted": _trusts_what_is_there,
    "torn line not sealed": _never_seals,
    "directory fsync after first line": _syncs_the_directory_after_the_first_line,
    "fsync only by who made it": _syncs_only_what_it_made,
}
