"""R30: what the installed package's own source says and needs: nothing that runs or unpacks what it reads."""

import ast
import base64
import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

import scorefield
from scorefield.selftest.report import Check, Entry, Failures, Plan

CALLS = {
    "breakpoint",
    "compile",
    "eval",
    "exec",
    "__import__",
    "joblib.load",
    "numpy.random.normal",
    "numpy.random.rand",
    "numpy.random.seed",
    "np.random.normal",
    "np.random.rand",
    "np.random.seed",
    "os.popen",
    "os.system",
    "random.seed",
    "torch.jit.load",
    "torch.load",
    "torch.manual_seed",
}
"""Calls that run what they are given, read pickles or change randomness that belongs to others."""

METHODS = {"extractall", "extract", "unpack_archive"}
"""Methods that write where an archive says."""

KEYWORDS = {("shell", True), ("allow_pickle", True), ("weights_only", False), ("verify", False)}
"""Arguments that take a protection away."""

MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve", "yaml"}
"""Modules that make objects of what they read."""

NETWORK = {"aiohttp", "ftplib", "http", "httpx", "requests", "smtplib", "socket", "ssl", "urllib", "urllib3", "xmlrpc"}
"""Modules that reach other machines: none is imported with the package, one function fetches MNIST."""

FETCHES = "data/images/mnist.py"

TORCH = (2, 10)
"""The first PyTorch without known ways round its safe loading (CVE-2025-32434, CVE-2026-24747)."""


def name_of(node: ast.expr) -> str:
    """Return a dotted name, empty where it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := name_of(node.value)):
        return f"{start}.{node.attr}"
    return ""


def said(node: ast.AST) -> Iterator[str]:
    """Yield what is forbidden of one node of a source."""
    if isinstance(node, ast.Assert):
        yield "assert, which python -O takes away"
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
    if isinstance(node, ast.Call):
        name = name_of(node.func)
        if name in CALLS:
            yield f"{name}()"
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            yield f".{node.func.attr}()"
        for keyword in node.keywords:
            if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in KEYWORDS:
                yield f"{keyword.arg}={keyword.value.value!r}"


def network(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    """Yield imports of network modules with the package, and anywhere but where MNIST is fetched."""
    outside = {id(node) for function in ast.walk(tree) if is_function(function) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found = [name for name in names if name.split(".")[0] in NETWORK]
            if found and (file != FETCHES or id(node) not in outside):
                yield node.lineno, f"import {found[0]}"


def is_function(node: ast.AST) -> bool:
    """Return whether a node is a function."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def findings(path: Path, file: str) -> list[str]:
    """Return what is forbidden in a source, with its lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr)]
    found = [(node.lineno, text) for node in nodes for text in said(node)]
    return [f"line {line}: {text}" for line, text in [*found, *network(tree, file)]]


def sources() -> dict[str, Path]:
    """Return the files of the installed package by their place in it."""
    root = Path(scorefield.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path for path in files}


def version(text: str) -> tuple[int, ...]:
    """Return the numbers with which a version begins."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


def checkout() -> Path | None:
    """Return the folder of the project where the package is one in its source tree, else None."""
    root = Path(scorefield.__file__).parent.parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "constraints.txt").is_file() else None


def requirements() -> dict[str, str]:
    """Return what the package needs to run, by name, with the least version."""
    root = checkout()
    if root is not None:
        lines = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    else:
        lines = [line for line in importlib.metadata.requires("scorefield") or [] if "extra ==" not in line]
    return {re.split(r"[<>=!~ ;\[]", line)[0]: next(iter(re.findall(r">=\s*([\d.]+)", line)), "0") for line in lines}


def pins(root: Path) -> Failures:
    """Compare the versions that a checkout pins with what it needs, its tests and benchmarks included."""
    found = Failures("versions pinned")
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {re.sub("[-_.]+", "-", name).lower(): exact for name, _, exact in (line.partition("==") for line in lines)}
    for line in lines:
        found.add(line, "" if re.fullmatch(r"[\w.-]+==[\w.]+", line) else "it is not one exact version")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for line in [*project["dependencies"], *(x for extra in project["optional-dependencies"].values() for x in extra)]:
        name, least = re.split(r"[<>=]", line)[0], line.partition(">=")[2] or "0"
        exact = pinned.get(re.sub("[-_.]+", "-", name).lower())
        found.add(line, None if exact and version(exact) >= version(least) else f"it is pinned to {exact}")
    return found


def contents() -> Failures:
    """Look for what is no Python in the package, and compare what was installed with the sums of its wheel."""
    found = Failures("files of the package")
    for file in sources():
        found.add(file, "" if file.endswith((".py", "py.typed")) else "it is no Python source")
    try:
        files = importlib.metadata.files("scorefield") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was not installed
        files = []
    for part in files:
        if part.suffix == ".py" and part.hash is not None and part.hash.mode == "sha256":
            digest = hashlib.sha256(part.read_binary()).digest()
            same = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == part.hash.value
            found.add(str(part), "" if same else "it is not what the wheel held")
    return found


OFFLINE = """
import sys, tempfile
def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        raise RuntimeError(f"a network is asked for: {event} {arguments[1:]}")
sys.addaudithook(refuse)
from scorefield.cli import entry as cli
with tempfile.TemporaryDirectory() as name:
    for command in ("fit moons --rows 100 --steps 2 --quiet --out RUN", "sample RUN -n 5 --quiet --out RUN.csv"):
        sys.argv = ["scorefield", *command.replace("RUN", name + "/run").split()]
        try:
            cli.main()
        except SystemExit as stop:
            if stop.code:
                raise
"""


def offline() -> Check:
    """Learn and sample in a process that may not ask for a network."""
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    return Check(f"commands that ask for a network {last}".rstrip(), float(done.returncode != 0), 0.0, 2)


def run(plan: Plan) -> Iterator[Check]:
    """Count what is forbidden in the source, and what does not fit in the installation."""
    forbidden, needed = Failures("forbidden in the source"), Failures("installed versions")
    for file, path in sources().items():
        if path.suffix == ".py":
            for text in findings(path, file) or [""]:
                forbidden.add(file, text)
    yield forbidden.check()
    for name, least in requirements().items():
        there = importlib.metadata.version(name)
        needed.add(name, "" if version(there) >= version(least) else f"{there} is older than {least}")
    needed.add("torch", "" if version(torch.__version__) >= TORCH else f"{torch.__version__} loads unsafely")
    yield needed.check()
    yield contents().check()
    root = checkout()
    if root is not None:
        yield pins(root).check()
    if plan.size != "smoke":
        yield offline()


@contextmanager
def fault() -> Iterator[None]:
    """Plant: a copy of the package whose checkpoints are read by torch.load."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "scorefield"
        shutil.copytree(Path(scorefield.__file__).parent, copy)
        path = copy / "runs/checkpoint.py"
        path.write_text(path.read_text().replace("safetensors.load(content)", "torch.load(io.BytesIO(content))"))
        with patch.object(scorefield, "__file__", str(copy / "__init__.py")):
            yield


TESTS = {"R30": Entry("the source and what it needs", run, fault, smoke=True)}
