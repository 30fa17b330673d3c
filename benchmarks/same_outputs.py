"""Everything that a user can measure of one tree, recorded, and compared with the record of another tree.

Runs the command line and the estimators of a tree in small, on tables, a small table, images, one noise level and an
energy, and mistakes too: exit codes, what is printed, the SHA-256 sum of every file. Trees are recorded one after
another, on one machine, with one thread, in one folder, since `fit` keeps the path of its data. Only timing.jsonl holds
a clock, and is left out; nothing else is masked. Each command is `python -m scorefield` in a process of its own, forked
from one that has imported PyTorch and pandas but nothing of the tree, which halves the time.

    python benchmarks/same_outputs.py record OUT [--source TREE/src] [--runs OLD] [--cases table digits]
    python benchmarks/same_outputs.py compare OLD OUT

Without --source it is the installed scorefield. OUT keeps every RUN folder as `fit` left it; --runs opens those of an
older record in place of fitting, so that its answers can be compared with the older program's. --cases records only
these, again where OUT has them.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from difflib import unified_diff
from pathlib import Path

import numpy as np
import pandas as pd
import torch  # noqa: F401

PLACE = Path(tempfile.gettempdir()) / "scorefield-same-outputs"
"""The folder that every record is made in; two at once cannot be."""

COMMANDS = Path(__file__).with_suffix(".txt")
"""Commands by the folder that they run in; one after ! is a mistake. fit again goes on from the checkpoint before."""

ANSWERS = Path(__file__).with_name("same_answers.py")

CASES = {name: lines.strip().splitlines() for name, lines in re.findall(r"\[(.+)\]\n([^[]+)", COMMANDS.read_text())}


def inputs(folder: Path) -> None:
    """Write the files that the commands read: bent columns, points of a plane, images; none depends on the tree."""
    from sklearn.datasets import load_digits

    folder.mkdir()
    draw = np.random.Generator(np.random.PCG64(0))
    angle, noise = draw.uniform(0, 6, 300), draw.normal(size=(2, 300))
    age = np.rint(40 + 30 * np.sin(angle) + noise[0]).astype(int)
    income, height = np.exp(7 + np.cos(angle) + 0.05 * noise[1]), 170 + 8 * np.sin(2 * angle)
    ring = pd.DataFrame({"age": age, "income": income, "height": height})
    for name, rows in (("ring", 300), ("few", 12), ("nine", 9)):
        ring[:rows].to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame(draw.uniform(-2, 2, (60, 2)), columns=["x1", "x2"]).to_csv(folder / "plane.csv", index=False)
    np.save(folder / "images.npy", load_digits().images[:12].astype(np.uint8))


def files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 sum of every file in a folder but those of a clock."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "timing.jsonl")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def environment(source: Path | None) -> dict[str, str]:
    """Return the environment of a tree: one thread, one width of the terminal."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONSAFEPATH"), "1")
    found = {**os.environ, **single, "COLUMNS": "100", "LINES": "50", "NO_COLOR": "1"}
    return found if source is None else found | {"PYTHONPATH": str(source.resolve())}


def forked(work: Callable[[], None]) -> int:
    """Return the exit code of a process of its own that does some work."""
    sys.stdout.flush()
    child, code = os.fork(), 1
    if not child:
        try:
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(line: str, folder: Path) -> dict:
    """Run a command, or ANSWERS for `python`, in a folder; return what is seen of it and of the files it made."""
    streams = [folder.with_name(name) for name in ("out", "err")]

    def work() -> None:
        os.chdir(folder)
        for number, path in enumerate(streams, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["scorefield", *line.removeprefix("! ").split()]
        if line == "python":
            runpy.run_path(str(ANSWERS), run_name="__main__")
        else:
            runpy.run_module("scorefield", run_name="__main__", alter_sys=True)

    before, code, after = files(folder), forked(work), files(folder)
    out, err = (path.read_text() for path in streams)
    changed = {name: after.get(name, "gone") for name in before | after if before.get(name) != after.get(name)}
    expected = (code, err.count("\n")) == (2, 1) if line[0] == "!" else code == 0
    return {"expected": expected, "code": code, "out": out, "err": err, "files": changed}


def record(out: Path, source: Path | None, old: Path | None, cases: list[str]) -> None:
    """Run the cases in PLACE, and write record.json and the RUN folders. ValueError where Python has another tree."""
    imported = Path(importlib.util.find_spec("scorefield").origin).parent
    if source is not None and imported != source.resolve() / "scorefield":
        raise ValueError(f"expected the scorefield in {source}; Python imports {imported}")
    kept = old and json.loads((old / "record.json").read_text())
    path = out / "record.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    PLACE.mkdir()
    try:
        for case in cases:
            folder = PLACE / case
            shutil.rmtree(out / case, ignore_errors=True)
            (out / case).mkdir(parents=True)
            found = {key: value for key, value in found.items() if not key.startswith(f"{case}, ")}
            forked(lambda: inputs(folder))  # noqa: B023
            for i, line in enumerate(CASES[case]):
                key = f"{case}, {i}: {line}"
                made, fits = folder / line.split()[-1], re.match("fit .* -o ", line)
                if again := fits and made.exists():
                    shutil.rmtree(max((made / "checkpoints").iterdir(), key=lambda path: int(path.name)))
                if fits and kept and not again:
                    shutil.copytree(old / case / made.name, made)
                    found[key] = kept[key]
                else:
                    found[key] = run(line, folder)
                if fits and made.exists() and not again:
                    shutil.copytree(made, out / case / made.name)
                print(found[key]["code"], f"{sum(os.times()[2:4]):.0f} s", key, flush=True)
            path.write_text(json.dumps(found, indent=1))
    finally:
        shutil.rmtree(PLACE)


def differences(a: dict, b: dict) -> Iterator[str]:
    """Yield a line for each thing that two records do not share, and for each command that did not end as it should."""
    for key in a | b:
        if key not in a or key not in b:
            yield f"{key}: only in {'the first' if key in a else 'the second'}"
            continue
        one, other = a[key], b[key]
        if not (one["expected"] and other["expected"]):
            yield f"{key}: did not end as it should, with exit codes {one['code']} and {other['code']}"
        for name in ("code", "out", "err"):
            lines = str(one[name]).splitlines(), str(other[name]).splitlines()
            yield from (f"{key}: {name}: {line}" for line in list(unified_diff(*lines, n=0, lineterm=""))[3:])
        for name in one["files"] | other["files"]:
            if one["files"].get(name) != other["files"].get(name):
                yield f"{key}: {name} differs"


def main() -> None:
    """Record or compare; exit 1 where records differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    recording, comparing = actions.add_parser("record"), actions.add_parser("compare")
    recording.add_argument("out", type=Path)
    recording.add_argument("--source", type=Path)
    recording.add_argument("--runs", type=Path)
    recording.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    comparing.add_argument("records", type=Path, nargs=2)
    options = parser.parse_args()
    if options.action == "record" and environment(options.source).items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], environment(options.source))
    if options.action == "record":
        record(options.out, options.source, options.runs, options.cases)
        return
    a, b = (json.loads((folder / "record.json").read_text()) for folder in options.records)
    found, count = list(differences(a, b)), sum(len(one["files"]) for one in a.values())
    print(*found, f"{len(found)} differences in {len(a)} commands and {count} files", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
