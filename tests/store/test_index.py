from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import AmbiguousIdError, ArtifactNotFoundError
from musicgen_cli.store import Filter, Store
from tests.support.index_lines import TIME, WriteIndex, delete, draft, head, name, put, sealed, sound, tag

A, B = "artifact_aaaabbbbcccc", "artifact_aaaabbbbdddd"


def ids_of(store: Store, limit: int | None = None, **where: Any) -> list[str]:
    """Return the ids of the artifacts that match a filter, newest first."""
    return [artifact.id for artifact in store.newest(limit, Filter(**where))]


def test_a_store_that_does_not_exist_is_empty(store: Store, root: Path) -> None:
    """Reading creates nothing."""
    assert ids_of(store) == []
    assert store.stats().artifacts == 0
    assert store.next_variation_index("set") == 0
    with pytest.raises(ArtifactNotFoundError):
        store.get("last")
    with pytest.raises(ArtifactNotFoundError):
        store.get("abcd")
    assert not root.exists()


def test_an_empty_index_is_an_empty_store(store: Store, index: WriteIndex) -> None:
    """A writer that is killed after it created the file leaves an empty one."""
    index()

    assert ids_of(store) == []
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().lines == 2


def test_newest_means_last_in_the_file(store: Store, index: WriteIndex) -> None:
    """Times don't matter, and a limit takes effect."""
    index(head(), put(name(1), created="2030-01-01T00:00:00.000Z"), put(name(2)), put(name(3)))

    assert ids_of(store) == [name(3), name(2), name(1)]
    assert ids_of(store, 2) == [name(3), name(2)]
    assert ids_of(store, 0) == []
    assert store.get("last").id == name(3)


def test_newest_reads_no_more_than_it_yields(store: Store, index: WriteIndex, warnings: list[str]) -> None:
    """A damaged line far beyond the limit is not even noticed."""
    index(head(), b"damage\n", *(put(name(i)) for i in range(1, 1000)))

    assert len(ids_of(store, 20)) == 20
    assert not warnings
    assert len(ids_of(store)) == 999
    assert len(warnings) == 1


def test_last_is_not_a_removed_artifact(store: Store, index: WriteIndex) -> None:
    """`last` is the newest live one."""
    index(head(), put(name(1)), put(name(2)), delete(name(2)))

    assert store.get("last").id == name(1)


@pytest.mark.parametrize("ref", [A, "aaaabbbbcccc", "aaaabbbbc", "artifact_aaaabbbbc"])
def test_an_id_may_be_shortened(ref: str, store: Store, index: WriteIndex) -> None:
    """The complete id, the id without `artifact_`, and any unique prefix of four digits find the same artifact."""
    index(head(), put(A), put(B), put("artifact_ffff00000000"))

    assert store.get(ref).id == A
    assert store.get("ffff").id == "artifact_ffff00000000"


def test_an_ambiguous_prefix_is_an_error_with_the_candidates(store: Store, index: WriteIndex) -> None:
    """They are in the order in which they were stored, without removed ones."""
    index(head(), put(A), put(A + "-2"), put(B), delete(A + "-2"))

    with pytest.raises(AmbiguousIdError) as caught:
        store.get("aaaa")

    assert caught.value.candidates == [A, B]


def test_the_exact_id_wins(store: Store, index: WriteIndex) -> None:
    """An id that is also the prefix of another one is not ambiguous."""
    index(head(), put(A), put(A + "-2"), put(A + "-21"))

    assert store.get(A).id == A
    assert store.get("aaaabbbbcccc-2").id == A + "-2"
    with pytest.raises(AmbiguousIdError):
        store.get("aaaabbbbccc")


def test_a_complete_id_never_matches_another_artifact(store: Store, index: WriteIndex) -> None:
    """A removed artifact is not found, even if another one with the same digits is live."""
    index(head(), put(A), put(A + "-2"), delete(A))

    with pytest.raises(ArtifactNotFoundError):
        store.get(A)
    assert store.get("aaaabbbbccc").id == A + "-2"


@pytest.mark.parametrize(
    "ref", ["", "aaa", "zzzz", "aaaa-2", A.upper(), "aaaabbbbcccc-02", '"', "../x", "artifact_", "eeee"]
)
def test_a_malformed_id_is_not_found(ref: str, store: Store, index: WriteIndex) -> None:
    """The error quotes it."""
    index(head(), put(A))

    with pytest.raises(ArtifactNotFoundError) as caught:
        store.get(ref)

    assert repr(ref) in str(caught.value)


def test_an_id_in_another_value_is_not_found(store: Store, index: WriteIndex) -> None:
    """Only the member `id` of the record itself counts."""
    index(head(), put(A, extra={"id": B}, params={"id": "artifact_eeee00000000"}))

    with pytest.raises(ArtifactNotFoundError):
        store.get(B)
    with pytest.raises(ArtifactNotFoundError):
        store.get("eeee")


