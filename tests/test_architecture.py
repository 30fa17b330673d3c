"""The package's shape: rooms in their order, no import circle, and importing costs and changes nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scorefield

SOURCE = Path(scorefield.__file__).parent

ORDER = [
    {"numerics"},
    {"diffusion", "evaluation"},
    {"data", "inference"},
    {"training"},
    {"runs"},
    {"reports"},
    {"kinds"},
    {"cli"},
]
"""The rooms from the lowest floor to the highest; a room imports from lower floors and from itself only."""

BELOW = {room: set().union(*ORDER[:floor]) for floor, rooms in enumerate(ORDER) for room in rooms}

ALLOWED = {
    **BELOW,
    "gallery": BELOW["cli"],  # an annex that makes tutorials again with the rooms below the commands
    "selftest": BELOW["cli"] | {"cli"},  # an annex that tests every room, and the commands as a user types them
    "cli": BELOW["cli"] | {"gallery", "selftest"},  # no other room knows the annexes, nor they each other
    "__main__": {"cli"},
}
"""What the files of each room may import besides their own room."""

BY_NAME = {"__init__.py", "cli/dispatch.py"}
"""The files outside selftest that import modules of the package by a name computed when they are asked for."""


def short(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


FILES = {short(path): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def file_of(module: str) -> str | None:
    """Return the file of a module of the package, or None for what is no module."""
    inside = "/".join(module.split(".")[1:])
    return next((file for file in (f"{inside}.py", f"{inside}/__init__.py".lstrip("/")) if file in FILES), None)


def imports(file: str) -> set[str]:
    """Return the package's files that a file imports, at its top or in a function."""
    modules = set()
    for node in ast.walk(FILES[file]):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports by a relative name"
            if node.module.split(".")[0] == "scorefield":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                modules |= {name if file_of(name) else node.module for name in names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.split(".")[0] == "scorefield"}
    found = {file_of(module) for module in modules}
    assert None not in found, f"{file} imports what is not there: {modules}"
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of files each of which reaches every other one."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        found, pending = set(), [start]
        while pending:
            new = graph[pending.pop()] - found
            found |= new
            pending += new
        reached[start] = found
    return [{b for b in reached[a] if a in reached[b]} for a in graph if a in reached[a]]


@pytest.mark.parametrize("file", sorted(set(FILES) - {"__init__.py"}))
def test_a_room_imports_from_lower_rooms_only(file):
    room = room_of(file)
    others = {room_of(other) for other in imports(file) - {"__init__.py"}} - {room}
    assert others <= ALLOWED[room], others - ALLOWED[room]


def test_every_file_has_a_room_and_every_room_its_files():
    assert {room_of(file) for file in FILES} - {"__init__"} == set(ALLOWED)


def test_no_file_imports_itself_through_others():
    """Imports inside functions count, so that no file needs one to break a circle."""
    assert circles({file: imports(file) for file in FILES}) == []


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}
    assert circles(graph) == [{"b", "c"}, {"b", "c"}, {"d"}]


def test_few_files_import_by_a_computed_name():
    """What such an import loads is not seen by the tests above."""
    computed = {
        file
        for file, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
        and not isinstance(node.args[0], ast.Constant)
    }
    assert {file for file in computed if room_of(file) != "selftest"} == BY_NAME


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


HEAVY = ["torch", "numpy", "pandas", "sklearn", "matplotlib", "pyarrow", "scipy"]


@pytest.mark.parametrize(
    "code",
    ["import scorefield", "sys.argv = ['scorefield', '--help']\nfrom scorefield import cli\ncli.main()"],
    ids=["import", "help"],
)
def test_importing_and_helping_load_nothing_heavy_and_take_under_half_a_second(code):
    """Seconds of the processor, of a process with nothing else to do."""
    last = "print()\nprint([m for m in HEAVY if m in sys.modules])"
    program = f"import sys\nHEAVY = {HEAVY}\ntry:\n" + "".join(f"    {line}\n" for line in code.splitlines())
    program += "except SystemExit:\n    pass\n" + last
    before = os.times()
    loaded = run_python(program).splitlines()[-1]
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert loaded == "[]"
    assert spent < 0.5


def test_a_fit_and_log_densities_load_no_matplotlib_and_no_compiler_of_pytorch(tmp_path):
    """They take 0.6 and 1.3 s."""
    out, points = str(tmp_path / "run"), tmp_path / "points.csv"
    points.write_text("x1,x2\n0,0\n")
    code = f"""
import sys
from scorefield.cli import main
fit = ["fit", "moons", "--rows", "60", "--steps", "1", "--quiet", "--out", {out!r}]
for words in (fit, ["logprob", {out!r}, {str(points)!r}, "--out", {out + ".csv"!r}, "--quiet"]):
    sys.argv = ["scorefield", *words]
    try:
        main()
    except SystemExit as done:
        assert not done.code
print([m for m in ("matplotlib", "torch._dynamo") if m in sys.modules])
"""
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
