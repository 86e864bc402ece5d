from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from musicgen_cli.errors import InvalidWavError, StoreBusyError, StoreError
from musicgen_cli.store import Store
from tests.support.index_lines import delete, draft, head, name, put, sealed, sound, tag
from tests.support.programs import environment

PUT_SOUNDS = """
import sys
from pathlib import Path
from tests.support.index_lines import draft, sound
from musicgen_cli.store import Store
store = Store(Path(sys.argv[1]))
for seed in sys.argv[2:]:
    print(store.put(sound(int(seed)), draft(seed)).id, flush=True)
"""


def python(code: str, *words: object, **options: object) -> subprocess.Popen[str]:
    """Start a program that may import what the tests import."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = program.communicate(timeout=60)
    return program.returncode, out, err


def test_what_was_put_comes_back(store):
    """By id, as the newest, and as bytes."""
    added = store.put(sound(), draft())

    assert store.get(added.id) == added
    assert store.get("last") == added
    assert list(store.newest(20)) == [added]
    assert store.read_blob(added) == sound()


def test_another_store_object_sees_it_too(store, root):
    """Nothing is kept in memory between calls."""
    other = Store(root)
    added = store.put(sound(), draft())

    assert other.get("last") == added


def test_what_is_no_wav_is_refused_before_anything_is_written(store, root):
    """Bytes are looked at first."""
    with pytest.raises(InvalidWavError):
        store.put(b"RIFF", draft())

    assert not root.exists()


HASH = hashlib.sha256(sound()).hexdigest()
OTHER = "artifact_" + HASH[:12]  # what the sound's id would be


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([put(name(1))], ""),
        ([put(OTHER)], "-2"),
        ([put(OTHER, content_hash="0" * 64)], "-2"),
        ([put(OTHER), put(OTHER + "-2")], "-3"),
        ([put(OTHER), put(OTHER + "-3")], "-2"),
        ([put(OTHER + "-2")], ""),
        ([put(OTHER), put(OTHER + "-20")], "-2"),
        ([put(OTHER), delete(OTHER)], "-2"),
        ([delete(OTHER)], "-2"),
        ([tag(OTHER)], "-2"),
        ([sealed({"op": "x-", "id": OTHER})], "-2"),
        ([put(OTHER)[:-3] + b"\n"], "-2"),
        ([b'\xff "id":"' + OTHER.encode() + b'" \n'], "-2"),
        ([b'"id":"' + OTHER.encode() + b'"'], "-2"),
        ([b'"id":"' + OTHER.encode()], ""),
        ([b"x" * 70_000 + b'"id":"' + OTHER.encode() + b'"\n'], "-2"),
        ([put(name(1), prompt=f'"id":"{OTHER}"')], ""),
        ([put(name(1), parent_id=OTHER)], ""),
    ],
)
def test_an_id_that_stands_anywhere_in_the_index_is_taken(store, index, lines, number):
    """In a good line, a bad one, an edit or a torn tail; what only quotes it does not count."""
    index(head(), *lines)

    assert store.put(sound(), draft()).id == OTHER + number
    assert store.put(sound(), draft()).id != OTHER + number


@pytest.mark.parametrize(
    ("lines", "number"), [([put(OTHER)], "-2"), ([put(OTHER), delete(OTHER)], "-2"), ([put(OTHER[:-6] + "0" * 6)], "")]
)
def test_who_put_often_sees_what_others_put(store, index, lines, number):
    """Later puts search only what came since earlier ones, or all, where an id begins like theirs."""
    path = index(head())
    for seed in range(1, 6):
        store.put(sound(seed), draft())
    with path.open("ab") as file:
        file.writelines(lines)
    store.put(sound(6), draft())

    assert store.put(sound(), draft()).id == OTHER + number
    assert store.put(sound(), draft()).id != OTHER + number


def test_who_put_often_knows_its_own_ids(store):
    """The same audio again and again: each take has an id of its own."""
    assert [store.put(sound(), draft()).id for _ in range(8)] == [OTHER, *(f"{OTHER}-{n}" for n in range(2, 9))]


@pytest.mark.parametrize("first", [head(), head(gen="f" * 16), b"damaged\n"])
def test_an_index_that_is_not_what_it_was_is_searched_anew(store, index, first):
    """Rewritten, or cut by a writer that took back its line, and as long as before or longer by another's."""
    path = index(head())
    for seed in range(1, 6):
        store.put(sound(seed), draft())
    kept = path.read_bytes()
    last = kept.splitlines(keepends=True)[-1]
    path.write_bytes(first + put(OTHER) + kept.removeprefix(head()).removesuffix(last))
    for number in range(20):
        if path.stat().st_size < len(kept):
            with path.open("ab") as file:
                file.write(put(name(number)))

    assert store.put(sound(), draft()).id == OTHER + "-2"


