"""Proxies of the environment: through which one, if any, an address is reached.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as `urllib.request` reads them (on Windows and macOS the settings of
the system too), and networks in NO_PROXY ("10.0.0.0/8").
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from tuneful.errors import UsageError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its address without a login, and the value of the header that carries the login, if it has one."""

    url: str
    authorization: str | None = field(default=None, repr=False)


def proxy_for(scheme: str, host: str, port: int | None) -> Proxy | None:
    """Return the proxy of a server. Raises UsageError for one of a kind that cannot be used."""
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or _passed_by(host, port, proxies.get("no", "")):
        return None
    try:
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and (proxy.port or 1)
    except ValueError:  # a port that is no number; the text may hold a password, and is not shown
        usable = False
    if not usable:
        raise UsageError(
            f"the proxy that the environment sets for {scheme}://{host} cannot be used; expected http://host:port or "
            "https://host:port. Set another one, or name the host in NO_PROXY. Nothing was sent."
        )
    return Proxy(f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}", _authorization(proxy))


def _authorization(proxy: SplitResult) -> str | None:
    if proxy.username is None:
        return None
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return "Basic " + base64.b64encode(login.encode()).decode()


def _passed_by(host: str, port: int | None, exceptions: str) -> bool:
    if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return True
    return any(_within(host, entry.strip()) for entry in exceptions.split(",") if "/" in entry)


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # a name, or no network
        return False
