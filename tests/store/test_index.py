from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import AmbiguousIdError, ArtifactNotFoundError
from musicgen_cli.store import Filter, Store
from tests.support.index_lines import T, delete, draft, head, name, put, sealed, sound, tag

A, B = "artifact_aaaabbbbcccc", "artifact_aaaabbbbdddd"


def names(store: Store, limit: int | None = None, **where: object) -> list[str]:
    return [artifact.id for artifact in store.newest(limit, Filter(**where))]


def test_a_store_that_is_not_there_is_empty(store, root):
    """Reading makes nothing."""
    assert names(store) == []
    assert store.stats().artifacts == 0
    assert store.next_variation_index("set") == 0
    with pytest.raises(ArtifactNotFoundError):
        store.get("last")
    with pytest.raises(ArtifactNotFoundError):
        store.get("abcd")
    assert not root.exists()


def test_an_empty_index_is_an_empty_store(store, index):
    """A file without a byte is what a writer leaves that died after making it."""
    index()

    assert names(store) == []
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().lines == 2


def test_newest_is_the_order_of_the_file(store, index):
    """The clock decides nothing, and a limit stops early."""
    index(head(), put(name(1), created="2030-01-01T00:00:00.000Z"), put(name(2)), put(name(3)))

    assert names(store) == [name(3), name(2), name(1)]
    assert names(store, 2) == [name(3), name(2)]
    assert names(store, 0) == []
    assert store.get("last").id == name(3)


def test_newest_reads_no_more_than_it_yields(store, index, warnings):
    """A damaged line that is far beyond the limit isn't even seen."""
    index(head(), b"damage\n", *(put(name(i)) for i in range(1, 1000)))

    assert len(names(store, 20)) == 20
    assert not warnings
    assert len(names(store)) == 999
    assert len(warnings) == 1


def test_last_is_not_what_was_deleted(store, index):
    """`last` is the newest that is alive."""
    index(head(), put(name(1)), put(name(2)), delete(name(2)))

    assert store.get("last").id == name(1)


@pytest.mark.parametrize("wanted", [A, "aaaabbbbcccc", "aaaabbbbc", "artifact_aaaabbbbc"])
def test_an_id_may_be_shortened(wanted, store, index):
    """The whole id, the id without its first word, and any unique start of four digits find the same."""
    index(head(), put(A), put(B), put("artifact_ffff00000000"))

    assert store.get(wanted).id == A
    assert store.get("ffff").id == "artifact_ffff00000000"


def test_an_ambiguous_start_names_the_candidates(store, index):
    """In the order in which they were stored, without those that are gone."""
    index(head(), put(A), put(A + "-2"), put(B), delete(A + "-2"))

    with pytest.raises(AmbiguousIdError) as caught:
        store.get("aaaa")

    assert caught.value.candidates == [A, B]


def test_the_exact_id_wins(store, index):
    """An id that is also the start of another's is no ambiguity."""
    index(head(), put(A), put(A + "-2"), put(A + "-21"))

    assert store.get(A).id == A
    assert store.get("aaaabbbbcccc-2").id == A + "-2"
    with pytest.raises(AmbiguousIdError):
        store.get("aaaabbbbccc")


def test_a_whole_id_never_stands_for_another(store, index):
    """What is gone is not found, even if a twin with the same digits lives."""
    index(head(), put(A), put(A + "-2"), delete(A))

    with pytest.raises(ArtifactNotFoundError):
        store.get(A)
    assert store.get("aaaabbbbccc").id == A + "-2"


@pytest.mark.parametrize(
    "wanted", ["", "aaa", "zzzz", "aaaa-2", A.upper(), "aaaabbbbcccc-02", '"', "../x", "artifact_", "eeee"]
)
def test_what_is_no_id_is_not_found(wanted, store, index):
    """Nothing answers to it, and the error quotes it."""
    index(head(), put(A))

    with pytest.raises(ArtifactNotFoundError) as caught:
        store.get(wanted)

    assert repr(wanted) in str(caught.value)


def test_an_id_inside_another_record_is_not_that_artifact(store, index):
    """Only the member at the top counts, however the bytes look."""
    index(head(), put(A, extra={"id": B}, params={"id": "artifact_eeee00000000"}))

    with pytest.raises(ArtifactNotFoundError):
        store.get(B)
    with pytest.raises(ArtifactNotFoundError):
        store.get("eeee")


@pytest.mark.parametrize("at", [len(head()), 0, 7, 10**9])
def test_edits_apply_wherever_their_offset_points(at, store, index):
    """The offset is a hint; a wrong one changes nothing."""
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
    assert names(store, tags=("d",)) == [name(1)]
    assert names(store, tags=("b",)) == []
    assert names(store, tags=("ghost",)) == []
    with pytest.raises(ArtifactNotFoundError):
        store.get(name(2))


def test_an_edit_of_an_unknown_id_has_no_effect(store, index):
    """Also one that stands before the artifact it names."""
    index(
        head(), tag(name(1), add=("early",)), delete(name(1)), put(name(1)), delete(name(9)), tag(name(9), add=("x",))
    )

    assert store.get(name(1)).tags == ("type:audio",)
    assert names(store) == [name(1)]
    assert names(store, tags=("early",)) == []