def test_different_audio_with_the_same_first_digits_is_told_apart(store, index):
    """An id is only as good as its 12 digits; the whole hash decides which audio is read."""
    index(head(), put(OTHER, content_hash=HASH[:12] + "f" * 52))

    added = store.put(sound(), draft())

    assert added.id == OTHER + "-2"
    assert store.read_blob(added) == sound()
    assert store.get(OTHER).content_hash != added.content_hash


def at_the_lock(monkeypatch: pytest.MonkeyPatch, doing) -> None:
    """Do something once, just before the next lock is taken."""
    acquire, todo = filelock.FileLock.acquire, [doing]

    def wait(lock, *args, **kwargs):
        if todo:
            todo.pop()()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", wait)


def test_an_id_taken_while_we_waited_is_seen(store, index, monkeypatch):
    """What others appended since the search is searched under the lock."""
    path = index(head(), put(name(1)))

    def another() -> None:
        with path.open("ab") as file:
            file.write(put(OTHER))

    at_the_lock(monkeypatch, another)

    assert store.put(sound(), draft()).id == OTHER + "-2"


def test_an_id_across_a_write_under_way_is_seen(store, index, monkeypatch):
    """Half an id before the search and half after it is still the id."""
    line = put(OTHER)
    path = index(head(), put(name(1)), line[:30])

    def rest() -> None:
        with path.open("ab") as file:
            file.write(line[30:])

    at_the_lock(monkeypatch, rest)

    assert store.put(sound(), draft()).id == OTHER + "-2"


@pytest.mark.parametrize("first", [head(gen="f" * 16), b"", b"damaged\n"])
@pytest.mark.parametrize("old", [head(), b"", b"damaged\n"])
def test_an_index_that_was_rewritten_while_we_waited_is_searched_anew(store, index, monkeypatch, root, first, old):
    """A new generation, or one that can't be known: the id may now stand before where we had searched to."""
    path = index(old, *(put(name(i)) for i in range(1, 9)))

    def compact() -> None:
        new = root / "new"
        new.write_bytes(first + put(OTHER) + b"".join(put(name(i)) for i in range(1, 20)))
        new.replace(path)

    at_the_lock(monkeypatch, compact)

    added = store.put(sound(), draft())

    assert added.id == OTHER + "-2"
    assert path.read_bytes().startswith(first + put(OTHER))
    assert store.get(added.id) == added


def test_a_reader_keeps_the_index_it_opened(store, index, root):
    """A rewriting under a listing changes nothing for it."""
    path = index(head(), *(put(name(i)) for i in range(1, 1000)))
    listing = store.newest(None)
    next(listing)

    (root / "new").write_bytes(head(gen="f" * 16))
    (root / "new").replace(path)

    assert len(list(listing)) == 998
    assert list(store.newest(None)) == []


def test_a_warning_is_said_once(store, index, warnings):
    """However often the damage is met."""
    index(head(), put(name(1)), b"x\n", b"y\n")

    for _ in range(3):
        list(store.newest(None))
        store.stats()

    assert len(warnings) == 1
    assert warnings[0].startswith("skipped 2 damaged lines in")


def test_warnings_go_to_stderr_by_default(root, index, capsys):
    """What the store has to say is no data."""
    index(head(), b"x\n")

    list(Store(root).newest(None))

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("skipped 1 damaged line")


def refuses(doing, *words: str) -> None:
    """Check that a failure is one line with a hint, and names what it is about."""
    with pytest.raises(StoreError) as caught:
        doing()
    message = str(caught.value)
    assert "\n" not in message
    assert message[0].islower()
    assert message[-1] != "."
    assert all(word in message for word in words), message
    assert "--store" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_root_that_is_a_file_is_refused(root, store):
    """For reading and writing, and the file stays as it is."""
    root.write_text("mine")

    refuses(lambda: store.put(sound(), draft()), "not a directory", str(root))
    refuses(lambda: list(store.newest(1)), "not a directory", str(root))
    refuses(lambda: store.get("abcd"), "not a directory")
    refuses(store.stats, "not a directory")

    assert root.read_text() == "mine"


def test_a_root_that_is_a_dangling_link_is_refused(root, store, tmp_path):
    """Nothing is made where it points to: that disk may not be mounted."""
    root.symlink_to(tmp_path / "nowhere")

    refuses(lambda: store.put(sound(), draft()), "not a directory", str(root))

    assert list(store.newest(1)) == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("there", [True, False])
