#!/bin/sh
# Version: torch 2.13.0, CPU build, Python 3.11, Intel Xeon.
# Guess: PyTorch loads its compiler where something is compiled.
# Seen: making the first torch.optim.Adam, and calling what torch.func.vjp returns, import
# torch._dynamo, 1.2 to 1.4 s of a processor; torch.nn.utils.skip_init imports sympy, 0.4 s. The function
# torch.optim.adam.adam, torch.func.jvp and a layer made as usual import neither. It counts in commands that run for
# seconds.
# Output: torch.optim.Adam: ['torch._dynamo', 'sympy'], 1.61 s; torch.func.vjp the same, 1.75 s; skip_init: ['sympy'],
# 0.61 s; torch.optim.adam.adam: neither, 0.00 s; torch.func.jvp: neither, 0.26 s; torch.nn.Linear: neither, 0.00 s.
# Fails where a call of the first three no longer imports it, or one of the last three does.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/ask.py" <<'PYTHON'
import sys
import time

import torch
from torch.optim.adam import adam

weight = torch.zeros(3, requires_grad=True)
x = torch.ones(3)
moments = lambda: [torch.zeros(3)]
constants = {"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "lr": 0.1, "weight_decay": 0.0, "eps": 1e-8}
with torch.no_grad():
    calls = {
        "torch.optim.Adam": lambda: torch.optim.Adam([weight]),
        "torch.func.vjp": lambda: torch.func.vjp(torch.sin, x)[1](x),
        "torch.nn.utils.skip_init": lambda: torch.nn.utils.skip_init(torch.nn.Linear, 2, 3),
        "torch.optim.adam.adam": lambda: adam(
            [weight], moments(), moments(), moments(), [], [torch.zeros(())], fused=True, maximize=False, **constants
        ),
        "torch.func.jvp": lambda: torch.func.jvp(torch.sin, (x,), (x,)),
        "torch.nn.Linear": lambda: torch.nn.Linear(2, 3),
    }
    began = time.process_time()
    calls[sys.argv[1]]()
loaded = [name for name in ("torch._dynamo", "sympy") if name in sys.modules]
print(f"{torch.__version__} {sys.argv[1]}: {loaded or 'neither'}, {time.process_time() - began:.2f} s")
expected = {"torch.optim.Adam": "torch._dynamo", "torch.func.vjp": "torch._dynamo", "torch.nn.utils.skip_init": "sympy"}
found = expected[sys.argv[1]] in loaded if sys.argv[1] in expected else not loaded
if not found:
    sys.exit(f"{sys.argv[1]}: expected {expected.get(sys.argv[1], 'neither')}; got {loaded}")
PYTHON
for call in torch.optim.Adam torch.func.vjp torch.nn.utils.skip_init torch.optim.adam.adam torch.func.jvp torch.nn.Linear
do
    "$folder/venv/bin/python" "$folder/ask.py" "$call"
done
