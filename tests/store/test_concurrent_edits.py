from __future__ import annotations

from pathlib import Path

from musicgen_cli.store import Store
from tests.support.index_lines import draft, sound
from tests.support.other_processes import finish, start_python

# Makes 50 edits of a take's tags, and prints each tag that was added.
TAG = """
import sys
from pathlib import Path
from musicgen_cli.errors import ArtifactNotFoundError
from musicgen_cli.store import Store
root, artifact_id, writer = sys.argv[1:]
for i in range(50):
    try:
        Store(Path(root)).tag([artifact_id], add=[f"{writer}{i}"], rm=[f"{writer}{i - 1}"] if i % 2 == 0 else [])
        print(f"{writer}{i}", flush=True)
    except ArtifactNotFoundError:
        pass
"""
# Removes and restores a take 25 times.
FLICKER = """
import sys
from pathlib import Path
from musicgen_cli.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(25):
    store.remove([sys.argv[2]])
    store.restore(sys.argv[2])
"""


def test_two_processes_that_tag_one_take_lose_no_tag(store: Store, root: Path) -> None:
    """Each makes fifty edits, which add fifty tags and remove half of them again."""
    take = store.put(sound(), draft(tags=()))
    for code, _, err in [finish(program) for program in [start_python(TAG, root, take.id, writer) for writer in "ab"]]:
        assert (code, err) == (0, "")

    tags = store.get(take.id).tags

    for writer in "ab":
        assert [tag for tag in tags if tag[0] == writer] == [f"{writer}{i}" for i in (*range(0, 50, 2), 49)]
    assert store.stats().lines == 102
    assert store.stats().bad_lines == 0


def test_tags_added_while_a_take_is_removed_and_restored_are_kept(store: Store, root: Path) -> None:
    """A tag whose edit was acknowledged is there, however often the take was removed and restored meanwhile."""
    take = store.put(sound(), draft(tags=()))
    tagging, flickering = start_python(TAG, root, take.id, "a"), start_python(FLICKER, root, take.id)
    assert finish(flickering)[::2] == (0, "")
    code, out, err = finish(tagging)
    assert (code, err) == (0, "")

    (take,) = store.newest(None)

    added = out.split()
    # Every other edit, if it was made, removed the tag before its own.
    removed = {f"a{int(each[1:]) - 1}" for each in added if int(each[1:]) % 2 == 0}
    assert [*take.tags] == [each for each in (f"a{i}" for i in range(50)) if each in added and each not in removed]