def test_an_index_that_is_a_symbolic_link_is_refused(there, root, store, tmp_path):
    """Neither read nor written through, nor made where it points to."""
    canary = tmp_path / "canary"
    if there:
        canary.write_bytes(head() + put(name(1)))
    root.mkdir()
    (root / "index.jsonl").symlink_to(canary)

    refuses(lambda: list(store.newest(1)), "symbolic link", "index.jsonl")
    refuses(lambda: store.get(name(1)), "symbolic link", "index.jsonl")
    refuses(lambda: store.put(sound(), draft()), "symbolic link", "index.jsonl")

    assert canary.exists() == there
    assert not there or canary.read_bytes() == head() + put(name(1))


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_is_a_symbolic_link_is_refused(there, store, index, root, tmp_path):
    """The file behind it is neither made nor cut."""
    canary = tmp_path / "canary"
    if there:
        canary.write_text("mine")
    path = index(head())
    (root / "lock").symlink_to(canary)

    refuses(lambda: store.put(sound(), draft()), "symbolic link", "lock")

    assert canary.exists() == there
    assert not there or canary.read_text() == "mine"
    assert path.read_bytes() == head()


@pytest.mark.parametrize("part", ["index.jsonl", "lock", "blobs", "fan-out", "blob"])
def test_a_part_of_the_wrong_kind_is_one_clear_error(part, store, index, root):
    """A directory where a file should be, or a file where a directory should be."""
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

    refuses(lambda: store.put(sound(), draft()), "directory", str(root))

    assert part == "index.jsonl" or path.read_bytes() == head()


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
for doing in sys.argv[2:]:
    try:
        if doing == "list":
            print([artifact.id for artifact in store.newest(None)])
        elif doing == "read":
            print(store.read_blob(store.get("last")) == sound())
        elif doing == "stats":
            print(store.stats().artifacts)
        else:
            print(store.put(sound(1), draft()).id)
    except StoreError as err:
        print("refused:", err)
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """Make a place that other users can reach, which pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="musicgen-store-"))
    folder.chmod(0o755)
    yield folder / "store"
    shutil.rmtree(folder)


as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else"
)


@as_root
def test_a_store_that_may_only_be_read_is_read(open_root):
    """Listing and reading write nothing; storing is one clear error."""
    artifact = Store(open_root).put(sound(), draft())
    for path in [open_root, *open_root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted((path, path.stat().st_mtime_ns) for path in open_root.rglob("*"))

    code, out, err = finished(python(NOBODY, open_root, "list", "read", "stats", "put"))

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:3] == [str([artifact.id]), "True", "1"]
    assert lines[3].startswith(f"refused: can't write to '{open_root}")
    assert lines[3].endswith(": permission denied")
    assert sorted((path, path.stat().st_mtime_ns) for path in open_root.rglob("*")) == before


@as_root
def test_a_store_of_somebody_else_is_refused(open_root):
    """With its usual modes, nobody else can even look into it."""
    Store(open_root).put(sound(), draft())

    code, out, err = finished(python(NOBODY, open_root, "list", "stats", "put"))

    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert all(line.startswith("refused: ") and line.endswith("permission denied") for line in out.splitlines())


@as_root
def test_a_store_that_may_not_be_made_is_refused(open_root):
    """The error names the directory that could not be made."""
    code, out, err = finished(python(NOBODY, open_root, "list", "put"))

    assert (code, err) == (0, "")
    assert out.splitlines() == ["[]", f"refused: can't write to {str(open_root)!r}: permission denied"]


FULL = """
import resource, sys
from pathlib import Path
from tests.support.index_lines import draft, sound
from musicgen_cli.errors import StoreError
from musicgen_cli.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
store = Store(Path(sys.argv[1]))
for seed in range(40):
    try:
        print(store.put(sound(seed, frames=int(sys.argv[3])), draft()).id)
    except StoreError as err:
        print("refused:", err)
