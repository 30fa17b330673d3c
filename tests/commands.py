"""The commands in a process of their own, and what a refusal looks like."""

import subprocess
import sys

TINY = ("--steps", 30, "--quiet")


def scorefield(*arguments, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-m", "scorefield", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (done.args, done.stdout, done.stderr)
    return done


def refused(result: tuple[int, str, str], *fragments: str) -> None:
    """Exit code 2 and one line on standard error with these fragments, nothing on standard output, no traceback."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("scorefield: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in err, err
