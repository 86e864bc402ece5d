"""
What the environment says about reaching other machines: proxies, hosts that need none, and trusted certificates.

httpx reads the same variables. But what it can't parse raises a foreign exception where a client is made, networks such
as 10.0.0.0/8 in NO_PROXY never match, and its errors don't say which proxy was used. So the clients of a service and of
the hub are made with `trust_env=False` and with what is read here.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from musicgen_cli.errors import ServiceUnreachableError, UsageError, short_reason, system_reason
from musicgen_cli.text import without_user_info

_SHOWN_CHARS = 80  # of a value that can't be used
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {without_user_info(self.url)}"

    def answers_for(self, url: httpx.URL) -> bool:
        """Return whether an answer may be the proxy's own: it passes on plain HTTP, and all else as bytes."""
        return url.scheme == "http" and not self.url.startswith("socks")

    def hint(self, host: str) -> str:
        """Return what to do if it is not to be used for a host."""
        return f"{self.variable} names that proxy; NO_PROXY={host} goes past it"

    def error(self, host: str, err: httpx.TransportError) -> ServiceUnreachableError:
        """Return the error for a connection to a host that could not be made through it."""
        reason = connection_reason(err) or short_reason(err) or type(err).__name__
        if isinstance(err, httpx.ProxyError):
            message = f"{self} can't reach {host}: {reason}"
        elif any(isinstance(cause, ssl.SSLError) for cause in causes(err)):
            message = f"no secure connection to {host} through {self}: {short_reason(err)}"
        else:
            message = f"{self} can't be reached: {reason}"
        return ServiceUnreachableError(message, hint=self.hint(host))


def proxy_for(url: httpx.URL) -> Proxy | None:
    """
    Return the proxy that the environment, or the system's settings, name for an address; never one for this machine.

    Raises:
        UsageError: What is named isn't the address of a proxy that can be used.
    """
    if is_loopback(url.host):
        return None
    proxies = urllib.request.getproxies()
    scheme = next((name for name in (url.scheme, "all") if proxies.get(name)), None)
    if scheme is None or _needs_no_proxy(url, proxies.get("no", "")):
        return None
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    address = proxies[scheme] if "://" in proxies[scheme] else f"http://{proxies[scheme]}"
    try:
        is_usable = is_address(httpx.Proxy(address).url)
    except (httpx.InvalidURL, ValueError):
        is_usable = False
    if not is_usable:
        shown = without_user_info(proxies[scheme])[:_SHOWN_CHARS]
        raise UsageError(
            f"{variable} is not the address of a proxy: {shown!r}",
            hint="such as http://proxy:3128 or socks5://127.0.0.1:1080; NO_PROXY lists hosts that need none",
        )
    return Proxy(address, variable)


def is_address(url: httpx.URL) -> bool:
    """Return whether a URL has a host and a port that a connection can be made to, once the name is found."""
    try:
        url.host.encode("idna")
    except UnicodeError:  # an empty or an overlong label
        return False
    return bool(url.host) and (url.port is None or 0 < url.port < 65536)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def tls_context() -> ssl.SSLContext:
    """
    Return the context of secure connections, with the certificates that the environment names.

    Raises:
        UsageError: They can't be read.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as err:
        named = ", ".join(f"{name}={os.environ[name]!r}" for name in _TLS_VARIABLES if os.environ.get(name))
        raise UsageError(
            f"{named or 'the trusted certificates'} can't be used: {system_reason(err)}",
            hint="without SSL_CERT_FILE and SSL_CERT_DIR the usual certificates are trusted",
        ) from err


class EnvironmentTransport(httpx.BaseTransport):
    """Sends each request, redirected ones too, in the way that the environment names for its host."""

    def __init__(self) -> None:
        """
        Load the certificates; nothing is sent yet.

        Raises:
            UsageError: They can't be read.
        """
        self._tls = tls_context()
        self._transports: dict[Proxy | None, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send a request.

        Raises:
            UsageError: The proxy for its host can't be used.
            ServiceUnreachableError: No connection through the proxy could be made.
        """
        proxy = proxy_for(request.url)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.HTTPTransport(
                verify=self._tls, trust_env=False, proxy=proxy.url if proxy else None
            )
        try:
            return self._transports[proxy].handle_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as err:
            if proxy is None:
                raise
            raise proxy.error(request.url.host, err) from err

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()


def causes(err: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its causes and, of a group, its members."""
    while err is not None:
        yield err
        if isinstance(err, BaseExceptionGroup):
            for member in err.exceptions:
                yield from causes(member)
        err = err.__cause__ or err.__context__


def connection_reason(err: Exception) -> str | None:
    """Return what the system says of a connection that failed, if that is the cause; asyncio has its own words."""
    for cause in causes(err):
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno).lower() if cause.errno in errno.errorcode else system_reason(cause)
    return None


def _needs_no_proxy(url: httpx.URL, no_proxy: str) -> bool:
    """Return whether a list of names, addresses and networks, each with or without a port, has the host of a URL."""
    port = url.port or {"https": 443}.get(url.scheme, 80)
    return any(
        _matches(entry.rpartition("://")[2], url.host, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry
    ) or bool(urllib.request.proxy_bypass(url.host))  # what macOS and Windows list


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether one entry of NO_PROXY stands for a host; what can't be read stands for none."""
    if entry == "*":
        return True
    name, separator, number = entry.rpartition(":")
    if separator and number.isdecimal() and (name.startswith("[") or ":" not in name):
        if int(number) != port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(re.sub(r"[][]", "", entry), strict=False)
    except ValueError:
        name = entry.lstrip("*.")
        return bool(name) and (host == name or host.endswith(f".{name}"))
