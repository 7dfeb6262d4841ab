"""Nothing in the package can run what it reads: no call that does so is anywhere in its code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src/mistline"
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pd.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "marshal.load", "marshal.loads",
    "dill.load", "dill.loads", "shelve.open", "tempfile.mktemp", "runpy.run_path", "builtins.eval", "builtins.exec",
}  # fmt: skip
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "commands", "code", "codeop"}
NEEDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
# Where something of this is meant: a pickle of text and numbers, whose Unpickler imports nothing; programs that are
# asked for by name, with their words as a list.
ALLOWED = {
    "models/gene_encoder/vocabulary.py": {"pickle"},
    "stages/doctor.py": {"subprocess"},
    "tasks/peers/environment.py": {"subprocess"},
    "tasks/peers/run.py": {"subprocess"},
}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def _bad_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func).replace("numpy.", "np.").replace("pandas.", "pd.")
        given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        if (
            name in CALLS
            or given.get("shell")
            or given.get("allow_pickle")
            or (name in NEEDED and given.get(NEEDED[name][0]) is not NEEDED[name][1])
            or name.endswith((".extractall", ".read_pickle", ".to_pickle"))
        ):
            yield name


def _bad(text: str, allowed: frozenset[str] | set[str] = frozenset()) -> list[str]:
    tree = ast.parse(text)
    modules = (set(_imports(tree)) & (MODULES | {"subprocess"})) - set(allowed)
    return [*_bad_calls(tree), *sorted(modules)]


def test_no_call_runs_what_was_read() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        bad = _bad(path.read_text(), ALLOWED.get(name, set()))
        if bad:
            found[name] = bad
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "import os; os.system(text)", "import pickle", "torch.load(path)", "np.load(path)",
        "torch.load(path, weights_only=False)", "numpy.load(path, allow_pickle=True)", "yaml.load(text)",
        "subprocess.run(text, shell=True)", "from joblib import load", "archive.extractall(folder)",
    ],
)  # fmt: skip
def test_each_of_them_would_be_found(line: str) -> None:
    assert _bad(line)


def test_what_is_allowed_is_still_there() -> None:
    for name, modules in ALLOWED.items():
        assert modules <= set(_imports(ast.parse(Path(SOURCE / name).read_text()))), name
