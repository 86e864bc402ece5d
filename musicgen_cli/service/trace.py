"""The caller's place in a distributed trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# W3C Trace Context, 3.2: version ff is none, and neither id is all zeros; later versions may add to the end.
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-[^\s]*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """What a `traceparent` header says."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Trace | None:
        """Read the header; one that breaks its rules is as good as none."""
        found = _PARENT.fullmatch(headers.get("traceparent", ""))
        return cls(found[1], found[2]) if found else None
