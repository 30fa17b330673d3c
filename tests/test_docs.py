"""The documents: every source that the code cites is listed, links lead somewhere, the README's program runs."""

import re
import shlex
from pathlib import Path

import pytest

from scorefield.cli.options import COMMANDS
from scorefield.gallery import ENTRIES
from scorefield.selftest import table

ROOT = Path(__file__).parent.parent
ANNEXES = {"gallery", "selftest"}
"""Rooms that the architecture page does not list file by file."""

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
KEY = re.compile(r"\b((?:d[ae]l? )?[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)?, (?:19|20)\d\d[a-z]?)\b")


def test_every_source_cited_in_the_code_is_in_the_references():
    listed = set(re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs" / "references.md").read_text()))
    cited = {key for path in (ROOT / "src").rglob("*.py") for key in KEY.findall(path.read_text())}
    assert cited - listed == set()
    assert len(cited) > 10


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.slow
def test_the_readmes_programs_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict = {}
    for block in blocks:
        exec(block.replace("random_state=0).fit", "random_state=0, max_iter=50).fit"), names)
    assert names["new"].shape == (1000, 2)
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
            options = cli._parse([*words, "--out", "x"] if left_out else words)
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
