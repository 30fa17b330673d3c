"""What all tests share: one thread, a generator with a fixed seed, the commands, a guard on torch's global state."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Generator

torch.set_num_threads(1)
threadpool_limits(limits=1)


@pytest.fixture
def generator() -> Generator:
    """A CPU generator with a fixed seed, so that a red test is always a real change."""
    return Generator().manual_seed(20_250_607)


@pytest.fixture
def run_main(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process, which is quicker: returns exit code, standard output and error."""
    from scorefield.cli import entry, main  # here: what the import hook of shape checks is to see comes after this file

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        monkeypatch.setattr(entry.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(autouse=True)
def no_global_state_changed() -> Iterator[None]:
    """Fail any test that changes torch's global generator, default dtype, grad mode or number of threads."""
    random, dtype = torch.get_rng_state(), torch.get_default_dtype()
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    yield
    changed = []
    if not torch.equal(torch.get_rng_state(), random):
        changed.append("global random state")
        torch.set_rng_state(random)
    if torch.get_default_dtype() != dtype:
        changed.append(f"default dtype ({torch.get_default_dtype()})")
        torch.set_default_dtype(dtype)
    if torch.is_grad_enabled() != grad:
        changed.append("grad mode")
        torch.set_grad_enabled(grad)
    if torch.get_num_threads() != threads:
        changed.append(f"number of threads ({torch.get_num_threads()})")
        torch.set_num_threads(threads)
    if changed:
        pytest.fail("this test, or what it calls, changed torch's " + ", ".join(changed))
