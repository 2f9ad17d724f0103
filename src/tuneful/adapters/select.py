"""Which adapter: by name, or by what the backend can do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tuneful.adapters.base import Adapter
from tuneful.adapters.chat import ChatAdapter
from tuneful.adapters.compact import CompactAdapter
from tuneful.adapters.fallback import FallbackAdapter
from tuneful.adapters.json import JSONAdapter
from tuneful.adapters.tool_calling import ToolCallingAdapter
from tuneful.adapters.xml import XMLAdapter
from tuneful.errors import UsageError, nearest
from tuneful.wire.capabilities import Capabilities

ADAPTERS: dict[str, Adapter] = {
    a.name: a for a in (ChatAdapter(), CompactAdapter(), JSONAdapter(), XMLAdapter(), ToolCallingAdapter())
}

#: What a user may write where an adapter is meant.
AdapterLike = Adapter | str | Sequence[Adapter | str] | None


def resolve(adapter: AdapterLike, capabilities: Capabilities) -> Adapter:
    """Return the adapter meant by an adapter, a name, several names ("json>chat", or a list), or "auto" (also None).

    "auto" takes `CompactAdapter` for a small model, and `ChatAdapter` otherwise. Several make a `FallbackAdapter`.

    Raises:
        UsageError: no adapter of that name, or what is none.
    """
    if isinstance(adapter, FallbackAdapter):
        return _fallback(adapter, capabilities)
    if isinstance(adapter, Adapter):
        return adapter
    if adapter is None or adapter == "auto":
        return ADAPTERS["compact" if capabilities.small else "chat"]
    if not isinstance(adapter, str):
        if not isinstance(adapter, Sequence):
            raise UsageError(
                f"`adapter` is {adapter!r:.80}; expected an adapter such as tf.ChatAdapter(), a name ('chat', "
                "'json>chat'), or a list of either."
            )
        return _fallback(FallbackAdapter(adapter), capabilities)
    if ">" in adapter:
        return _fallback(FallbackAdapter([name.strip() for name in adapter.split(">")]), capabilities)
    if adapter not in ADAPTERS:
        raise UsageError(
            f"there is no adapter `{adapter}`.{nearest(adapter, ADAPTERS)} Adapters: {', '.join(ADAPTERS)}. One with "
            "an LM or with functions of its own is not found by its name: give the adapter itself (also before a saved "
            "program is loaded)."
        )
    return ADAPTERS[adapter]


@lru_cache(maxsize=256)
def _fallback(adapter: FallbackAdapter, capabilities: Capabilities) -> Adapter:
    return adapter.resolved(lambda member: resolve(member, capabilities))


def name_of(adapter: AdapterLike) -> str | None:
    """Return an adapter as a JSON value: its name, such as "json>chat", or None where none is set."""
    if adapter is None or isinstance(adapter, str):
        return adapter
    return adapter.name if isinstance(adapter, Adapter) else FallbackAdapter(adapter).name
