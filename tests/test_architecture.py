"""The package's shape: imports go down, importing costs and changes nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scorefield

SOURCE = Path(scorefield.__file__).parent

ROOMS = [
    {"numerics"},
    {"diffusion", "evaluation"},
    {"data", "inference"},
    {"training"},
    {"runs"},
    {"reports"},
    {"kinds"},
    {"gallery"},
    {"selftest"},
    {"cli"},
    {"__main__"},
]
"""From the lowest to the highest; a room imports from lower rooms and from itself only."""

NOT_YET: dict[str, set[str]] = {
    "selftest/command_line.py": {"cli"},
}
"""Imports that go up still, by file."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The package's rooms that a file imports from, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scorefield"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("scorefield.")}
    return found - {"__version__"}


def files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py" or path.parent != SOURCE)


def level(room: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if room in rooms)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_from_lower_rooms_only(path):
    room = room_of(path)
    wrong = {other for other in imports(path) - {room} if level(other) >= level(room)}
    assert wrong == NOT_YET.get(path.relative_to(SOURCE).as_posix(), set())


def test_every_module_has_a_room_and_every_room_its_modules():
    assert {room_of(path) for path in files()} == set().union(*ROOMS)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_loads_nothing_heavy():
    heavy = ["torch", "numpy", "pandas", "sklearn", "matplotlib", "pyarrow", "scipy"]
    code = f"import scorefield, scorefield.cli.entry, sys; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_loading_everything_changes_no_global_state():
    code = """
import torch, numpy, random, matplotlib, pandas, pyarrow.parquet, rich.progress, tyro, sklearn.neighbors, scipy.stats
state = lambda: (torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(),
    torch.is_grad_enabled(), str(numpy.random.get_state()), random.getstate(), dict(matplotlib.rcParams))
before = state()
import scorefield
for name in scorefield.__all__:
    getattr(scorefield, name)
import scorefield.cli.fit, scorefield.cli.evaluate, scorefield.cli.gallery
print(state() == before)
"""
    assert run_python(code) == "True"


def test_every_public_name_exists_and_is_documented():
    for name in scorefield.__all__:
        value = getattr(scorefield, name)
        if callable(value):
            assert (value.__doc__ or "").strip(), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        scorefield.nothing  # noqa: B018
