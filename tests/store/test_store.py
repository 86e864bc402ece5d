from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from musicgen_cli.errors import InvalidWavError, StoreBusyError, StoreError
from musicgen_cli.store import Store
from tests.support.index_lines import WriteIndex, draft, head, name, put, sound
from tests.support.other_processes import PUT_SOUNDS, finish, start_python


def test_a_stored_take_is_read_back(store: Store) -> None:
    """It is found by its id and as the newest take, and its audio is the same."""
    added = store.put(sound(), draft())

    assert store.get(added.id) == added
    assert store.get("last") == added
    assert list(store.newest(20)) == [added]
    assert store.read_blob(added) == sound()


def test_another_store_object_sees_a_new_take(store: Store, root: Path) -> None:
    """A store object reads the index anew for each call."""
    other = Store(root)
    added = store.put(sound(), draft())

    assert other.get("last") == added


def test_anything_but_a_wav_is_refused_before_anything_is_written(store: Store, root: Path) -> None:
    """The bytes are inspected first."""
    with pytest.raises(InvalidWavError):
        store.put(b"RIFF", draft())

    assert not root.exists()


def test_a_reader_keeps_the_index_it_opened(store: Store, index: WriteIndex, root: Path) -> None:
    """A listing in progress is not changed when the index is replaced."""
    path = index(head(), *(put(name(i)) for i in range(1, 1000)))
    listing = store.newest(None)
    next(listing)

    (root / "new").write_bytes(head(gen="f" * 16))
    (root / "new").replace(path)

    assert len(list(listing)) == 998
    assert list(store.newest(None)) == []


def test_a_warning_is_given_once(store: Store, index: WriteIndex, warnings: list[str]) -> None:
    """The same damage may be met many times."""
    index(head(), put(name(1)), b"x\n", b"y\n")

    for _ in range(3):
        list(store.newest(None))
        store.stats()

    assert len(warnings) == 1
    assert warnings[0].startswith("skipped 2 damaged lines in")


