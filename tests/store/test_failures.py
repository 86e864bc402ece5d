from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.other_processes import finish, start_python

# Puts 40 sounds of a certain length while no file may grow beyond a limit.
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
def test_a_put_that_does_not_fit_is_refused_and_leaves_nothing(root: Path, limit: int, frames: int) -> None:
    """When the index or the audio reaches the limit, exactly the takes whose ids were printed are stored."""
    code, out, err = finish(start_python(FULL, root, limit, frames))

    ids = [line for line in out.splitlines() if not line.startswith("refused: ")]
    store = Store(root)
    assert (code, err) == (0, "")
    assert "refused: " in out
    assert [artifact.id for artifact in store.newest(None)] == ids[::-1]
    assert bool(ids) == (frames == 64)
    assert not (index := root / "index.jsonl").exists() or index.read_bytes().endswith(b"\n")
    assert (store.stats().bad_lines, store.stats().temporaries) == (0, 0)
    for artifact in store.newest(None):
        store.read_blob(artifact)


# For each call of a function in `os` that a put makes, runs the put in a child process that is killed at that call, or
# in which the call fails. A fork is a hundred times faster than starting a new process.
EACH_CALL = """
import os, signal, sys
from pathlib import Path
import filelock, pydantic_core
from tests.support.index_lines import draft, sound
from musicgen_cli.errors import MusicgenError
from musicgen_cli.store import Store

CALLS = "open write fsync close fchmod mkdir replace unlink lseek fstat ftruncate".split()
here, how = Path(sys.argv[1]), sys.argv[2]

def interrupt(at):
    left = [at]
    def interrupted(call):
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
        setattr(os, name, interrupted(call))
    return left

def live(store):
    artifacts = list(store.newest(None))
    for artifact in artifacts:
        store.read_blob(artifact)
    return {artifact.id for artifact in artifacts}

def run(root, at):
    store = Store(root, warn=lambda line: None)
    ids = {store.put(sound(0), draft()).id} if "warm" in root.name else set()
    into, out = os.pipe()
    if not (child := os.fork()):
        left = interrupt(at)
        try:
            answer = store.put(sound(1), draft()).id
        except MusicgenError as err:
            answer = "refused"
        os.writev(out, [answer.encode()])
        os._exit(3 if left[0] > 0 else 0)
    os.close(out)
    with os.fdopen(into) as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if answer.startswith("artifact_"):
        ids.add(answer)
    else:
        assert answer == ("refused" if how.isdecimal() else ""), (answer, status)
    assert ids <= live(store) and len(live(store)) <= len(ids) + (not answer)
    ids.add(store.put(sound(1), draft()).id)
    assert ids <= live(store)
    stats = store.stats()
    assert stats.bad_lines <= (how == "torn") and stats.temporaries <= (not answer)
    return status != 3 << 8

for kind in ("fresh", "warm"):
    at = 1
    while run(here.with_name(f"{kind} {at}"), at):
        at += 1
    print(at - 1)
"""


@pytest.mark.parametrize("how", ["before", "after", "torn", errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_an_interruption_at_any_call_leaves_the_whole_take_or_none(root: Path, how: str | int) -> None:
    """Each call is a place to be killed before, in or after, or to fail: ids that were returned are never lost."""
    code, out, err = finish(start_python(EACH_CALL, root, how))

    assert (code, err) == (0, "")
    fresh, warm = map(int, out.split())
    assert fresh > 35
    assert warm > 20
