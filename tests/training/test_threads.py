"""Threads: no more than the affinity and the quotas of cgroups allow, read from files made for it."""

import math
import os

import pytest
import torch

from scorefield.training import threads
from scorefield.training.threads import cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def made(root, groups, **files):
    """A system whose process is in `groups`; files: their texts by path below /sys/fs/cgroup."""
    for path, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_without_cgroups_it_is_the_affinity(tmp_path):
    assert cores(tmp_path) == 8
    assert cores(made(tmp_path, "0::/\n")) == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 8), ("400000 100000", 4), ("150000 100000", 1), ("5000 100000", 1), ("99 9", 8), ("", 8)],
)
def test_version_2_counts_whole_cores_of_the_quota(tmp_path, quota, expected):
    assert cores(made(tmp_path, "0::/\n", **{"cpu.max": quota})) == expected


def test_the_quota_of_a_group_that_contains_this_one_holds_too(tmp_path):
    files = {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "c/cpu.max": "100000 100000"}
    assert cores(made(tmp_path, "0::/a/b\n", **files)) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("250000", 2)])
def test_version_1_has_quota_and_period_in_two_files(tmp_path, quota, expected):
    groups = "11:memory:/x\n4:cpu,cpuacct:/x\n1:name=systemd:/x\n"
    files = {"cpu,cpuacct/x/cpu.cfs_quota_us": quota, "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}
    assert cores(made(tmp_path, groups, **files, **{"memory/x/cpu.cfs_quota_us": "1"})) == expected


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.2, 6: 1.1}, 6),
        ({1: 4.0, 2: 9.0, 4: 8.0, 6: 7.0}, 1),
        ({1: 4.0, 2: 3.0, 4: 3.0, 6: 5.0}, 2),
    ],
)
def test_the_number_of_threads_is_the_fastest_of_those_tried(monkeypatch, seconds, best):
    """1, 2, 4 and all six, each at most as long as the best so far; the number that was set is set again."""
    limits = []

    def took(limit):
        limits.append(limit)
        return seconds[torch.get_num_threads()]

    monkeypatch.setattr(threads, "_seconds", took)
    before = torch.get_num_threads()
    assert threads.fastest(6) == best
    assert torch.get_num_threads() == before
    assert limits == [math.inf, *(min(list(seconds.values())[:k]) for k in (1, 2, 3))]
    limits.clear()
    assert threads.fastest(1) == 1
    assert not limits, "one needs no trial"


def test_convolutions_are_given_up_beyond_a_limit():
    assert threads._seconds(math.inf) > 0
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "conv2d", lambda *_, **__: calls.append(1))
        threads._seconds(0.0)
    assert len(calls) == 2
