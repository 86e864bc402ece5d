from __future__ import annotations

import hashlib

import pytest

from musicgen_cli.store.digest import Digest, is_id, make_id, parse_id

ID = "artifact_0123456789ab"


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    """It is the one that `sha256sum` prints."""
    assert Digest.of(b"wav").hex == hashlib.sha256(b"wav").hexdigest()


@pytest.mark.parametrize("text", ["", "ab", "A" * 64, "g" * 64, "a" * 65, "../" + "a" * 61, "a" * 64 + "\n"])
def test_anything_but_a_sha256_is_refused(text: str) -> None:
    """Only 64 lower-case hex digits can become part of a path."""
    with pytest.raises(ValueError, match="not a SHA-256"):
        Digest(text)


@pytest.mark.parametrize(("number", "expected"), [(1, ID), (2, ID + "-2"), (999_999_999, ID + "-999999999")])
def test_ids_with_the_same_digits_are_numbered(number: int, expected: str) -> None:
    """The first id has no number, the second has 2."""
    assert make_id("0123456789ab", number) == expected
    assert is_id(expected)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (ID, (ID, True)),
        ("0123456789ab", (ID, True)),
        ("0123456789ab-2", (ID + "-2", True)),
        ("0123", ("artifact_0123", False)),
        ("artifact_0123456789a", ("artifact_0123456789a", False)),
        ("012", None),
        ("artifact_", None),
        ("", None),
        ("0123-2", None),
        ("0123456789ab-", None),
        ("0123456789ab-0", None),
        ("0123456789ab-1234567890", None),
        ("0123456789abc", None),
        ("0123456789AB", None),
        ("artifact_artifact_0123", None),
        ("0123\n", None),
        ('0123"', None),
    ],
)
def test_an_id_is_parsed_complete_or_from_four_digits_on(text: str, parsed: tuple[str, bool] | None) -> None:
    """No id can match any other text, so it is not searched for."""
    assert parse_id(text) == parsed