"""


@pytest.mark.parametrize(("limit", "frames"), [(4_000, 64), (2_000, 4_000)])
def test_what_does_not_fit_is_refused_and_leaves_nothing(root, limit, frames):
    """The index, or the audio, reaches the end of the room: what was acknowledged is there, and only that."""
    code, out, err = finished(python(FULL, root, limit, frames))

    told = [line for line in out.splitlines() if not line.startswith("refused: ")]
    store = Store(root)
    assert (code, err) == (0, "")
    assert "refused: " in out
    assert [artifact.id for artifact in store.newest(None)] == told[::-1]
    assert bool(told) == (frames == 64)
    assert not (index := root / "index.jsonl").exists() or index.read_bytes().endswith(b"\n")
    assert (store.stats().bad_lines, store.stats().temporaries) == (0, 0)
    for artifact in store.newest(None):
        store.read_blob(artifact)


def test_sixteen_processes_put_at_once(root):
    """Half of them the same audio: every id once, no line damaged, every blob right."""
    starting = PUT_SOUNDS.replace("store = ", "print(flush=True); sys.stdin.readline()\nstore = ")
    programs = [
        python(starting, root, *(i % 2 * 100 * (p + 1) + i for i in range(6)), stdin=subprocess.PIPE) for p in range(16)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(finished, programs))

    told = [line for _, out, _ in results for line in out.split()]
    store = Store(root)
    artifacts = list(store.newest(None))
    assert {(code, err) for code, _, err in results} == {(0, "")}
    assert len(told) == len(set(told)) == 16 * 6
    assert {artifact.id for artifact in artifacts} == set(told)
    assert len(artifacts) == 16 * 6
    assert store.stats().bad_lines == 0
    assert store.stats().temporaries == 0
    assert store.stats().blobs == 3 + 16 * 3
    for artifact in artifacts:
        store.read_blob(artifact)
    lines = (root / "index.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 16 * 6
    assert [json.loads(line)["op"] for line in lines] == ["head"] + ["put"] * 16 * 6


# Runs a put in a child for each of its system calls, which is killed or fails there. `os` is where the store makes
# its calls; a fork is a hundred times quicker than a new process for each.
EACH_CALL = """
import os, signal, sys
from pathlib import Path
import filelock, pydantic_core
from tests.support.index_lines import draft, sound
from musicgen_cli.errors import MusicgenError
from musicgen_cli.store import Store

CALLS = "open write fsync close fchmod mkdir replace unlink lseek fstat ftruncate".split()
here, how = Path(sys.argv[1]), sys.argv[2]

def trouble(at):
    left = [at]
    def troubled(call):
        def run(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                if how == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "torn" and call is real["write"]:
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                if how.isdecimal():
                    raise OSError(int(how), os.strerror(int(how)))
            result = call(*args, **kwargs)
            if left[0] == 0 and how == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return run
    real = {name: getattr(os, name) for name in CALLS}
    for name, call in real.items():
        setattr(os, name, troubled(call))
    return left

def alive(store):
    found = list(store.newest(None))
    for artifact in found:
        store.read_blob(artifact)
    return {artifact.id for artifact in found}

def run(root, at):
    store = Store(root, warn=lambda line: None)
    told = {store.put(sound(0), draft()).id} if "warm" in root.name else set()
    into, out = os.pipe()
    if not (child := os.fork()):
        left = trouble(at)
        try:
            said = store.put(sound(1), draft()).id
        except MusicgenError as err:
            said = "refused"
        os.writev(out, [said.encode()])
        os._exit(3 if left[0] > 0 else 0)
    os.close(out)
    with os.fdopen(into) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    if said.startswith("artifact_"):
        told.add(said)
    else:
        assert said == ("refused" if how.isdecimal() else ""), (said, status)
    assert told <= alive(store) and len(alive(store)) <= len(told) + (not said)
    told.add(store.put(sound(1), draft()).id)
    assert told <= alive(store)
    stats = store.stats()
    assert stats.bad_lines <= (how == "torn") and stats.temporaries <= (not said)
    return status != 3 << 8

for kind in ("fresh", "warm"):
    at = 1
    while run(here.with_name(f"{kind} {at}"), at):
        at += 1
    print(at - 1)
"""


@pytest.mark.parametrize("how", ["before", "after", "torn", errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_trouble_at_any_call_leaves_the_whole_artifact_or_none(root, how):
    """Killed before, in or after each call, or that call failing: what was told is there, and all that is listed."""
    code, out, err = finished(python(EACH_CALL, root, how))

    assert (code, err) == (0, "")
    fresh, warm = map(int, out.split())
    assert fresh > 35
    assert warm > 20


def test_importing_the_store_loads_nothing_heavy():
    """`list` must answer at once: what only writing or parsing needs comes later."""
    code = "import sys, musicgen_cli.store; print(*sys.modules)"

    loaded = set(finished(python(code))[1].split())

    assert "musicgen_cli.store.store" in loaded
    assert loaded.isdisjoint({"filelock", "pydantic", "pydantic_core", "numpy", "httpx", "rich", "typer", "logging"})


def test_a_task_is_done_alone(store: Store) -> None:
    """A second one of the same name is told at once, others go on; nothing is left behind."""
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
    """Every put is listed once, equal audio too."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda seed: store.put(sound(seed % 5), draft(f"take {seed}")).id, range(40)))

    assert len(set(made)) == 40
    assert sorted(take.id for take in store.newest(None)) == sorted(made)
    assert sorted(take.prompt for take in store.newest(None)) == sorted(f"take {seed}" for seed in range(40))
