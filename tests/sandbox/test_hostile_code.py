"""Hostile code does no harm, in either sandbox, and the sandbox can be used afterwards."""

import os
import socket
import subprocess
import sys

import pytest

import tuneful as tf
from tuneful.sandbox import seccomp

SECRET = "the key under the mat"

confined = pytest.mark.skipif(bool(seccomp.lacking()), reason="processes cannot be confined here")
BOTH = [tf.MontyInterpreter, pytest.param(tf.PythonInterpreter, marks=confined)]


@pytest.fixture(params=BOTH, ids=["monty", "python"])
def sandbox(request):
    with request.param(timeout_s=0.7, memory_mb=64, max_output_chars=500) as interpreter:
        yield interpreter


@pytest.fixture
def python():
    if why := seccomp.lacking():
        pytest.skip(why)
    with tf.PythonInterpreter(timeout_s=0.7, memory_mb=64, max_output_chars=500) as interpreter:
        yield interpreter


def outcome(sandbox, code):
    """Return all that is known outside of what code did."""
    try:
        found = sandbox.execute(code)
        said = f"{found.printed} {found.value!r}"
    except tf.CodeExecutionError as error:
        said = f"{error.printed} {error}"
    assert sandbox.execute("20 + 1").value == 21
    return said


# --- time and memory ---


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        "sum(range(10**15))",
    ],
)
def test_an_endless_loop_is_stopped(sandbox, code):
    with pytest.raises(tf.CodeExecutionError, match=r"did not end in 0.7 s and was stopped. .* started anew") as caught:
        sandbox.execute(code)
    assert caught.value.restarted
    assert sandbox.execute("20 + 1").value == 21


@pytest.mark.parametrize(
    "code",
    [
        "a = [0] * 10**9",
        "a = []\nwhile True: a.append('x' * 10**6 + str(len(a)))",
        "'a' * 10**12",
        "a = 'a'\nwhile True: a += a",
        "[i for i in range(10**10)]",
        "{str(i) * 100: i for i in range(10**9)}",
    ],
)
def test_a_memory_bomb_does_not_go_off(sandbox, code):
    assert "MemoryError" in outcome(sandbox, code) or "was stopped" in outcome(sandbox, code)


@pytest.mark.parametrize("code", ["9**9**9", "10**10**8", "2**10**7 * 3**10**7 % 7", "int('9' * 10**6)"])
def test_huge_integers_are_stopped_or_refused(sandbox, code):
    said = outcome(sandbox, code)
    assert any(sign in said for sign in ("stopped", "MemoryError", "ValueError")) or len(said) < 10


@pytest.mark.parametrize(
    "code", ["print('x' * 10**7)", "while True: print('x' * 1000)", "for i in range(10**5): print(i)"]
)
def test_huge_output_is_cut_with_a_notice(sandbox, code):
    try:
        printed = sandbox.execute(code).printed
    except tf.CodeExecutionError as error:  # it did not end
        printed = error.printed
    assert len(printed) < 600
    assert "further characters are left out" in printed or not printed


@pytest.mark.parametrize(
    "code", ["def f(n): return f(n + 1)\nf(0)", "a = []\nfor i in range(10**5): a = [a]\na", "a = []\na.append(a)\na"]
)
def test_deep_recursion_and_deep_values_are_contained(sandbox, code):
    said = outcome(sandbox, code)
    assert any(sign in said for sign in ("RecursionError", "cannot be shown", "..."))


def test_recursion_without_python_s_own_limit_is_contained(python):
    code = (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n  def __getattr__(self, n): return getattr(self, n)\nA().x"
    )
    assert outcome(python, code)


# --- files, network, environment, processes ---

READERS = [
    "print(open({path!r}).read())",
    "from pathlib import Path\nprint(Path({path!r}).read_text())",
    "import os\nprint(os.read(os.open({path!r}, 0), 99))",
    "import io\nprint(io.FileIO({path!r}).read())",
    "import codecs\nprint(codecs.open({path!r}).read())",
    "__builtins__['open']({path!r})",
    "import ctypes\nlibc = ctypes.CDLL(None)\nfd = libc.open({path!r}.encode(), 0)\nb = ctypes.create_string_buffer(99)\nlibc.read(fd, b, 99)\nprint(b.value)",
    "import linecache\nprint(linecache.getlines({path!r}))",
    "exec('print(open({path!r}).read())')",
    "import importlib.util\nprint(importlib.util.spec_from_file_location('x', {path!r}).loader.get_data({path!r}))",
]


