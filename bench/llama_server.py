"""A llama.cpp server in a process of its own, with the settings of the embedded model, so that others can ask it too.

    python bench/llama_server.py MODEL.gguf ['{"threads": 1}']     # prints its address; ends with its standard input

It listens on the loopback interface, on a port that the system picks.
"""

import json
import subprocess
import sys
from pathlib import Path


class LlamaServer:
    """The server as a context; `address` is what clients take as `api_base`."""

    def __init__(self, path, **settings):
        self._words = [sys.executable, str(Path(__file__).resolve()), str(path), json.dumps(settings)]

    def __enter__(self):
        self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if not line.startswith("http"):
            sys.exit(f"the model server did not start: {line}{self._process.stdout.read()}")
        self.address = line.strip() + "/v1"
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def main():
    from tuneful.backends.local.engine import Engine, LocalSettings

    class Open(LocalSettings):
        """The embedded model's settings, without its key."""

        def prepare(self, params):
            params.api_keys = []

    engine = Engine(Open(sys.argv[1], **json.loads(sys.argv[2] if sys.argv[2:] else "{}")))
    print(engine._server.listening_address, flush=True)
    sys.stdin.read()
    engine.close()


if __name__ == "__main__":
    main()