@pytest.mark.parametrize("at", [len(head()), 0, 7, 10**9])
def test_edits_apply_whatever_their_offset_is(at: int, store: Store, index: WriteIndex) -> None:
    """The offset is only a hint; a wrong one makes no difference."""
    index(
        head(),
        put(name(1), tags=["a", "b"]),
        put(name(2), tags=["a"]),
        tag(name(1), add=("c", "a"), rm=("a",), at=at),
        tag(name(1), add=("d",), rm=("b",), at=at),
        delete(name(2), at=at),
        tag(name(2), add=("ghost",), at=at),
    )

    assert store.get(name(1)).tags == ("c", "a", "d")
    assert [artifact.tags for artifact in store.newest(None)] == [("c", "a", "d")]
    assert ids_of(store, tags=("d",)) == [name(1)]
    assert ids_of(store, tags=("b",)) == []
    assert ids_of(store, tags=("ghost",)) == []
    with pytest.raises(ArtifactNotFoundError):
        store.get(name(2))


def test_an_edit_of_an_unknown_id_has_no_effect(store: Store, index: WriteIndex) -> None:
    """The id may also be that of an artifact that is put later."""
    index(
        head(), tag(name(1), add=("early",)), delete(name(1)), put(name(1)), delete(name(9)), tag(name(9), add=("x",))
    )

    assert store.get(name(1)).tags == ("type:audio",)
    assert ids_of(store) == [name(1)]
    assert ids_of(store, tags=("early",)) == []


def test_a_filter_requires_all_its_tags(store: Store, index: WriteIndex) -> None:
    """A tag may come from the put or from an edit."""
    index(
        head(),
        put(name(1), tags=["a", "b"]),
        put(name(2), tags=["a"]),
        *(put(name(i), tags=["other"]) for i in range(100, 600)),
        put(name(3), tags=[]),
        tag(name(2), add=("b",)),
        tag(name(3), add=("a",)),
        tag(name(3), add=("b",)),
        put(name(4), tags=["b"]),
    )

    assert ids_of(store, tags=("a", "b")) == [name(3), name(2), name(1)]
    assert ids_of(store, 2, tags=("b",)) == [name(4), name(3)]
    assert ids_of(store, tags=("nowhere",)) == []


def test_a_tag_is_not_found_in_other_members(store: Store, index: WriteIndex) -> None:
    """A word in the prompt, in another member or in a longer tag is not a tag."""
    index(head(), put(name(1), tags=["rainy"], prompt="rain", creator="rain", params={"rain": "rain"}))

    assert ids_of(store, tags=("rain",)) == []
    assert ids_of(store, tags=("rainy",)) == [name(1)]


def test_a_tag_is_found_in_either_spelling(store: Store) -> None:
    """The tags of a filter are converted to NFC."""
    added = store.put(sound(), draft(tags=("café",)))

    assert ids_of(store, tags=("cafe\u0301",)) == [added.id]


def test_a_filter_requires_all_its_conditions(store: Store, index: WriteIndex) -> None:
    """Each member is compared completely, and all conditions must hold."""
    index(
        head(),
        put(name(1), creator="ann", variation_set_id="s", parent_id=name(9), origin={"kind": "http", "model": "small"}),
        put(name(2), creator="ann", variation_set_id="s2"),
        put(name(3), creator="annie", origin={"kind": "import"}, params={"model": "small", "creator": "ann"}),
        put(name(4), creator='an"n\\', origin={"kind": "import", "model": 7}),
    )

    assert ids_of(store, creator="ann") == [name(2), name(1)]
    assert ids_of(store, creator='an"n\\') == [name(4)]
    assert ids_of(store, creator="nobody\udcff") == []
    assert ids_of(store, variation_set_id="s") == [name(1)]
    assert ids_of(store, parent_id=name(9)) == [name(1)]
    assert ids_of(store, model="small") == [name(1)]
    assert ids_of(store, model="nano") == [name(2)]
    assert ids_of(store, creator="ann", model="nano", tags=("type:audio",)) == [name(2)]
    assert ids_of(store, creator="ann", model="nano", parent_id=name(9)) == []


def test_a_search_finds_names(store: Store, index: WriteIndex) -> None:
    """A name is the last tag that begins with `name:`, from the record or from an edit; a name that was is none."""
    index(
        head(),
        put(name(1), prompt="", tags=["name:Kick 01"]),
        put(name(2), prompt="rain"),
        put(name(3), prompt="kick", tags=["name:b"]),
        tag(name(2), add=("name:Kick 02",)),
        tag(name(1), add=("name:Snare",)),
        tag(name(3), rm=("name:b",)),
    )

    assert ids_of(store, search="KICK") == [name(3), name(2)]
    assert ids_of(store, search="snare") == [name(1)]
    assert ids_of(store, search="b") == []
    assert [artifact.title for artifact in store.newest(None)] == ["kick", "Kick 02: rain", "Snare"]


