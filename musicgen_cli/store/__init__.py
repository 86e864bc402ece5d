"""
A library of takes in one directory: audio by content, and one append-only index in JSON Lines.

    <store>/                  0700
      lock                    0600   what writers lock: empty, never renamed, never deleted
    batch-<16 hex>.lock     0600   what a batch locks while it runs; empty
      index.jsonl             0600   the index
      index.jsonl.old         0600   as it was before it was last rewritten
      blobs/ab/<sha256>.wav   0400   the audio as it came, under its SHA-256 in lower-case hex
      blobs/ab/.tmp-*         0600   a write that is under way or was cut off; never read
      quarantine/             0700   what a repair took out; never read

**Lines.** Each line of the index is one compact JSON object in UTF-8, at most 65,536 bytes with its LF. Its last member
is `crc`, the CRC-32 as 8 hex digits of all bytes before `,"crc":"…"}`. A line that doesn't check is bad: it is skipped,
counted and mentioned, and costs nothing but itself. A line that changes an earlier one starts with a TAB, which occurs
nowhere else, so that one search for one byte finds all changes.

    head   format, version, gen (new with each rewriting of the file), created      the first line
    put    an artifact: see `Artifact` for its members                               a new artifact
    tag    id, at, t, add, rm      TAB     tags without `rm`, then each of `add` that is not there yet
    del    id, at, t               TAB     the artifact is gone, until a `put` of the same id
    x-…                                    ignored; any other op, or a higher version, stops reading and writing

`at` is a hint: the offset of the `put` in the file. What a store holds is the good lines applied in file order; an edit
of an unknown id does nothing. *Newest* is file order too. Members that are unknown are kept.

**Ids.** `artifact_` and the first 12 digits of the audio's SHA-256; if these bytes stand as an `id` anywhere in the
index, alive, deleted or damaged, then with `-2`, `-3`, … So the same audio twice is two artifacts that share one blob.

**Writing.** The blob first, then its line, then the id is told; each is on the disk before the next step. A blob is
written beside its final name, synced, and renamed. A line is appended by one write under the lock; a line that another
process left torn is never cut away but sealed with an LF, by a write of its own before anything is decided by what the
index holds. What can't be completed is taken back. The lock is held for that one append, never while audio is made,
hashed or written.

**Reading.** No lock, nothing written; up to the last LF there was when the index was opened.

**Care** is taken only when asked for. `check` changes nothing. `compact` rewrites the index with what is live, beside
it and then by one rename: readers keep the file they opened, writers open theirs after the lock. `gc` deletes audio
that no live artifact has and that is over an hour old; a writer that counted on it finds out under the lock. Both
refuse an index with a flaw. `repair` moves what is damaged to `quarantine/` and deletes nothing.
"""

from __future__ import annotations

from musicgen_cli.store.artifacts import Artifact, ArtifactDraft, as_draft, check_tag
from musicgen_cli.store.index import Filter
from musicgen_cli.store.store import Stats, Store

__all__ = ["Artifact", "ArtifactDraft", "Filter", "Stats", "Store", "as_draft", "check_tag"]
