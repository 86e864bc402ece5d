"""
A store of takes in one directory: blobs named by content hash, and one append-only index in JSON Lines.

    <store>/                  0700
      lock                    0600   the lock file of writers: empty, never renamed, never deleted
      batch-<16 hex>.lock     0600   the lock file of a batch while it runs: empty
      index.jsonl             0600   the index
      index.jsonl.old         0600   the index before it was last rewritten
      blobs/ab/<sha256>.wav   0400   the audio as it was received, under its SHA-256 in lower-case hex
      blobs/ab/.tmp-*         0600   a write that is in progress or was interrupted; never read
      quarantine/             0700   damaged lines and files that a repair moved here; never read

**Lines.** Each line of the index is one compact JSON object in UTF-8, at most 65,536 bytes including its LF. Its last
member is `crc`, the CRC-32 in 8 hex digits of all bytes before `,"crc":"…"}`. A line that fails this check is bad:
readers skip it, count it and warn, and lose no other line. A line that changes an earlier one starts with a TAB, which
occurs nowhere else, so that a search for one byte finds all changes.

    op     members                       starts with  meaning
    head   format, version, gen, created              the first line; `gen` is new whenever the file is rewritten
    put    see `Artifact`                             a new artifact
    tag    id, at, t, add, rm            TAB          tags: remove all in `rm`, then append each in `add` if it is new
    del    id, at, t                     TAB          the artifact is removed, until a `put` of the same id
    x-…    any                                        ignored

A line with any other op, or a higher version, makes reading and writing fail. `at` is a hint: the offset of the `put`
line in the file. The state of a store is the result of applying the good lines in file order; an edit of an unknown id
does nothing. *Newest* means last in file order, too. Unknown members are kept. The last tag of a take that begins with
`name:` is its name.

**Ids.** An id is `artifact_` and the first 12 digits of the audio's SHA-256. If these bytes occur as an `id` anywhere
in the index (live, removed or damaged), the smallest unused of `-2`, `-3`, … is appended. So the same audio stored
twice is two artifacts that share one blob.

**Writing.** The blob is written first, then its line, and only then the id is returned; each step is durable before the
next one. A blob is written beside its final name, synced, and renamed. A line is appended with one write under the
lock. A torn last line that another process left is not cut off: the writer first ends it with an LF, in a separate
write, and only then reads the index to decide what to append. A write that can't be completed is undone. The lock is
held for that one append, never while audio is generated, hashed or written.

**Reading** takes no lock and writes nothing; it ends at the last LF of the index as it was opened.

**Maintenance** is done only on request. `check` changes nothing. `compact` writes a new index with the live artifacts
beside the old one and renames it: readers keep the file they opened, and writers open theirs after they have the lock.
`gc` deletes blobs that no live artifact uses and that are more than an hour old; a writer that relies on such a blob
notices under the lock that it is gone. `compact` and `gc` refuse an index with a problem. `repair` moves what is
damaged to `quarantine/` and deletes nothing.
"""

from __future__ import annotations

from musicgen_cli.store.artifacts import Artifact, ArtifactDraft, as_draft, from_record
from musicgen_cli.store.index import Filter
from musicgen_cli.store.store import LAST, Stats, Store
from musicgen_cli.store.tags import check_tag

__all__ = ["LAST", "Artifact", "ArtifactDraft", "Filter", "Stats", "Store", "as_draft", "check_tag", "from_record"]
