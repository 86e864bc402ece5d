from __future__ import annotations

import hashlib

import pytest

from musicgen_cli.store.digest import Digest, is_id, make_id, parse_id

ID = "artifact_0123456789ab"


def test_a_digest_is_the_sha256_of_the_bytes():
    """`sha256sum` agrees with us."""
    assert Digest.of(b"wav").hex == hashlib.sha256(b"wav").hexdigest()


@pytest.mark.parametrize("text", ["", "ab", "A" * 64, "g" * 64, "a" * 65, "../" + "a" * 61, "a" * 64 + "\n"])
def test_what_is_no_sha256_never_becomes_a_digest(text):
    """Only 64 lower-case hex digits may become part of a path."""
    with pytest.raises(ValueError, match="not a SHA-256"):
        Digest(text)


@pytest.mark.parametrize(("number", "wanted"), [(1, ID), (2, ID + "-2"), (999_999_999, ID + "-999999999")])
def test_only_the_first_of_equal_digits_has_no_number(number, wanted):
    """Ids count from the second on."""
    assert make_id("0123456789ab", number) == wanted
    assert is_id(wanted)


@pytest.mark.parametrize(
    ("text", "found"),
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
def test_an_id_is_read_whole_or_by_at_least_four_digits(text, found):
    """Everything else can be no id, and is never searched for."""
    assert parse_id(text) == found
