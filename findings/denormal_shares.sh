#!/bin/sh
# Version: torch 2.13.0 with MKL, CPU build, Python 3.11, Intel Xeon, one thread.
# Guess: the cost of a matrix product does not depend on the numbers in it.
# Seen: the posterior weights of the components of a mixture in 64
# dimensions, a softmax of logits that differ by hundreds, hold numbers below 1.2e-38. Times the components' terms they
# made the product (128, 55 * 64) by (55 * 64, 64) 4 to 25 times as long as with those weights set to 0, which
# changes no digit of the result. The softmax itself is not slower.
# Output: 29521 denormal of 450560 numbers, 16.60 ms; with small weights 0: 0 denormal, 0.67 ms; results differ by 0;
# 24.8 times as long.
# Fails where the product is less than 1.5 times as long.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import torch

torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
rows, components, columns = 128, 55, 64
logits = -50 * torch.rand(rows, components, generator=draw).square().mul(4)
terms = torch.randn(rows, components, columns, generator=draw)
matrix = torch.randn(components * columns, columns, generator=draw)
weights = logits.softmax(1)
zeroed = weights.where(weights > torch.finfo(torch.float32).eps ** 2, 0)
tiny = torch.finfo(torch.float32).tiny


def seconds(weights):
    products = (weights[..., None] * terms).flatten(1)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        products @ matrix
        times.append(time.perf_counter() - began)
    return statistics.median(times), int(((products != 0) & (products.abs() < tiny)).sum()), products @ matrix


slow, many, full = seconds(weights)
fast, none, same = seconds(zeroed)
print(f"{torch.__version__}: {many} denormal of {rows * components * columns} numbers, {1e3 * slow:.2f} ms")
print(f"with small weights 0: {none} denormal, {1e3 * fast:.2f} ms; results differ by {(full - same).abs().max():.1g}")
print(f"{slow / fast:.1f} times as long")
if slow < 1.5 * fast:
    sys.exit("denormal numbers no longer make the product slow")
PYTHON
