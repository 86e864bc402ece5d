"""The store on whatever platform runs the tests: they need nothing of POSIX."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from musicgen_cli import atomic
from musicgen_cli.errors import StoreBusyError
from musicgen_cli.store import Artifact, Store, maintenance
from musicgen_cli.store.check import check
from musicgen_cli.store.lock import locked
from tests.support.takes import put_take

TRY_LOCK = """
import sys
from pathlib import Path
from musicgen_cli.errors import StoreBusyError
from musicgen_cli.store.lock import locked
try:
    with locked(Path(sys.argv[1]), sys.argv[2], wait_s=0):
        print("locked")
except StoreBusyError:
    print("busy")
"""


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def by_another_process(root: Path, name: str) -> str:
    """Have another process take a lock, and return how that went."""
    words = [sys.executable, "-c", TRY_LOCK, str(root), name]
    return subprocess.run(words, capture_output=True, check=True, timeout=60).stdout.decode().strip()


def blob(store: Store, take: Artifact) -> Path:
    return next((store.root / "blobs").rglob(f"{take.content_hash.removeprefix('sha256:')}.wav"))


def test_takes_are_stored_found_and_checked(store: Store) -> None:
    """Whatever characters they have; the same sound is kept once."""
    first = put_take(store, "café → 🎹", seed=1, tags=("tag", "naïve"))
    second = put_take(store, "the same sound", seed=1)

    assert [take.id for take in store.newest(None)] == [second.id, first.id]
    assert store.get(first.id).prompt == "café → 🎹"
    assert blob(store, first) == blob(store, second)
    assert [*check(store.root, full=True)] == []


def test_damaged_audio_is_replaced_although_its_file_is_read_only(store: Store) -> None:
    """Storing the same sound again heals it."""
    path = blob(store, put_take(store, "x", seed=1))
    assert not path.stat().st_mode & stat.S_IWUSR
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    path.chmod(0o400)
    take = put_take(store, "x again", seed=1)

    assert store.read_blob(take)[:4] == b"RIFF"
    assert [*check(store.root, full=True)] == []


def test_an_index_is_compacted_twice(store: Store) -> None:
    """The second time there is an older index to be replaced, and at last none is kept."""
    take = put_take(store)
    maintenance.compact(store.root)
    maintenance.compact(store.root)
    assert (store.root / "index.jsonl.old").exists()
    maintenance.compact(store.root, forget=True)

    assert not (store.root / "index.jsonl.old").exists()
    assert [each.id for each in store.newest(None)] == [take.id]


def test_a_lock_keeps_another_process_out(store: Store) -> None:
    """It is free as soon as it is given up, and only the store's own leaves a file."""
    put_take(store)
    for name in ("lock", "import.lock"):
        with locked(store.root, name, wait_s=0):
            assert by_another_process(store.root, name) == "busy"
            with pytest.raises(StoreBusyError), locked(store.root, name, wait_s=0):
                pass
        assert by_another_process(store.root, name) == "locked"
    assert [path.name for path in store.root.glob("*lock")] == ["lock"]


def test_a_file_is_replaced_while_another_process_reads_it_for_a_moment(tmp_path: Path) -> None:
    """On Windows the replacing one waits until it is closed."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    reads = "import sys, time; file = open(sys.argv[1], 'rb'); print(flush=True); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", reads, str(path)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        atomic.write(path, b"new")

    assert path.read_bytes() == b"new"


def test_a_folder_is_renamed_while_another_process_reads_a_file_in_it(tmp_path: Path) -> None:
    """As a model's is while a program for viruses looks at it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    reads = "import sys, time; file = open(sys.argv[1], 'rb'); print(flush=True); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", reads, str(folder / "file")], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        atomic.rename(folder, tmp_path / "renamed")

    assert [path.name for path in tmp_path.iterdir()] == ["renamed"]


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """Opening one fails at once and says so."""
    with pytest.raises(IsADirectoryError):
        atomic.open_fd(tmp_path, os.O_RDONLY)
