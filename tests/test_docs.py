"""The documents: every source that the code cites is listed, links lead somewhere, the README's program runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KEY = re.compile(r"\b((?:d[ae]l? )?[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)?, (?:19|20)\d\d[a-z]?)\b")


def test_every_source_cited_in_the_code_is_in_the_references():
    listed = set(re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs" / "references.md").read_text()))
    cited = {key for path in (ROOT / "src").rglob("*.py") for key in KEY.findall(path.read_text())}
    assert cited - listed == set()
    assert len(cited) > 10


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda p: p.name)
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


def test_the_architecture_page_lists_every_module():
    table = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "src" / "scorefield").glob("[a-z]*.py"):
        assert f"`{path.stem}`" in table, path.stem