@pytest.mark.parametrize("code", READERS)
def test_files_cannot_be_read(sandbox, tmp_path, code):
    path = tmp_path / "secret"
    path.write_text(SECRET)
    assert SECRET not in outcome(sandbox, code.format(path=str(path)))


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}, 'w').write('x')",
        "import os\nos.mkdir({path!r})",
        "import os\nos.symlink('/', {path!r})",
        "from pathlib import Path\nPath({path!r}).touch()",
        "import ctypes\nctypes.CDLL(None).creat({path!r}.encode(), 0o777)",
    ],
)
def test_files_cannot_be_written(sandbox, tmp_path, code):
    path = tmp_path / "made"
    outcome(sandbox, code.format(path=str(path)))
    assert not os.path.lexists(path)


@pytest.mark.parametrize(
    "code",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', {port})).send(b'x')",
        "import _socket\n_socket.socket().connect(('127.0.0.1', {port}))",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}')",
        "import asyncio\nasync def go(): await asyncio.open_connection('127.0.0.1', {port})\nasyncio.run(go())",
        "import ctypes\nprint('socket', ctypes.CDLL(None).socket(2, 1, 0))",
    ],
)
def test_the_network_cannot_be_reached(sandbox, code):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        said = outcome(sandbox, code.format(port=server.getsockname()[1]))
        with pytest.raises(TimeoutError):
            server.accept()
    assert "socket" not in said or "socket -1" in said or "No module" in said or "Error" in said


@pytest.mark.parametrize(
    "code",
    [
        "import os\nprint(dict(os.environ))",
        "import os\nprint(os.getenv('TUNEFUL_TEST_SECRET'))",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.getenv.restype = ctypes.c_char_p\nprint(libc.getenv(b'TUNEFUL_TEST_SECRET'))",
        "print(open('/proc/self/environ').read())",
        "print(open('/proc/' + str(__import__('os').getppid()) + '/environ').read())",
    ],
)
def test_the_environment_cannot_be_seen(sandbox, monkeypatch, code):
    monkeypatch.setenv("TUNEFUL_TEST_SECRET", SECRET)
    sandbox.close()
    assert SECRET not in outcome(sandbox, code)


@pytest.mark.parametrize(
    "code",
    [
        "for c in ().__class__.__base__.__subclasses__():\n  if c.__name__ == '_wrap_close': c.__init__.__globals__['system']('touch {path}')",
        "[c for c in object.__subclasses__() if c.__name__ == 'Popen'][0](['touch', '{path}'])",
        "(lambda: 0).__globals__['__builtins__'].__import__('os').system('touch {path}')",
        "import os\nos.system('touch {path}')",
        "import os\nif os.fork() == 0: open('{path}', 'w')",
        "import os\nos.execv('/usr/bin/touch', ['touch', '{path}'])",
        "import os\nos.posix_spawn('/usr/bin/touch', ['touch', '{path}'], {{}})",
        "import subprocess\nsubprocess.run(['touch', '{path}'])",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import ctypes\nctypes.CDLL(None).system(b'touch {path}')",
        "import ctypes\nprint(ctypes.CDLL(None).fork())",
        "try:\n  1/0\nexcept Exception as e:\n  e.__traceback__.tb_frame.f_builtins['__import__']('os').system('touch {path}')",
    ],
)
def test_no_way_leads_to_other_processes(sandbox, tmp_path, code):
    path = tmp_path / "touched"
    outcome(sandbox, code.format(path=path))
    assert not path.exists()


def test_other_processes_cannot_be_signalled(sandbox):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        outcome(sandbox, f"import os\nos.kill({child.pid}, 9)")
        outcome(sandbox, f"import ctypes\nctypes.CDLL(None).kill({child.pid}, 9)")
        assert child.poll() is None
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "code",
    [
        "import threading\nthreading.Thread(target=print).start()\nprint('started')",
        "import _thread\n_thread.start_new_thread(print, ())\nprint('started')",
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(print)\nprint('started')",
    ],
)
def test_no_thread_stays_behind(sandbox, code):
    assert "started" not in outcome(sandbox, code)


# --- what it hands to its host ---


