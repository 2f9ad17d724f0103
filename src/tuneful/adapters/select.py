"""Which adapter: by name, or by what the backend can do."""

from __future__ import annotations

from tuneful.adapters.base import Adapter
from tuneful.adapters.chat import ChatAdapter
from tuneful.adapters.compact import CompactAdapter
from tuneful.adapters.json import JSONAdapter
from tuneful.errors import UsageError, nearest
from tuneful.wire.capabilities import Capabilities

ADAPTERS: dict[str, Adapter] = {a.name: a for a in (ChatAdapter(), CompactAdapter(), JSONAdapter())}


def resolve(adapter: Adapter | str | None, capabilities: Capabilities) -> Adapter:
    """Return the adapter meant by a name, an adapter, or "auto" (also None).

    "auto" takes `CompactAdapter` for a small model, and `ChatAdapter` otherwise.

    Raises:
        UsageError: no adapter of that name.
    """
    if isinstance(adapter, Adapter):
        return adapter
    if adapter is None or adapter == "auto":
        return ADAPTERS["compact" if capabilities.small else "chat"]
    if adapter not in ADAPTERS:
        raise UsageError(
            f"there is no adapter `{adapter}`.{nearest(adapter, ADAPTERS)} Adapters: {', '.join(ADAPTERS)}."
        )
    return ADAPTERS[adapter]