def test_warnings_go_to_stderr_by_default(root: Path, index: WriteIndex, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but data is written to stdout."""
    index(head(), b"x\n")

    list(Store(root).newest(None))

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("skipped 1 damaged line")


def assert_refused(action: Callable[[], object], *words: str) -> None:
    """Check that an action fails with a message of one line that contains some words, and with a hint."""
    with pytest.raises(StoreError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message[0].islower()
    assert message[-1] != "."
    assert all(word in message for word in words), message
    assert "--store" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_root_that_is_a_file_is_refused(root: Path, store: Store) -> None:
    """It can be neither read nor written, and the file stays as it is."""
    root.write_text("mine")

    assert_refused(lambda: store.put(sound(), draft()), "not a directory", str(root))
    assert_refused(lambda: list(store.newest(1)), "not a directory", str(root))
    assert_refused(lambda: store.get("abcd"), "not a directory")
    assert_refused(store.stats, "not a directory")

    assert root.read_text() == "mine"


def test_a_root_that_is_a_dangling_link_is_refused(root: Path, store: Store, tmp_path: Path) -> None:
    """Nothing is made where the link points to: the disk there may not be mounted."""
    root.symlink_to(tmp_path / "nowhere")

    assert_refused(lambda: store.put(sound(), draft()), "not a directory", str(root))

    assert list(store.newest(1)) == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_an_index_that_is_a_symbolic_link_is_refused(exists: bool, root: Path, store: Store, tmp_path: Path) -> None:
    """The link is neither read nor written through, and its target is not made."""
    canary = tmp_path / "canary"
    if exists:
        canary.write_bytes(head() + put(name(1)))
    root.mkdir()
    (root / "index.jsonl").symlink_to(canary)

    assert_refused(lambda: list(store.newest(1)), "symbolic link", "index.jsonl")
    assert_refused(lambda: store.get(name(1)), "symbolic link", "index.jsonl")
    assert_refused(lambda: store.put(sound(), draft()), "symbolic link", "index.jsonl")

    assert canary.exists() == exists
    assert not exists or canary.read_bytes() == head() + put(name(1))


@pytest.mark.parametrize("exists", [True, False])
def test_a_lock_that_is_a_symbolic_link_is_refused(
    exists: bool, store: Store, index: WriteIndex, root: Path, tmp_path: Path
) -> None:
    """The target of the link is neither made nor truncated."""
    canary = tmp_path / "canary"
    if exists:
        canary.write_text("mine")
    path = index(head())
    (root / "lock").symlink_to(canary)

    assert_refused(lambda: store.put(sound(), draft()), "symbolic link", "lock")

    assert canary.exists() == exists
    assert not exists or canary.read_text() == "mine"
    assert path.read_bytes() == head()


HASH = hashlib.sha256(sound()).hexdigest()


@pytest.mark.parametrize("part", ["index.jsonl", "lock", "blobs", "fan-out", "blob"])
def test_a_path_of_a_wrong_type_is_one_clear_error(part: str, store: Store, index: WriteIndex, root: Path) -> None:
    """There is a directory in the place of a file, or a file in the place of a directory."""
    path = index(head())
    if part == "blobs":
        (root / "blobs").rmdir()
        (root / "blobs").write_text("mine")
    elif part == "fan-out":
        (root / "blobs" / HASH[:2]).write_text("mine")
    elif part == "blob":
        (root / "blobs" / HASH[:2] / f"{HASH}.wav").mkdir(parents=True)
    else:
        (root / part).unlink(missing_ok=True)
        (root / part).mkdir()

    assert_refused(lambda: store.put(sound(), draft()), "directory", str(root))

    assert part == "index.jsonl" or path.read_bytes() == head()


# Does some actions as the user `nobody`.
NOBODY = """
import os, sys, traceback
from pathlib import Path
import filelock, pydantic_core
from tests.support.index_lines import draft, sound
from musicgen_cli.errors import StoreError
from musicgen_cli.store import Store
os.setresgid(65534, 65534, 65534)
os.setgroups([]) if os.geteuid() == 0 else None
os.setresuid(65534, 65534, 65534)
store = Store(Path(sys.argv[1]))
for action in sys.argv[2:]:
    try:
        if action == "list":
            print([artifact.id for artifact in store.newest(None)])
        elif action == "read":
            print(store.read_blob(store.get("last")) == sound())
        elif action == "stats":
            print(store.stats().artifacts)
        else:
            print(store.put(sound(1), draft()).id)
    except StoreError as err:
        print("refused:", err)
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """Return a path that other users can reach, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="musicgen-store-"))
    folder.chmod(0o755)
    yield folder / "store"
    shutil.rmtree(folder)


as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


@as_root
def test_a_store_without_write_permission_can_be_read(open_root: Path) -> None:
    """Listing and reading write nothing; a put is one clear error."""
    artifact = Store(open_root).put(sound(), draft())
    for path in [open_root, *open_root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted((path, path.stat().st_mtime_ns) for path in open_root.rglob("*"))

    code, out, err = finish(start_python(NOBODY, open_root, "list", "read", "stats", "put"))

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:3] == [str([artifact.id]), "True", "1"]
    assert lines[3].startswith(f"refused: can't write to '{open_root}")
    assert lines[3].endswith(": permission denied")
    assert sorted((path, path.stat().st_mtime_ns) for path in open_root.rglob("*")) == before


@as_root
def test_a_store_of_another_user_is_refused(open_root: Path) -> None:
    """With the usual modes, other users can't even list it."""
    Store(open_root).put(sound(), draft())

    code, out, err = finish(start_python(NOBODY, open_root, "list", "stats", "put"))

    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert all(line.startswith("refused: ") and line.endswith("permission denied") for line in out.splitlines())


@as_root
def test_a_store_that_cannot_be_made_is_refused(open_root: Path) -> None:
    """The error names the directory that could not be made."""
    code, out, err = finish(start_python(NOBODY, open_root, "list", "put"))

    assert (code, err) == (0, "")
    assert out.splitlines() == ["[]", f"refused: can't write to {str(open_root)!r}: permission denied"]


def test_sixteen_processes_put_at_once(root: Path) -> None:
    """Half of the audio is the same: no id is used twice, no line is damaged, and every blob is intact."""
    starting = PUT_SOUNDS.replace("store = ", "print(flush=True); sys.stdin.readline()\nstore = ")
    programs = [
        start_python(starting, root, *(i % 2 * 100 * (p + 1) + i for i in range(6)), stdin=subprocess.PIPE)
        for p in range(16)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(finish, programs))

    ids = [line for _, out, _ in results for line in out.split()]
    store = Store(root)
    artifacts = list(store.newest(None))
    assert {(code, err) for code, _, err in results} == {(0, "")}
    assert len(ids) == len(set(ids)) == 16 * 6
    assert {artifact.id for artifact in artifacts} == set(ids)
    assert len(artifacts) == 16 * 6
    assert store.stats().bad_lines == 0
    assert store.stats().temporaries == 0
    assert store.stats().blobs == 3 + 16 * 3
    for artifact in artifacts:
        store.read_blob(artifact)
    lines = (root / "index.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 16 * 6
    assert [json.loads(line)["op"] for line in lines] == ["head"] + ["put"] * 16 * 6


def test_importing_the_store_loads_no_slow_module() -> None:
    """`list` must be fast: modules for writing or parsing are imported when they are needed."""
    code = "import sys, musicgen_cli.store; print(*sys.modules)"

    loaded = set(finish(start_python(code))[1].split())

    assert "musicgen_cli.store.store" in loaded
    assert loaded.isdisjoint({"filelock", "pydantic", "pydantic_core", "numpy", "httpx", "rich", "typer", "logging"})


def test_a_task_is_done_by_one_process_at_a_time(store: Store) -> None:
    """A second task of the same name fails at once, other tasks and puts don't; no lock file is left."""
    with store.exclusive_lock("a"):
        with pytest.raises(StoreBusyError), Store(store.root).exclusive_lock("a"):
            pass
        with store.exclusive_lock("b"):
            pass
        store.put(sound(1), draft())
    with store.exclusive_lock("a"):
        pass
    assert not list(store.root.glob("*.lock"))


def test_many_threads_may_share_a_store(store: Store) -> None:
    """Every put is listed once, even for equal audio."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda seed: store.put(sound(seed % 5), draft(f"take {seed}")).id, range(40)))

    assert len(set(ids)) == 40
    assert sorted(take.id for take in store.newest(None)) == sorted(ids)
    assert sorted(take.prompt for take in store.newest(None)) == sorted(f"take {seed}" for seed in range(40))
