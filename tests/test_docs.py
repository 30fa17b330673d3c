"""The documents: sources are listed, links lead somewhere, lines are short, programs and commands run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from scorefield.cli.options import COMMANDS
from scorefield.cli.parsing import parse
from scorefield.gallery import ENTRIES
from scorefield.selftest import table

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
ANNEXES = {"gallery", "selftest"}
"""Rooms that the architecture page does not list file by file."""

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
KEY = re.compile(r"\b((?:d[ae]l? )?[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)?, (?:19|20)\d\d[a-z]?)\b")


def test_every_source_cited_in_the_code_is_in_the_references():
    listed = set(re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs" / "references.md").read_text()))
    cited = {key for path in (ROOT / "src").rglob("*.py") for key in KEY.findall(path.read_text())}
    assert cited - listed == set()
    assert len(cited) > 10


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_between_documents_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", without_code(path.read_text())):
        other = path.parent / target if target else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


@each_document
def test_lines_of_documents_have_at_most_100_characters(path):
    assert {i: line for i, line in enumerate(path.read_text().split("\n"), 1) if len(line) > 100} == {}


@pytest.mark.parametrize("folder", ["decisions", "evidence"])
def test_every_page_is_in_the_index(folder):
    index = ROOT / "docs" / {"decisions": "decisions/README.md", "evidence": "benchmarks.md"}[folder]
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index.read_text())}
    pages = {*(ROOT / "docs" / folder).glob("*.md")} - {index}
    assert len(pages) > 8
    assert pages <= linked


def test_the_lines_that_made_the_example_make_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "examples" / "README.md").read_text(), re.S)
    exec(block, {})
    assert (tmp_path / "geyser.csv").read_bytes() == (ROOT / "examples" / "geyser.csv").read_bytes()


@pytest.mark.slow
def test_the_readmes_programs_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict = {}
    for block in blocks:
        exec(block.replace("random_state=0).fit", "random_state=0, max_iter=50).fit"), names)
    assert names["new"].shape == (1000, 4)
    assert (names["again"].score_samples(names["X"][:100]) == names["logp"]).all()
    assert names["x"].shape == (500, 2)
    assert names["found"].value.shape == (500,)


def test_the_commands_that_the_documents_show_are_understood():
    """Those of lines of their own and in the text: the commands, their options, entries of the gallery, tests exist."""
    found = [
        line
        for path in DOCUMENTS
        for pattern in (r"^    (?:\w+=\w+ )?scorefield (.+)$", r"`scorefield ([^`]+)`")
        for line in re.findall(pattern, path.read_text(), re.M)
    ]
    for line in found:
        words = shlex.split(line, comments=True)
        assert words[0] in (*COMMANDS, "--help"), line
        if len(words) > 1:  # else the command is meant as such
            left_out = words[0] in ("fit", "sample") and not {"--out", "-o"} & set(words)
            options = parse([*words, "--out", "x"] if left_out else words, pytest.fail)
            assert words[:2] != ["gallery", "run"] or options.name in ENTRIES, line
            assert words[0] != "selftest" or {*options.names} <= {*table()}, line
    assert len(found) > 30


@pytest.mark.slow
def test_the_program_for_a_density_of_ones_own_runs():
    """The second column is N(0, 1) and the first symmetric: 5 standard errors of 400 draws, a rate of 2e-6."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "choosing.md").read_text(), re.S)
    names: dict = {}
    exec(block[1], names)
    x = names["torch"].stack(names["states"][len(names["states"]) // 2 :]).flatten(0, 1)
    assert abs(float(x[:, 0].mean())) < 5 * float(x[:, 0].std()) / 20
    assert abs(float(x[:, 1].mean())) < 5 / 20
    assert float(x[:, 1].var()) == pytest.approx(1, abs=5 * (2 / 400) ** 0.5)


def test_the_architecture_page_lists_every_module():
    table = (ROOT / "docs" / "architecture.md").read_text()
    rooms = ROOT / "src" / "scorefield"
    paths = [path for path in rooms.glob("*/**/[a-z]*.py") if path.relative_to(rooms).parts[0] not in ANNEXES]
    assert len(paths) > 50
    for path in paths:
        assert f"`{path.stem}`" in table, path.stem
