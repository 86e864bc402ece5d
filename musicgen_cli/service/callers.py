"""Who sends a request: by its API key and its address. Callers of the same client share places and slots."""

from __future__ import annotations

import functools
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

_IPV6_PREFIX = 64  # bits: the smallest network that a customer gets (RFC 6177), with all its addresses


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; the progress of a job is shown only to the caller that sent it."""

    address: str
    key: int | None = None  # the number of its key, from 1; None if all callers have the same, or none

    @property
    def client(self) -> str:
        """Who shares places and slots: callers with the same key if there are several, else those of a network."""
        return network(self.address) if self.key is None else f"key {self.key}"


class Keys:
    """
    The service's API keys.

    Args:
        keys: What callers must send; empty: nothing.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in dict.fromkeys(keys) if key]

    def check(self, scope: Scope) -> Caller:
        """
        Check the key of a request, and return who sent it.

        Raises:
            HTTPException: 401: no key; 403: a wrong key.
        """
        if not self._keys:
            return Caller(address_of(scope))
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        sent = token.strip().encode("latin-1")
        if scheme.lower() != "bearer" or not sent:
            raise HTTPException(
                401, "an API key is needed, in the header Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )
        # All are compared, whichever is right, so that the time tells nothing.
        matches = [number for number, key in enumerate(self._keys, 1) if hmac.compare_digest(sent, key)]
        if not matches:
            raise HTTPException(403, "the API key is wrong")
        return Caller(address_of(scope), matches[0] if len(self._keys) > 1 else None)


def address_of(scope: Scope) -> str:
    """Return the address that a request came from, "" if the server doesn't say."""
    return unmapped(scope["client"][0]) if scope.get("client") else ""


def unmapped(address: str) -> str:
    """Return an IPv4 address that a socket of both families shows as IPv6 in its own form."""
    return address.removeprefix("::ffff:") if "." in address else address


@functools.lru_cache(maxsize=1024)
def network(address: str) -> str:
    """Return what stands for the owner of an address: itself, or the network of one of IPv6, which has many."""
    address = unmapped(address)
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/{_IPV6_PREFIX}", strict=False))
    except ValueError:
        return address
