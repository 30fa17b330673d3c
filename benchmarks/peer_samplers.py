"""Our deterministic samplers beside those of azula and k-diffusion, on the same denoiser; 12 evaluations beside 999.

The error of a sampler is the root mean square distance of each sample to the end of the converged flow of the same
latent (`frontier.Bench`), in standard deviations of the data, at equal calls of the denoiser, the last jump to the
clean part included; float64. Ours walk on `grid_for`, which costs 65 calls for 64 rows once a model, not counted.
Peers get the same range of noise ratios and two grids beside their own: that of Karras et al., 2022, and equal steps in
log s/a. Samplers with an eta run with eta 0. k-diffusion ends with a jump to the clean part; azula is given one.
Of k-diffusion only `sampling.py` is loaded; its package, which imports torchvision, and torchsde are stubs here.

    pip install --no-deps azula==0.11.1 k-diffusion==0.1.1.post1 einops tqdm
    python benchmarks/peer_samplers.py
"""

import copy
import functools
import importlib
import importlib.util
import json
import math
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from azula import denoise, noise
from azula import sample as azula
from samplers import standardised
from torch import Tensor

from scorefield.data import toys
from scorefield.diffusion import times
from scorefield.diffusion.denoisers import Denoiser, ExactDenoiser, ScoreModel
from scorefield.diffusion.published import EDM, VP
from scorefield.evaluation import metrics
from scorefield.inference.frontier import Bench, Counted, steps_for
from scorefield.inference.samplers import SAMPLERS, grid_for, sample
from scorefield.numerics.tensors import spawn
from scorefield.training.config import Config
from scorefield.training.trainer import Trainer, batches

RESULTS = Path(__file__).parent / "results" / "peer_samplers.json"
BUDGETS = [6, 8, 12, 16, 24, 35]
OURS = ["adams", "deis", "dpmpp_2m", "heun", "ddim"]
BLOCKS, ROWS = 20, 5_000

Run = Callable[[Counted, Tensor, int], Tensor]
"""(model, latents, calls at most) -> samples."""


@functools.cache
def k_diffusion() -> types.ModuleType:
    """Return k_diffusion.sampling, without the rest of its package."""
    folder = Path(importlib.util.find_spec("k_diffusion").submodule_search_locations[0])
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__, package.utils = [str(folder)], utils
    utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]
    ode = types.ModuleType("torchdiffeq")
    ode.odeint = None
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils, "torchdiffeq": ode}
    sys.modules |= {"torchsde": types.ModuleType("torchsde")}
    return importlib.import_module("k_diffusion.sampling")


def clean(model: Denoiser, y: Tensor, ratio: Tensor) -> Tensor:
    """Return the clean part of y = x0 + ratio noise."""
    t = model.process.time(ratio.double()).clamp(max=model.process.t_max)
    return model.decompose(model.process.mean_coef(t) * y, t)[0]


def start(model: Denoiser, latents: Tensor) -> tuple[Tensor, float, float]:
    """Return x/a of latents, the smallest and the largest ratio."""
    a = model.process.mean_coef(torch.tensor(model.process.t_max, dtype=torch.float64))
    return latents / a, *times.bounds(model.process)


