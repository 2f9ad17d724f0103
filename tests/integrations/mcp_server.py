"""A small MCP server, spoken to over its input and output. `test_mcp.py` starts it."""

import os
import sys
import time

from mcp.server import MCPServer

server = MCPServer("desk")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


@server.tool(name="stock.level")
def stock(item: str) -> str:
    """How many of an item are in stock."""
    if item == "unicorn":
        raise ValueError("we never had one")
    return {"pen": "12 pens", "ink": "no ink"}.get(item, f"{item} is unknown")


@server.tool()
def sleep(seconds: float) -> str:
    """Wait."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def die() -> str:
    """End the server at once."""
    os._exit(3)


def main():
    if sys.argv[1:] == ["http"]:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        server.run(transport="streamable-http", host="127.0.0.1", port=port)
    else:
        server.run(transport="stdio")


if __name__ == "__main__":
    main()
