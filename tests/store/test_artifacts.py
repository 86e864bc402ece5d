from __future__ import annotations

import dataclasses
import unicodedata

import pytest

from musicgen_cli.errors import InvalidValueError
from musicgen_cli.store import Artifact, ArtifactDraft, check_tag
from musicgen_cli.store.artifacts import edit_tags, from_record
from tests.support.index_lines import draft, put_record, sound


@pytest.mark.parametrize("tag", ["a", "type:audio", "two words", "ß" * 64, "日本", "a-b", "[verse]", "x" * 128, "👩‍🎤"])
def test_a_tag_is_any_short_text(tag):
    """A tag that breaks no rule comes back as it is."""
    assert check_tag(tag) == tag


def test_a_tag_is_stored_composed():
    """Two spellings of one accent are one tag."""
    assert check_tag(unicodedata.normalize("NFD", "café")) == unicodedata.normalize("NFC", "café")


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "is empty"),
        ("x" * 129, "longer than 128 bytes"),
        ("ß" * 65, "longer than 128 bytes"),
        ("a\tb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\u202eb", "control character"),
        ("a\u2066b", "control character"),
        ("a\u200fb", "control character"),
        ('a"b', 'holds one of " \\ ,'),
        ("a\\b", 'holds one of " \\ ,'),
        ("a,b", 'holds one of " \\ ,'),
        (" a", "starts or ends with a blank"),
        ("a\u3000", "starts or ends with a blank"),
        ("-a", "starts with -"),
        ("a\udcff", "is not text"),
    ],
)
def test_a_tag_that_breaks_a_rule_is_refused_with_the_reason(tag, why):
    """The message quotes the tag and says what is wrong with it."""
    with pytest.raises(InvalidValueError) as caught:
        check_tag(tag)

    assert why in str(caught.value)
    assert str(caught.value).startswith(f"tag {tag!r}")


def test_an_edit_removes_first_and_then_adds_what_is_not_there():
    """Order is kept, nothing stands twice, and what is both removed and added moves to the end."""
    assert edit_tags(["a", "b", "c"], add=["d", "a", "d", "b"], rm=["b", "x"]) == ["a", "c", "d", "b"]


def test_a_record_comes_back_with_what_we_do_not_know():
    """Members of a later version are kept, `op` and `crc` are none of the artifact's."""
    record = put_record(seed=7, mood="calm", crc="00000000")

    artifact = from_record(record)

    assert artifact.seed == 7
    assert artifact.record == {name: value for name, value in record.items() if name not in {"op", "crc"}}
    assert list(artifact.record)[:4] == ["id", "tags", "created", "content_hash"]


def test_null_is_absent():
    """A null member reads like one that isn't there, and isn't written again."""
    artifact = from_record(put_record(seed=None, license=None))

    assert artifact.seed is None
    assert "seed" not in artifact.record


def test_a_put_keeps_all_that_the_draft_says(store):
    """Every member of a draft is one of the artifact's, and comes back from the file."""
    said = ArtifactDraft(
        tags=("a", "b"),
        prompt="",
        params={"duration": 2.5, "deep": [{"x": None}]},
        creator="mé",
        origin={"kind": "http", "model": "small", "url": "http://127.0.0.1:2006"},
        parent_id="artifact_00000000000a",
        variation_set_id="set",
        variation_index=0,
        seed=2**53 - 1,
        requested_duration=2.5,
        license="CC-BY-NC-4.0",
        fingerprint="f",
        client_job_id="job",
        elapsed_s=0.25,
        extra={"deep": {"er": [1, 2.5, "ü"]}},
        created="2020-02-29T23:59:59.999Z",
        unknown={"later": [1]},
    )

    kept = store.get(store.put(sound(), said).id)

    assert {each.name: getattr(kept, each.name) for each in dataclasses.fields(said)} == {
        each.name: getattr(said, each.name) for each in dataclasses.fields(said)
    }


def test_a_draft_has_no_member_that_an_artifact_lacks():
    """The two lists of members go together."""
    members = {each.name for each in dataclasses.fields(Artifact)}

    assert {each.name for each in dataclasses.fields(ArtifactDraft)} <= members


def test_tags_are_kept_in_order_without_repeats(store):
    """The first of equal tags stays, in whatever spelling they came."""
    artifact = store.put(sound(), draft(tags=("b", "a", "b", "cafe\u0301", "café")))

    assert artifact.tags == ("b", "a", "café")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tags": tuple(f"t{i}" for i in range(65))}, "at most 64 tags, got 65"),
        ({"tags": ("ok", "not,ok")}, "not,ok"),
        ({"extra": {"x": "y" * 8_192}}, "extra takes 8200 bytes, at most 8192"),
        ({"prompt": "a\ud800"}, "'\\ud800' is not text"),
        ({"creator": "\udcff"}, "'\\udcff' is not text"),
        ({"extra": {"\udcff": 1}}, "is not text"),
        ({"params": {"x": float("nan")}}, "out of range float"),
        ({"params": {"x": float("-inf")}}, "out of range float"),
        ({"params": {"x": {1, 2}}}, "can't be written as JSON"),
        ({"params": {"x": 10**5000}}, "can't be written as JSON"),
        ({"prompt": "x" * 65_536}, "at most 65536 can be stored"),
        ({"seed": "7"}, "wrong type"),
        ({"variation_index": True}, "wrong type"),
        ({"params": []}, "wrong type"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(root, store, changes, why):
    """The draft is checked as a whole line before the first file is made."""
    with pytest.raises(InvalidValueError) as caught:
        store.put(sound(), draft(**changes))

    assert why in str(caught.value)
    assert not root.exists()


def test_nesting_that_readers_refuse_is_not_written(root, store):
    """JSON is read with a limit on depth, so nothing deeper may be stored."""
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"x": deep}

    with pytest.raises(InvalidValueError, match="nested too deep"):
        store.put(sound(), draft(params=deep))

    assert not root.exists()


def test_a_line_may_be_just_as_long_as_the_limit(store, root):
    """The longest line that any id can make fits in 65,536 bytes, and is read back."""
    spare = 65_536 - len("-999999999")
    store.put(sound(), draft("x"))
    room = spare - len((root / "index.jsonl").read_bytes().splitlines(keepends=True)[-1])

    longest = store.put(sound(1), draft("x" * (room + 1)))

    assert store.get(longest.id) == longest
    with pytest.raises(InvalidValueError, match="65537 bytes"):
        store.put(sound(2), draft("x" * (room + 2)))