def test_tags_are_all_wanted_wherever_they_came_from(store, index):
    """From the put, from an edit, or one from each."""
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

    assert names(store, tags=("a", "b")) == [name(3), name(2), name(1)]
    assert names(store, 2, tags=("b",)) == [name(4), name(3)]
    assert names(store, tags=("nowhere",)) == []


def test_a_tag_is_not_found_in_other_places(store, index):
    """A word in the prompt, the creator or a longer tag is no tag."""
    index(head(), put(name(1), tags=["rainy"], prompt="rain", creator="rain", params={"rain": "rain"}))

    assert names(store, tags=("rain",)) == []
    assert names(store, tags=("rainy",)) == [name(1)]


def test_a_tag_is_found_in_either_spelling(store):
    """Composed or not, it is the same tag."""
    added = store.put(sound(), draft(tags=("café",)))

    assert names(store, tags=("cafe\u0301",)) == [added.id]


def test_filters_narrow_each_other(store, index):
    """Each member is compared whole; all that are given must hold."""
    index(
        head(),
        put(name(1), creator="ann", variation_set_id="s", parent_id=name(9), origin={"kind": "http", "model": "small"}),
        put(name(2), creator="ann", variation_set_id="s2"),
        put(name(3), creator="annie", origin={"kind": "import"}, params={"model": "small", "creator": "ann"}),
        put(name(4), creator='an"n\\', origin={"kind": "import", "model": 7}),
    )

    assert names(store, creator="ann") == [name(2), name(1)]
    assert names(store, creator='an"n\\') == [name(4)]
    assert names(store, creator="nobody\udcff") == []
    assert names(store, variation_set_id="s") == [name(1)]
    assert names(store, parent_id=name(9)) == [name(1)]
    assert names(store, model="small") == [name(1)]
    assert names(store, model="nano") == [name(2)]
    assert names(store, creator="ann", model="nano", tags=("type:audio",)) == [name(2)]
    assert names(store, creator="ann", model="nano", parent_id=name(9)) == []


def test_search_looks_into_the_prompt_whatever_the_case(store, index):
    """Upper and lower case are alike beyond ASCII too; other members don't count."""
    index(head(), put(name(1), prompt='Straße im "REGEN"'), put(name(2), prompt="", creator="regen"))

    assert names(store, search="regen") == [name(1)]
    assert names(store, search="STRASSE") == [name(1)]
    assert names(store, search='"regen"') == [name(1)]
    assert names(store, search="sun") == []
    assert names(store, search="") == [name(2), name(1)]


def test_since_and_until_take_in_both_ends(store, index):
    """Moments are compared to the millisecond in which an artifact was made, in any zone."""
    index(head(), *(put(name(i), created=f"2026-11-22T10:00:00.{i:03}Z") for i in range(1, 6)))
    at = datetime(2026, 11, 22, 10, 0, 0, 3000, UTC)

    assert names(store, since=at) == [name(5), name(4), name(3)]
    assert names(store, until=at) == [name(3), name(2), name(1)]
    assert names(store, since=at, until=at) == [name(3)]
    assert names(store, since=at + timedelta(microseconds=999)) == [name(5), name(4), name(3)]
    assert names(store, since=at.astimezone(timezone(timedelta(hours=-9)))) == [name(5), name(4), name(3)]


def test_the_next_variation_follows_the_highest_that_lives(store, index):
    """Gaps are not filled, and other sets don't count."""
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
    wanted=several,
    limit=st.none() | st.integers(0, 4),
)
def test_every_way_to_read_agrees_with_the_plain_fold(store, index, steps, wanted, limit):
    """A dict that is changed line by line says what must come out, by id, newest first and by tag."""
    live: dict[str, list[str]] = {}
    used, lines = set(), [head()]
    for op, who, *more in steps:
        if op == "put" and who not in used:  # ids are never used twice
            used.add(who)
            live[who] = [*more[0]]
            lines.append(put(who, tags=[*more[0]]))
        elif op == "tag":
            lines.append(tag(who, add=more[0], rm=more[1]))
            if who in live:
                kept = [each for each in live[who] if each not in more[1]]
                live[who] = kept + [each for each in more[0] if each not in kept]
        elif op == "del":
            lines.append(delete(who))
            live.pop(who, None)
        elif op == "bad":
            lines.append(delete(who).replace(T.encode(), b"x" * len(T)))
        elif op == "x-":
            lines.append(sealed({"op": "x-", "id": who, "add": ["a"]}, "\t"))
    index(*lines)

    listed = [(artifact.id, [*artifact.tags]) for artifact in store.newest(limit, Filter(tags=wanted))]

    expected = [(who, has) for who, has in reversed(live.items()) if set(wanted) <= set(has)]
    assert listed == expected[:limit]
    for who in map(name, range(1, 7)):
        if who in live:
            assert [*store.get(who).tags] == live[who]
        else:
            with pytest.raises(ArtifactNotFoundError):
                store.get(who)


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
def test_a_search_finds_what_folds_to_the_same(text, store, index):
    """Upper and lower case, letters that fold into ASCII, and what JSON escapes."""
    index(head(), *(put(name(i), prompt=prompt) for i, prompt in enumerate(PROMPTS)))
    hits = [artifact.prompt for artifact in store.newest(None, Filter(search=text))]

    assert hits == [prompt for prompt in reversed(PROMPTS) if text.casefold() in prompt.casefold()]
