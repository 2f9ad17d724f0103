"""`import tuneful` does nothing but define names."""

import json
import subprocess
import sys
import textwrap

import pytest

import tuneful

SPY = """
import sys, json, os, threading
before = set(sys.modules)
events = []

def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        name = os.fsdecode(args[0])
        if not name.endswith((".py", ".pyc")):  # the import system reads the code itself
            events.append([event, name])
    elif event.split(".")[0] in ("socket", "subprocess", "sqlite3", "os.putenv", "shutil", "tempfile", "urllib"):
        events.append([event, str(args)])

class Environ(dict):
    def __getitem__(self, key):
        events.append(["environ", key])
        return super().__getitem__(key)
    def get(self, key, default=None):
        events.append(["environ", key])
        return super().get(key, default)

sys.addaudithook(hook)
real, os.environ = os.environ, Environ(os.environ)
threads = threading.active_count()
import tuneful
os.environ = real
print(json.dumps({
    "events": events,
    "threads": threading.active_count() - threads,
    "modules": sorted(m for m in set(sys.modules) - before if m.startswith("tuneful")),
    "others": len(set(sys.modules) - before),
}))
"""


def test_import_reads_no_file_or_environment_and_starts_nothing():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SPY)], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)

    assert seen["events"] == []
    assert seen["threads"] == 0
    assert seen["modules"] == ["tuneful"]
    assert seen["others"] < 20


def test_a_program_on_a_scripted_model_needs_no_http_client_and_no_llama():
    code = """
    import sys, tuneful as tf
    assert tf.Predict("q -> a")(q="x", lm=tf.testing.ScriptedLM(["[[ ## a ## ]] y"])).a == "y"
    print([m for m in ("aiohttp", "xllamacpp", "tqdm", "tabulate", "sqlite3") if m in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_lm_over_http_loads_its_client_with_the_first_request(tmp_path):
    code = """
    import sys, tuneful as tf
    lm = tf.LM("openai/m", api_base="http://127.0.0.1:1/v1", num_retries=0)
    print("aiohttp" in sys.modules)
    try:
        lm("x")
    except tf.LMTransportError:
        print("aiohttp" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout.split() == ["False", "True"]


def test_a_name_that_there_is_not_is_told_with_what_to_write_instead():
    with pytest.raises(AttributeError, match=r"Program\(\)\.load\(path\)"):
        tuneful.load
