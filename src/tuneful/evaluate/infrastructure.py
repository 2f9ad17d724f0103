"""Infrastructure: which failures of somebody's own code are those of a network or a service, by what was raised."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from tuneful.errors import LMError, RetrieverError

#: Errors of an operating system that are a network's.
_ERRNOS = {
    errno.EADDRNOTAVAIL,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ENOTCONN,
}

#: Classes that say the same, by their package. Named and not imported: most programs have few of these packages.
_CLASSES = {
    "aiohttp": {"ClientConnectionError", "ClientPayloadError"},
    "anthropic": {"APIConnectionError"},
    "botocore": {"ConnectionError", "HTTPClientError"},
    "google": {"RetryError", "TransportError"},
    "http": {"BadStatusLine", "IncompleteRead"},
    "httpcore": {"NetworkError", "ProxyError", "RemoteProtocolError", "TimeoutException"},
    "httpx": {"NetworkError", "ProxyError", "RemoteProtocolError", "TimeoutException"},
    "openai": {"APIConnectionError"},
    "redis": {"ConnectionError", "TimeoutError"},
    "requests": {"ChunkedEncodingError", "ConnectionError", "Timeout"},
    "socket": {"gaierror", "herror"},
    "ssl": {"SSLError"},
    "urllib3": {"MaxRetryError", "NewConnectionError", "ProtocolError", "ProxyError", "SSLError", "TimeoutError"},
    "websockets": {"ConnectionClosed"},
}

#: Packages whose exceptions tell the HTTP status of an answer.
_TELL_STATUS = {"aiohttp", "anthropic", "google", "httpx", "openai", "requests", "urllib"}

#: HTTP statuses below 500 by which a service says that it cannot answer now.
_LATER = {408, 425, 429}


def is_infrastructure(error: BaseException) -> bool:
    """Say whether a failure is one of a network, a service or a model, and so says nothing about the code it ended.

    It is: `LMError` and `RetrieverError`; `ConnectionError` and `TimeoutError`; an `OSError` of the network (no route,
    no such host, TLS); what the usual clients raise for these, and for an answer of HTTP status 408, 425, 429 or from
    500 on. Of a group of exceptions all must be. An exception that was raised `from` another one is what that one is.

    It is not: any other exception. A missing file, a missing permission and a full disk are `OSError`s as well, and the
    program's own fault; so is a request that a service rejects (status 404, say).

    >>> is_infrastructure(ConnectionRefusedError())
    True
    >>> is_infrastructure(FileNotFoundError())
    False
    """
    return any(_is_one(e) for e in _causes(error))


def inner_errors(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, those that it was raised from, and where one is a group, what is in it."""
    for one in _causes(error):
        yield one
        if isinstance(one, BaseExceptionGroup):
            for part in one.exceptions:
                yield from inner_errors(part)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an exception and those that it was raised from, one after another."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and not any(found is one for one in seen):  # whoever sets causes may make a circle
        seen.append(found)
        yield found
        found = found.__cause__


def _is_one(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_infrastructure, error.exceptions))
    if isinstance(error, (LMError, RetrieverError, ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _LATER
    reason = getattr(error, "reason", None)  # `urllib.error.URLError` says here what it is about
    if isinstance(error, OSError) and isinstance(reason, OSError):
        return _is_one(reason)
    return any(kind.__name__ in _CLASSES.get(kind.__module__.partition(".")[0], ()) for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of a service's answer, where the exception is one of a client that tells it."""
    if type(error).__module__.partition(".")[0] not in _TELL_STATUS:
        return None
    told = [getattr(error, name, None) for name in ("status_code", "code", "status")]
    told.append(getattr(getattr(error, "response", None), "status_code", None))
    return next((value for value in told if isinstance(value, int)), None)
