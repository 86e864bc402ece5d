from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.errors import InvalidValueError
from musicgen_cli.store import Artifact, ArtifactDraft, Store, check_tag
from musicgen_cli.store.artifacts import from_record
from musicgen_cli.store.tags import edit_tags
from tests.support.index_lines import draft, put_record, sound


@pytest.mark.parametrize("tag", ["a", "type:audio", "two words", "ß" * 64, "日本", "a-b", "[verse]", "x" * 128, "👩‍🎤"])
def test_a_tag_is_any_short_text(tag: str) -> None:
    """A tag that breaks no rule is returned unchanged."""
    assert check_tag(tag) == tag


def test_a_tag_is_stored_in_nfc() -> None:
    """Two spellings of the same accent are one tag."""
    assert check_tag(unicodedata.normalize("NFD", "café")) == unicodedata.normalize("NFC", "café")


@pytest.mark.parametrize(
    ("tag", "problem"),
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
        ('a"b', 'contains one of " \\ ,'),
        ("a\\b", 'contains one of " \\ ,'),
        ("a,b", 'contains one of " \\ ,'),
        (" a", "starts or ends with white space"),
        ("a\u3000", "starts or ends with white space"),
        ("-a", "starts with -"),
        ("a\udcff", "is not UTF-8 (byte 0xff)"),
        ("a\ud800", "is not valid Unicode"),
    ],
)
def test_a_tag_that_breaks_a_rule_is_refused_with_the_reason(tag: str, problem: str) -> None:
    """The message quotes the tag and says what is wrong with it."""
    with pytest.raises(InvalidValueError) as caught:
        check_tag(tag)

    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"tag {tag!r}")


def test_an_edit_of_tags_removes_first_and_then_adds() -> None:
    """The order is kept, no tag occurs twice, and a tag that is both removed and added moves to the end."""
    assert edit_tags(["a", "b", "c"], add=["d", "a", "d", "b"], rm=["b", "x"]) == ["a", "c", "d", "b"]


def test_unknown_members_of_a_record_are_kept() -> None:
    """Members that a later version added are kept; `op` and `crc` are not part of an artifact."""
    record = put_record(seed=7, mood="calm", crc="00000000")

    artifact = from_record(record)

    assert artifact.seed == 7
    assert artifact.record == {name: value for name, value in record.items() if name not in {"op", "crc"}}
    assert list(artifact.record)[:4] == ["id", "tags", "created", "content_hash"]


def test_a_null_member_is_an_absent_one() -> None:
    """It is read as if it were absent, and not written again."""
    artifact = from_record(put_record(seed=None, license=None))

    assert artifact.seed is None
    assert "seed" not in artifact.record


def test_a_put_stores_all_members_of_the_draft(store: Store) -> None:
    """Each member is read back from the index with the same value."""
    complete = ArtifactDraft(
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

    artifact = store.get(store.put(sound(), complete).id)

    assert {each.name: getattr(artifact, each.name) for each in dataclasses.fields(complete)} == {
        each.name: getattr(complete, each.name) for each in dataclasses.fields(complete)
    }


def test_a_draft_has_no_member_that_an_artifact_lacks() -> None:
    """An artifact has the members of a draft and some more."""
    members = {each.name for each in dataclasses.fields(Artifact)}

    assert {each.name for each in dataclasses.fields(ArtifactDraft)} <= members


def test_tags_are_stored_in_order_without_repeats(store: Store) -> None:
    """Of equal tags, in whatever spelling, the first one stays."""
    artifact = store.put(sound(), draft(tags=("b", "a", "b", "cafe\u0301", "café")))

    assert artifact.tags == ("b", "a", "café")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": tuple(f"t{i}" for i in range(65))}, "at most 64 tags, got 65"),
        ({"tags": ("ok", "not,ok")}, "not,ok"),
        ({"extra": {"x": "y" * 8_192}}, "extra takes 8200 bytes, at most 8192"),
        ({"prompt": "a\ud800"}, "'\\ud800' is not valid Unicode"),
        ({"creator": "\udcff"}, "'\\udcff' is not valid Unicode"),
        ({"extra": {"\udcff": 1}}, "is not valid Unicode"),
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
def test_a_draft_that_cannot_be_stored_is_refused_before_anything_is_written(
    root: Path, store: Store, changes: dict[str, Any], message: str
) -> None:
    """The draft is checked as a complete line before the first file is made."""
    with pytest.raises(InvalidValueError) as caught:
        store.put(sound(), draft(**changes))

    assert message in str(caught.value)
    assert not root.exists()


def test_values_nested_too_deep_to_be_read_are_not_written(root: Path, store: Store) -> None:
    """Readers limit the depth of JSON, so nothing deeper may be stored."""
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"x": deep}

    with pytest.raises(InvalidValueError, match="nested too deep"):
        store.put(sound(), draft(params=deep))

    assert not root.exists()


def test_a_line_may_be_exactly_as_long_as_the_limit(store: Store, root: Path) -> None:
    """The line with the longest possible id has at most 65,536 bytes, and is read back."""
    spare = 65_536 - len("-999999999")
    store.put(sound(), draft("x"))
    room = spare - len((root / "index.jsonl").read_bytes().splitlines(keepends=True)[-1])

    longest = store.put(sound(1), draft("x" * (room + 1)))

    assert store.get(longest.id) == longest
    with pytest.raises(InvalidValueError, match="65537 bytes"):
        store.put(sound(2), draft("x" * (room + 2)))
