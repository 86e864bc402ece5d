"""A request that is refused for a reason that passes."""

from __future__ import annotations

import math

from musicgen_cli import limits


class RefusedError(Exception):
    """A request that is not accepted now: an HTTP status, and where waiting helps a Retry-After, 1-60 s."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers: dict[str, str] = {}
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(math.ceil(min(max(retry_after_s, 1), limits.RETRY_AFTER_S.high)))