def test_a_search_ignores_case(store: Store, index: WriteIndex) -> None:
    """It ignores the case of letters beyond ASCII, too, and searches only the prompt."""
    index(head(), put(name(1), prompt='Straße im "REGEN"'), put(name(2), prompt="", creator="regen"))

    assert ids_of(store, search="regen") == [name(1)]
    assert ids_of(store, search="STRASSE") == [name(1)]
    assert ids_of(store, search='"regen"') == [name(1)]
    assert ids_of(store, search="sun") == []
    assert ids_of(store, search="") == [name(2), name(1)]


def test_since_and_until_are_inclusive(store: Store, index: WriteIndex) -> None:
    """Times in any zone are compared with the millisecond in which an artifact was created."""
    index(head(), *(put(name(i), created=f"2026-11-22T10:00:00.{i:03}Z") for i in range(1, 6)))
    at = datetime(2026, 11, 22, 10, 0, 0, 3000, UTC)

    assert ids_of(store, since=at) == [name(5), name(4), name(3)]
    assert ids_of(store, until=at) == [name(3), name(2), name(1)]
    assert ids_of(store, since=at, until=at) == [name(3)]
    assert ids_of(store, since=at + timedelta(microseconds=999)) == [name(5), name(4), name(3)]
    assert ids_of(store, since=at.astimezone(timezone(timedelta(hours=-9)))) == [name(5), name(4), name(3)]


def test_the_next_variation_index_follows_the_highest_live_one(store: Store, index: WriteIndex) -> None:
    """Gaps are not filled, and other sets and removed takes don't count."""
    index(
        head(),
        put(name(1), variation_set_id="s", variation_index=0),
        put(name(2), variation_set_id="s", variation_index=4),
        put(name(3), variation_set_id="s", variation_index=7),
        put(name(4), variation_set_id="other", variation_index=9),
        put(name(5), variation_set_id="s"),
        delete(name(3)),
    )

    assert store.next_variation_index("s") == 5
    assert store.next_variation_index("other") == 10
    assert store.next_variation_index("none") == 0


ids = st.integers(1, 6).map(name)
tags = st.sampled_from(["a", "b", "ab", "é"])
several = st.lists(tags, max_size=3, unique=True).map(tuple)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), ids, several),
            st.tuples(st.just("tag"), ids, several, several),
            st.tuples(st.just("del"), ids),
            st.tuples(st.just("bad"), ids),
            st.tuples(st.just("x-"), ids),
        ),
        max_size=30,
    ),
    filter_tags=several,
    limit=st.none() | st.integers(0, 4),
)
def test_every_way_to_read_agrees_with_a_simple_model(
    store: Store, index: WriteIndex, steps: list[tuple[Any, ...]], filter_tags: tuple[str, ...], limit: int | None
) -> None:
    """Finding by id, listing and filtering by tag agree with a dictionary that is changed line by line."""
    live: dict[str, list[str]] = {}
    used: set[str] = set()
    lines = [head()]
    for op, artifact_id, *more in steps:
        if op == "put" and artifact_id not in used:  # ids are never used twice
            used.add(artifact_id)
            live[artifact_id] = [*more[0]]
            lines.append(put(artifact_id, tags=[*more[0]]))
        elif op == "tag":
            lines.append(tag(artifact_id, add=more[0], rm=more[1]))
            if artifact_id in live:
                remaining = [each for each in live[artifact_id] if each not in more[1]]
                live[artifact_id] = remaining + [each for each in more[0] if each not in remaining]
        elif op == "del":
            lines.append(delete(artifact_id))
            live.pop(artifact_id, None)
        elif op == "bad":
            lines.append(delete(artifact_id).replace(TIME.encode(), b"x" * len(TIME)))
        elif op == "x-":
            lines.append(sealed({"op": "x-", "id": artifact_id, "add": ["a"]}, "\t"))
    index(*lines)

    listed = [(artifact.id, [*artifact.tags]) for artifact in store.newest(limit, Filter(tags=filter_tags))]

    expected = [(artifact_id, has) for artifact_id, has in reversed(live.items()) if set(filter_tags) <= set(has)]
    assert listed == expected[:limit]
    for artifact_id in map(name, range(1, 7)):
        if artifact_id in live:
            assert [*store.get(artifact_id).tags] == live[artifact_id]
        else:
            with pytest.raises(ArtifactNotFoundError):
                store.get(artifact_id)


PROMPTS = [
    "Calm PIANO",
    "calm \u212aey",
    "stra\u00dfe",
    'say "hi"',
    "two\nlines",
    "back\\slash",
    "nothing",
    "\u017fteam",
]


@pytest.mark.parametrize("text", ["piano", "KEY", "STRASSE", "steam", '"hi"', "o\nl", "k\\s", "zebra", "g", "\u212a"])
def test_a_search_finds_prompts_that_casefold_to_the_same(text: str, store: Store, index: WriteIndex) -> None:
    """These include letters that casefold to ASCII, and characters that JSON escapes."""
    index(head(), *(put(name(i), prompt=prompt) for i, prompt in enumerate(PROMPTS)))
    hits = [artifact.prompt for artifact in store.newest(None, Filter(search=text))]

    assert hits == [prompt for prompt in reversed(PROMPTS) if text.casefold() in prompt.casefold()]
