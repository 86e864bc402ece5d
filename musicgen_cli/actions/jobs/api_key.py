"""
Which jobs may have the API key: those of the address that it was configured for.

A job's file names the service, and whoever can write that file could name one of their own. So the file also holds a
proof that the job was queued by somebody who knows the key: an HMAC of its id and its address, which can be neither
made without the key nor moved to another job. From the proof itself nobody learns the key, if that is random.
"""

from __future__ import annotations

import hashlib
import hmac

from musicgen_cli import settings
from musicgen_cli.actions.jobs.job import Job
from musicgen_cli.errors import UsageError


def proof(api_key: str, job_id: str, url: str) -> str:
    """Return the proof that a job for an address was queued with a key."""
    return hmac.new(api_key.encode(), f"{job_id} {url}".encode(), hashlib.sha256).hexdigest()


def key_for(job: Job) -> str | None:
    """
    Return this process's API key if a job may have it; None if the job was queued without one.

    Raises:
        UsageError: The job was queued with another key, or its file was changed since.
    """
    loaded = settings.load()
    url = job.engine_config.url
    if url is None:
        return None
    if loaded.api_key is not None:
        expected = proof(loaded.api_key, job.id, url)
        if url == loaded.url or hmac.compare_digest(expected, job.key_proof or ""):
            return loaded.api_key
    if job.key_proof is not None:
        raise UsageError(
            f"the API key is not sent to {url!r}: the job was queued with another key, or was changed",
            hint="queue it again when the jobs before it have ended",
        )
    return None
