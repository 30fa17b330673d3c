"""How large files and functions may be, and how often types may be ignored."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("src", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

LINES = 300
"""The most lines of a file."""

FUNCTION = 40
"""The most lines of a function whose docstring has no sentence that begins with "Long because"."""

IGNORED = 4
"""The most `type: ignore` of the product."""


def too_long(text: str) -> set[str]:
    """Return the names of the functions that are longer than FUNCTION and give no reason."""
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= FUNCTION
        and not re.search(r"(^|[.!?]\s+|\n\s*)Long because \S", ast.get_docstring(node) or "")
    }


def test_no_file_is_too_long():
    assert len(FILES) > 200
    assert {name for name, text in FILES.items() if text.count("\n") > LINES} == set()


def test_no_function_is_too_long_without_a_reason():
    found = {f"{name}:{function}" for name, text in FILES.items() for function in too_long(text)}
    assert found == set()


def test_few_types_are_ignored():
    counts = {name: len(re.findall(r"#.*type: ignore", text)) for name, text in FILES.items() if name.startswith("src")}
    assert sum(counts.values()) <= IGNORED, {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    ("lines", "docstring", "found"),
    [
        (FUNCTION, "Do it.", set()),
        (FUNCTION + 1, "Do it.", {"f"}),
        (FUNCTION + 1, "Do it. Long because the steps share a state.", set()),
        (FUNCTION + 1, "Do what is not Long because.", {"f"}),
    ],
)
def test_a_long_function_is_found(lines, docstring, found):
    assert too_long(f'def f():\n    """{docstring}"""\n' + (lines - 2) * "    pass\n") == found
