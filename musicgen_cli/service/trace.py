"""The caller's position in a distributed trace (W3C Trace Context)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# W3C Trace Context, 3.2: version ff is invalid, and so is an id of zeros alone; later versions may append fields.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-[^\s]*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """The ids of a `traceparent` header."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Trace | None:
        """Parse the header; None if it is absent or malformed."""
        match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        return cls(match[1], match[2]) if match else None
