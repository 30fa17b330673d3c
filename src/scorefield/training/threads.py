"""How many threads can compute at once: what a machine has, less what is given to others."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import torch
from torch.nn.functional import conv2d

TRIES = 50
"""Convolutions, each of a few milliseconds on one core, by which numbers of threads are compared."""


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, at least 1: those of its affinity, within the quotas of its cgroups.

    A share of a core that is left over counts as none: threads that wait for it would make the others wait. root: where
    /proc and /sys are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([affinity, *_quotas(root)])))


def fastest(most: int) -> int:
    """Return how many threads, of 1, 2, 4 and so on up to `most`, convolve small images fastest at the moment.

    Threads wait for each other at the end of every operation, so beside other processes several can take ten times as
    long as one. Each number is given up as soon as it is slower than a smaller one.
    """
    before, best, least = torch.get_num_threads(), 1, math.inf
    tried = sorted({most, *(2**k for k in range(most.bit_length()))})
    for threads in tried if most > 1 else []:
        torch.set_num_threads(threads)
        if (took := _seconds(least)) < least:
            best, least = threads, took
    torch.set_num_threads(before)
    return best


def _seconds(limit: float) -> float:
    """Return the seconds that TRIES convolutions take, or those of fewer where these exceed a limit."""
    images, kernel = torch.zeros(64, 64, 8, 8), torch.zeros(64, 64, 3, 3)
    conv2d(images, kernel, padding=1)  # threads are made in it
    began = perf_counter()
    for _ in range(TRIES):
        conv2d(images, kernel, padding=1)
        if perf_counter() - began > limit:
            break
    return perf_counter() - began


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each cgroup of this process allows, of version 2 and 1, with those that contain it."""
    groups, mounts = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names = mounts, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mount, names = mounts / controllers, ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        folder = mount / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(mount):
                with suppress(OSError, ValueError):  # no such file, or 'max'
                    quota, period = (float(word) for name in names for word in (place / name).read_text().split())
                    yield quota / period if quota > 0 else math.inf
