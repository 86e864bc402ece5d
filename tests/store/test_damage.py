from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.maintenance import repair
from tests.support.index_lines import delete, draft, head, put, sealed, sound, tag

# A small store with every kind of line, as bytes; each example damages a copy of it.
A, B, C = ("artifact_" + Digest.of(sound(seed)).short for seed in range(3))
HASHES = [Digest.of(sound(seed)).hex for seed in range(3)]
BLOBS = {digest: sound(seed) for seed, digest in enumerate(HASHES)}
LINES = [
    head(),
    put(A, content_hash=HASHES[0], bytes=len(sound()), prompt="é { [verse] }", later={"op": "put"}),
    put(B, content_hash=HASHES[1], bytes=len(sound())),
    tag(A, add=("calm", "ü"), rm=("type:audio",)),
    sealed({"op": "x-note", "id": A}),
    delete(B),
    put(B, content_hash=HASHES[1], bytes=len(sound()), tags=["back"]),
    put(A + "-2", content_hash=HASHES[0], bytes=len(sound()), parent_id=A),
    put(C, content_hash=HASHES[2], bytes=len(sound())),
    delete(C),
    tag(A + "-2", add=("calm",)),
]
INDEX = b"".join(LINES)
PROMPTS = {A: "é { [verse] }", **{each: f"the prompt of {each}" for each in (B, A + "-2", C)}}


def damage(where: float, how: str, size: int, junk: bytes, data: bytes) -> tuple[bytes, bytes]:
    """
    Damage some bytes.

    Args:
        where: The position of the damage, from 0 to 1.
        how: What to do there: flip, zero, cut, end (cut all that follows), insert or double.
        size: How many bytes to damage.
        junk: What to insert, or which bit to flip.
        data: The original.

    Returns:
        The damaged bytes, and those of the original that were changed or removed.
    """
    at = int(where * (len(data) - 1))
    hit = data[at : at + size]
    match how:
        case "flip":
            hit = hit[:1]
            new = bytes([hit[0] ^ (1 + junk[0] % 255)])
        case "zero":
            new = bytes(len(hit))
        case "cut":
            new = b""
        case "end":
            hit, new = data[at:], b""
        case "insert":
            hit, new = b"", junk
        case _:
            new = hit + hit
            return data[:at] + new + data[at + len(hit) :], b""
    return data[:at] + new + data[at + len(hit) :], hit


def fold_by_search(data: bytes) -> dict[str, tuple[str, ...]]:
    """Return the live ids with their tags after those of LINES that occur anywhere in `data`, in their order there."""
    occurrences = []
    for line in LINES[1:]:
        at = data.find(line[:-1])
        while at >= 0:
            occurrences.append((at, line))
            at = data.find(line[:-1], at + 1)
    live: dict[str, tuple[str, ...]] = {}
    for _, line in sorted(occurrences):
        each = line.split(b'"')[7].decode()
        if line.startswith(b"{") and b'"put"' in line[:12]:
            live.pop(each, None)
            live[each] = ("back",) if b'["back"]' in line else ("type:audio",)
        elif line.startswith(b'\t{"op":"del"'):
            live.pop(each, None)
        elif each in live and line.startswith(b"\t"):
            live[each] = ("calm", "ü") if each == A else ("type:audio", "calm")
    return live


def write_store(root: Path, index: bytes, blobs: dict[str, bytes]) -> None:
    (root / "blobs").mkdir(mode=0o700)
    for digest, data in blobs.items():
        (root / "blobs" / digest[:2]).mkdir(mode=0o700, exist_ok=True)
        path = root / "blobs" / digest[:2] / f"{digest}.wav"
        path.write_bytes(data)
        path.chmod(0o400)
    (root / "index.jsonl").write_bytes(index)
    (root / "index.jsonl").chmod(0o600)


@settings(deadline=None, max_examples=400)
@given(
    where=st.floats(0, 1),
    how=st.sampled_from(["flip", "flip", "zero", "cut", "end", "insert", "double"]),
    size=st.integers(1, 700),
    junk=st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\n", b"\t", b'"}', b'{"op":"', LINES[2]])),
)
def test_a_damaged_index_never_gives_wrong_data_and_is_repaired(where: float, how: str, size: int, junk: bytes) -> None:
    """Lines are lost only where bytes were changed, the check finds every damaged line, a repair leaves no problem."""
    data, hit = damage(where, how, size, junk, INDEX)
    lines = set(data.split(b"\n")[:-1])
    assert sum(line[:-1] not in lines for line in LINES) <= 1 + hit.count(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, data, BLOBS)

        listed = list(Store(root, warn=lambda _: None).newest(None))
        for take in listed:
            assert take.prompt == PROMPTS[take.id]
            assert set(take.tags) <= {"type:audio", "calm", "ü", "back"}
            assert Store(root).read_blob(take) == BLOBS[take.content_hash]

        problems = list(check(root))
        is_damaged = not data.endswith(b"\n") or not lines <= {line[:-1] for line in LINES}
        if data and is_damaged:
            assert problems

        done = repair(root)
        (root / "lock").unlink(missing_ok=True)
        assert list(check(root, full=True)) == []
        now = {take.id: take.tags for take in Store(root).newest(None)}
        assert now == fold_by_search(data)
        assert done.index_rewritten == bool(problems)
        if problems:
            assert (root / "index.jsonl.old").read_bytes() == data


@settings(deadline=None, max_examples=100)
@given(
    which=st.sampled_from(HASHES),
    where=st.floats(0, 1),
    how=st.sampled_from(["flip", "flip", "zero", "cut", "end", "insert", "double"]),
    size=st.integers(1, 200),
    junk=st.binary(min_size=1, max_size=40),
)
def test_damaged_audio_is_never_returned_and_every_change_is_found(
    which: str, where: float, how: str, size: int, junk: bytes
) -> None:
    """A repair moves it to quarantine as it is, and only storing the same audio again repairs its takes."""
    data, _ = damage(where, how, size, junk, BLOBS[which])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, INDEX, BLOBS | {which: data})
        affected = {A, A + "-2", B} & {take.id for take in Store(root).newest(None) if take.content_hash == which}

        kinds = [problem.kind for problem in check(root, full=True)]
        assert kinds == (["audio"] if data != BLOBS[which] else [])
        done = repair(root)
        (root / "lock").unlink(missing_ok=True)

        assert (done.quarantined, done.missing) == ((1, len(affected)) if kinds else (0, 0))
        problems = list(check(root, full=True))
        assert {problem.where for problem in problems} == (affected if kinds else set())
        assert {problem.kind for problem in problems} <= {"missing"}
        if kinds:
            assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [data]
            Store(root).put(BLOBS[which], draft())
            (root / "lock").unlink()
            assert list(check(root, full=True)) == []
