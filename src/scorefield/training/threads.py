"""How many threads can compute at once: what a machine has, less what is given to others."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, at least 1: those of its affinity, within the quotas of its cgroups.

    A share of a core that is left over counts as none: threads that wait for it would make the others wait. root: where
    /proc and /sys are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([affinity, *_quotas(root)])))


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
