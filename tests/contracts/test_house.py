"""The structure that the code keeps, checked by machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tuneful
from tuneful import errors

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "tuneful").rglob("*.py"))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_layers_import_only_what_is_below_them():
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    # In a process of its own: it sets up logging for the whole of one.
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_inside_imports_the_facade(path):
    names = set(tuneful._HOME_OF)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            assert "tuneful" not in [a.name for a in node.names]
        if isinstance(node, ast.ImportFrom) and node.module == "tuneful" and path.parent.name != "tuneful":
            assert not names & {a.name for a in node.names}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            assert node.end_lineno - node.lineno - docstring < 60, node.name


#: The program of the sandboxed process: running code is what it is for, and it reaches nothing of the package.
WORKER = ROOT / "src" / "tuneful" / "sandbox" / "worker.py"


def test_the_program_of_the_sandbox_stands_alone():
    imported = [n for n in ast.walk(tree(WORKER)) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert not [n for n in imported if "tuneful" in ast.unparse(n)]


@pytest.mark.parametrize("path", [p for p in SOURCES if p != WORKER], ids=lambda p: str(p.relative_to(ROOT)))
def test_law_8_no_pickle_and_no_eval(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "cloudpickle", "marshal", "shelve", "dill"} & set(modules)


def test_every_public_name_exists_and_is_listed_once():
    assert sorted(tuneful.__all__) == sorted({*tuneful._HOME_OF, *tuneful._MODULES})
    for name in tuneful.__all__:
        assert getattr(tuneful, name) is not None


def test_every_public_thing_has_a_docstring():
    for name in tuneful.__all__:
        assert (getattr(tuneful, name).__doc__ or "").strip() or name == "settings", name


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean `Predict`"):
        tuneful.Predikt


def test_the_tree_drawn_in_errors_is_the_tree_of_the_classes():
    drawn = re.findall(r"^\s+(?:[│ ]*[├└]── )?(\w+)", errors.__doc__.split("\n\n")[1], re.MULTILINE)
    real = [n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.TunefulError)]

    assert sorted(drawn) == sorted(real)
    parents = {}
    stack = []
    for line in errors.__doc__.split("\n\n")[1].splitlines():
        depth, name = re.search(r"\w", line).start(), re.search(r"\w+", line).group()
        while stack and stack[-1][0] >= depth:
            stack.pop()
        parents[name] = stack[-1][1] if stack else None
        stack.append((depth, name))
    for name, parent in parents.items():
        if parent:
            assert getattr(errors, parent) in getattr(errors, name).__bases__, name


def test_the_architecture_page_names_every_folder():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

    for folder in {p.parent for p in SOURCES} - {ROOT / "src" / "tuneful"}:
        assert f"{folder.relative_to(ROOT / 'src' / 'tuneful')}/" in page