def crowson() -> Iterator[tuple[str, str, Run]]:
    """Yield k-diffusion's deterministic samplers with each grid."""
    found = k_diffusion()
    grids = {"karras": found.get_sigmas_karras, "log": found.get_sigmas_exponential}
    still = {"eta": 0.0, "noise_sampler": lambda sigma, later: 0.0}
    samplers = {
        "euler": (1, {}),
        "heun": (2, {}),
        "dpm_2": (2, {}),
        "dpmpp_2m": (1, {}),
        "dpmpp_2s_ancestral": (2, still),
    }
    samplers |= {f"lms {order}": (1, {"order": order}) for order in (2, 3, 4)}
    samplers |= {"dpmpp_2s_ancestral": (2, still), "dpmpp_sde": (2, still)}
    samplers |= {"dpmpp_2m_sde": (1, still), "dpmpp_3m_sde": (1, still)}

    def run(name: str, make: Callable, model: Counted, latents: Tensor, calls: int) -> Tensor:
        each, options = samplers[name]
        y, low, high = start(model, latents)
        sigmas = make((calls - 1) // each + 1, low, high).double()
        sampler = getattr(found, f"sample_{name.split()[0]}")
        return sampler(lambda y, sigma: clean(model, y, sigma[0]), y, sigmas, disable=True, **options)

    def fast(model: Counted, latents: Tensor, calls: int) -> Tensor:
        y, low, high = start(model, latents)
        y = found.sample_dpm_fast(lambda y, sigma: clean(model, y, sigma[0]), y, low, high, calls - 1, disable=True)
        return clean(model, y, torch.tensor(low))

    for name in samplers:
        for grid, make in grids.items():
            yield name, grid, functools.partial(run, name, make)
    yield "dpm_fast", "log", fast


class Karras(noise.Schedule):
    """Ratios with equal steps in ratio^(1/7)."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low ** (1 / 7), high ** (1 / 7)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), (self.low + t * (self.high - self.low)) ** 7


class Ours(denoise.Denoiser):
    """Our model as azula asks for it."""

    def __init__(self, model: Denoiser, schedule: noise.Schedule) -> None:
        super().__init__()
        self.model, self.schedule = model, schedule

    def forward(self, x: Tensor, t: Tensor) -> denoise.DiracPosterior:
        alpha, sigma = self.schedule(t)
        return denoise.DiracPosterior(clean(self.model, x / alpha, sigma / alpha))


def rozet() -> Iterator[tuple[str, str, Run]]:
    """Yield azula's deterministic samplers with each grid: even times of a schedule."""
    schedules = {
        "karras": Karras,
        "log": noise.VESchedule,
        "vp": lambda low, high: noise.VPSchedule(math.sqrt((1 + low**2) / (1 + high**2)), low),
    }
    samplers = {"DDIM": (1, {}), "Euler": (1, {}), "Heun": (2, {}), "Ito": (1, {"eta": 0.0})}
    for order in (2, 3):
        samplers |= {f"{name} {order}": (1, {"order": order}) for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB")}

    def run(name: str, schedule: Callable, model: Counted, latents: Tensor, calls: int) -> Tensor:
        each, options = samplers[name]
        y, low, high = start(model, latents)
        denoiser = Ours(model, schedule(low, high))
        (first, last), _ = denoiser.schedule(torch.tensor([1.0, 0.0], dtype=torch.float64))
        make = getattr(azula, f"{name.split()[0]}Sampler")
        x = make(denoiser, steps=(calls - 1) // each, silent=True, dtype=torch.float64, **options)(first * y)
        return clean(model, x / last, torch.tensor(low))

    for name in samplers:
        for grid, schedule in schedules.items():
            yield name, grid, functools.partial(run, name, schedule)


def own(name: str) -> Run:
    """Return one of our samplers on its own grid."""

    def run(model: Counted, latents: Tensor, calls: int) -> Tensor:
        path = grid_for(name, model.model, steps_for(SAMPLERS[name], calls))
        *_, last = SAMPLERS[name].make(None)(model, latents, path)
        return model.decompose(last, path[-1])[0]

    return run


@torch.no_grad()
def accuracy(data: str, model: Denoiser) -> list[dict]:
    """Return the error of every sampler with every grid at every budget.

    behind: the mean squared error beyond that of `adams`, in standard errors over the latents, paired.
    """
    bench, rows = Bench(model), []
    default = "vp" if isinstance(model.process, VP) else "log"  # azula's schedule of the same process
    runs = [("ours", name, "ours", True, own(name)) for name in OURS]
    runs += [("k-diffusion", name, grid, grid == "karras" or name == "dpm_fast", run) for name, grid, run in crowson()]
    runs += [("azula", name, grid, grid == default, run) for name, grid, run in rozet()]
    for budget in BUDGETS:
        reference = None
        for library, name, grid, recommended, run in runs:
            counted = Counted(model)
            squares = (run(counted, bench.latents, budget) - bench.truth).square().sum(1) / model.spread**2
            reference = squares if reference is None else reference
            calls, beyond = counted.rows / len(squares), squares - reference
            if calls > budget:
                raise RuntimeError(f"{library} {name} took {calls} calls of {budget}")
            row = {"data": data, "library": library, "sampler": name, "grid": grid, "recommended": recommended}
            row |= {"budget": budget, "evaluations": calls, "error": float(squares.mean().sqrt())}
            behind = float(beyond.mean() / (beyond.std() / math.sqrt(len(beyond)))) if reference is not squares else 0.0
            rows.append(row | {"behind": behind})
        print(table([row for row in rows if row["budget"] == budget]), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Return a line of the documentation: our default and best beside the best peers."""
    name = lambda row: f"{row['error']:.3g} ({row['library']} {row['sampler']}, {row['grid']}; {row['behind']:+.1f})"
    smallest = lambda found: min((row for row in found if math.isfinite(row["error"])), key=lambda row: row["error"])
    mine, peers = ([row for row in rows if (row["library"] == "ours") == same] for same in (True, False))
    best, default = smallest(mine), next(row for row in mine if row["sampler"] == "adams")
    recommended, any_grid = smallest([row for row in peers if row["recommended"]]), smallest(peers)
    first = (
        f"| {default['data']} | {default['budget']} | {default['error']:.3g} | {best['error']:.3g} ({best['sampler']})"
    )
    return f"{first} | {name(recommended)} | {name(any_grid)} | {best['error'] / any_grid['error']:.2f} |"


def network(data: str) -> tuple[ScoreModel, Tensor]:
    """Return the default network after 1,500 steps on 10,000 rows, and fresh rows in its units.

    It has no base beneath it: on a base of 24 Gaussians the network of the swiss roll is refused after 1,500 steps, and
    the model is those Gaussians.
    """
    config, toy = Config(steps=1_500), toys.TOYS[data]
    rows, fresh = (toy.sample(n, spawn(0, data, n)).float() for n in (10_000, BLOCKS * ROWS))
    rows, fresh = ((x - rows.mean(0)) / rows.std(0).mean() for x in (rows, fresh))
    model = config.model(rows.mean(0), torch.cov(rows.T))
    loss, noise = config.loss(model), config.generator("noise")
    drawn = batches(rows, config.batch_size, config.generator("rows"))
    trainer = Trainer(model, config.steps, config.learning_rate)
    deque(trainer.run(lambda: loss(next(drawn), noise).mean()), maxlen=0)
    return trainer.average, fresh


def law(data: str, model: Denoiser, real: Tensor) -> list[dict]:
    """Return the energy distance to the data of the 999 steps and of ours, in blocks, and their paired difference."""
    runs = {"euler_maruyama": (1_000, times.uniform_grid(model.process, 999))}
    runs |= {name: (12, grid_for(name, model, steps_for(SAMPLERS[name], 12))) for name in OURS[:3]}
    distances, rows = {}, []
    for name, (calls, path) in runs.items():
        found = sample(model, BLOCKS * ROWS, sampler=name, times=path, generator=spawn(0, "law", name))
        blocks = zip(found.double().split(ROWS), real.double().split(ROWS), strict=True)
        distances[name] = torch.tensor([metrics.energy_distance(x, y).value for x, y in blocks])
        beyond, root = distances[name] - distances["euler_maruyama"], math.sqrt(BLOCKS)
        row = {"data": data, "sampler": name, "evaluations": calls, "distance": float(distances[name].mean())}
        row |= {"stderr": float(distances[name].std()) / root}
        rows.append(row | {"beyond": float(beyond.mean()), "beyond_stderr": float(beyond.std()) / root})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and keep the numbers."""
    torch.set_num_threads(1)
    results = {"accuracy": [], "law": []}

    def keep(part: str, rows: list[dict]) -> None:
        results[part] += rows
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))

    learned, fresh = network("swissroll")
    keep("accuracy", accuracy("swissroll, network", copy.deepcopy(learned).double()))
    for data in ("8gaussians", "rings"):
        for process in (VP(), EDM()):
            label = f"{data}, {type(process).__name__}"
            keep("accuracy", accuracy(label, ExactDenoiser(standardised(data), process)))
    exact = ExactDenoiser(standardised("8gaussians"), VP())
    real = exact.density.sample(BLOCKS * ROWS, spawn(0, "real"))
    keep("law", law("8gaussians, exact", exact, real))
    keep("law", law("swissroll, network", learned, fresh))


if __name__ == "__main__":
    main()