def test_code_that_does_not_parse_is_told_where(sandbox):
    with pytest.raises(tf.CodeExecutionError, match="SyntaxError") as caught:
        sandbox.execute("total = (1 +\nprint(total")
    assert not caught.value.restarted
    assert sandbox.execute("20 + 1").value == 21


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n  def __repr__(self): raise ValueError('x')\nA()",
        "class A:\n  def __repr__(self): return 'x' * 10**9\nprint(A())",
        "class A:\n  def __repr__(self):\n    while True: pass\nA()",
        "class E(Exception):\n  def __str__(self): raise SystemExit\nraise E",
        "class E(Exception):\n  def __str__(self): return 1\nraise E",
        "class E(BaseException): pass\nraise E('x' * 10**8)",
        "raise ValueError('x' * 10**7)",
        "raise SystemExit(1)",
        "raise KeyboardInterrupt",
        "raise MemoryError('memory limit exceeded: not really')",
        "raise TimeoutError('feed time limit exceeded: not really')",
        "import os\nos._exit(0)",
        "quit()",
    ],
)
def test_hostile_texts_and_exits_are_contained(sandbox, code):
    assert len(outcome(sandbox, code)) < 10_000


def test_a_tool_gets_plain_values_whatever_code_gives_it(sandbox):
    seen = []

    def note(value) -> str:
        """Take note."""
        seen.append(value)
        return "noted"

    armed = sandbox.fresh([note])
    hostile = "class A:\n  def __init__(self): self.x = 1\n  def __str__(self): return 'evil'\n  def __reduce__(self): return (print, ())\n"
    with armed:
        assert armed.execute("note({'a': [1, (2, 3)], 'b': {4}})").value == "noted"
        with pytest.raises(tf.CodeExecutionError, match="TypeError"):
            armed.execute(f"{hostile}note(A())")
        with pytest.raises(tf.CodeExecutionError, match="TypeError"):
            armed.execute(
                "a = []\nfor i in range(5000): a = [a]\nnote(a)"
                if sandbox.__class__ is tf.MontyInterpreter
                else "note(print)"
            )
    assert seen == [{"a": [1, [2, 3]], "b": [4]}]
    assert type(seen[0]["a"]) is list


def test_what_a_tool_returns_is_a_value_and_no_way_to_its_host(sandbox):
    class Account:
        """Something with a secret behind it."""

        def __init__(self):
            self.password = SECRET

    def account() -> object:
        """Get it."""
        return Account()

    def row() -> tf.Example:
        """Get a row."""
        return tf.Example(name="Ada")

    armed = sandbox.fresh([account, row])
    with armed:
        for climb in (
            "account()",
            "account().password",
            "account.__globals__",
            "account.__closure__",
            "row().__class__.__init__.__globals__",
        ):
            assert SECRET not in outcome(armed, climb)
        assert armed.execute("row()['name']").value == "Ada"


def test_a_tool_that_is_called_without_end_is_stopped(sandbox):
    calls = []

    def note(x: int) -> None:
        """Take note."""
        calls.append(x)

    armed = sandbox.fresh([note])
    armed.max_tool_calls = 20
    with armed, pytest.raises(tf.CodeExecutionError, match="more than 20 times"):
        armed.execute("while True:\n  try: note(1)\n  except BaseException: pass")
    assert len(calls) == 20


@pytest.mark.parametrize(
    "code",
    [
        "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Link': o.send('ready')",
        "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Link': o._target.write(b'\\xff\\xff\\xff\\xff'); o._target.flush()",
        "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Link': o._target.write(b'\\x02\\0\\0\\0{]'); o._target.flush()",
        "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Link': o.send('call', name=1, args=2, kwargs=3)",
        "import gc\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Output': o.length = float('inf')",
        "import gc\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Link': o.send('error', message='x' * 10**7)",
        "import os\nfor fd in range(3, 20): os.close(fd)",
        "import sys\nsys.stdout = None\nsys.modules.clear()",
        "import builtins\nbuiltins.compile = builtins.repr = None",
        "import json\njson.dumps = lambda *a, **k: '[' * 10**6",
        "import ctypes\nctypes.string_at(0)",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nprint('raised')",
        "import ctypes\nprint('traced', ctypes.CDLL(None).ptrace(0, 0, 0, 0))",
        "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.syscall(0x40000000 + 2, b'/etc/passwd', 0))",
    ],
)
def test_meddling_with_the_process_itself_is_contained(python, code):
    """Code can reach everything in its process; it gains nothing by it, and at worst the process is replaced."""
    try:
        found = python.execute(code)
        said = found.printed
    except tf.CodeExecutionError as error:
        said = str(error)
    assert "raised" not in said
    assert "traced 0" not in said
    assert len(said) < 5_000
    python.close()  # until then it may give its own later code wrong results, and nobody else's
    assert python.execute("20 + 1").value == 21


def test_a_process_that_was_stopped_is_gone(python):
    python.execute("1")
    process = python._process
    with pytest.raises(tf.CodeExecutionError):
        python.execute("while True: pass")
    assert process.poll() is not None
