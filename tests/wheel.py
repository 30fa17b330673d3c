"""Build a wheel, install it where nothing of the project is, and use it as a stranger would.

The dependencies are those of the environment that runs this: a path in the new one leads to them, not to this project.

    python tests/wheel.py
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command: object, folder: Path) -> str:
    """Return what a command prints; no variable of Python's leads it back to the project. Raises if it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=folder, env=clean, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def built(folder: Path) -> Path:
    """Return the wheel, which holds every file of the package and none of the tests."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    missing = {path.relative_to(source).as_posix() for path in (source / "scorefield").rglob("*.py")} - names
    beside = {name for name in names if not (source / name).is_file()}
    if missing or beside:
        raise SystemExit(f"the wheel lacks {sorted(missing)} and holds {sorted(beside)} besides")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1024:.0f} KiB")
    return wheel


def installed(wheel: Path, folder: Path) -> Path:
    """Return the folder of programs of a new environment that holds the wheel."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(programs / "python", "-c", "import scorefield; print(scorefield.__file__)", folder=folder)
    if not Path(where).is_relative_to(folder):
        raise SystemExit(f"expected the package in {folder}; it is in {where}")
    return programs


def main() -> None:
    """Build, install, and go from a table to its evaluation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "work").mkdir()
        command = installed(built(folder), folder / "env") / "scorefield"
        print(run(command, "--version", folder=folder).strip())
        for words in (
            ["fit", ROOT / "examples" / "geyser.csv", "--out", "run", "--steps", 60, "--quiet"],
            ["sample", "run", "-n", 100, "--out", "samples.csv"],
            ["evaluate", "run"],
        ):
            print(run(command, *words, folder=folder / "work"))
        rows = (folder / "work" / "samples.csv").read_text().splitlines()
        if len(rows) != 101:
            raise SystemExit(f"expected a header and 100 rows; got {len(rows)} lines")


if __name__ == "__main__":
    main()
