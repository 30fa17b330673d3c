"""The theory of the score-SDE tutorial as checks and figures: moments, kernels, Fokker-Planck equation, marginals.

For dX = f(t) X dt + g(t) dW the law of X_t given X_0 = x_0 is N(a(t) x_0, s(t)^2), a mixture stays a mixture, and its
density solves d p/dt + d(f x p)/dx = g^2/2 d^2 p/dx^2 (Song et al., 2021, appendix B).
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from scorefield.diffusion.densities import GaussianMixture
from scorefield.diffusion.process import Process
from scorefield.diffusion.published import VE, VP, SubVP
from scorefield.diffusion.sde import LinearSDE, simulate
from scorefield.gallery.drawing.curves import EXACT, LEARNED, panels
from scorefield.gallery.line import F64, column
from scorefield.gallery.report import Results, row, save_figure
from scorefield.numerics.tensors import spawn

PROCESSES: dict[str, Process] = {"VE": VE(0.01, 1.0), "VP": VP(0.1, 20.0), "sub-VP": SubVP(0.1, 20.0)}
"""The processes with the ranges of the tutorial."""

TIMES = torch.linspace(0, 1, 101, dtype=F64)
CHECKED = torch.tensor([0.25, 0.5, 0.75], dtype=F64)

Kernel = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Times to the factor of the mean and the standard deviation."""


def page_ve(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return VE's kernel as the page has it: a variance, without - sigma(0)^2, in the place of the std."""
    return torch.ones_like(t), 1e-4 * 1e4**t


def page_vp(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return VP's kernel as the page has it: t^4 in the place of t^2, and a variance in the place of the std."""
    return (-(t**4) * 19.9 / 4 - 0.05 * t).exp(), 1 - (-(t**4) * 19.9 / 2 - 0.1 * t).exp()


PAGE: dict[str, Kernel] = {"VE": page_ve, "VP": page_vp}


def true_kernel(process: Process) -> Kernel:
    """Return (a, s) of a process as a function of time."""
    return lambda t: (process.mean_coef(t), process.std(t))


def kernel_density(kernel: Kernel, t: Tensor, x: Tensor, x0: float = 1.0) -> Tensor:
    """Return N(x; a x_0, s^2) at times (k, 1) and points (n,), shape (k, n)."""
    a, s = kernel(t)
    return torch.distributions.Normal(a * x0, s).log_prob(x).exp()


def residual(process: Process, kernel: Kernel, step: float, *, published: bool = False) -> float:
    """Return the largest residual of the Fokker-Planck equation for a kernel, over its largest d p/dt.

    Central differences of a step h in t and s h in x, with an error of order h^2, for t from 0.2 to 0.8 and x within
    three standard deviations. published: the page's d(f p)/dx in the place of d(f x p)/dx.
    """
    t = torch.linspace(0.2, 0.8, 13, dtype=F64)[:, None]
    a, s = kernel(t)
    x, dx = a + s * torch.linspace(-3, 3, 25, dtype=F64), s * step
    middle, left, right = (kernel_density(kernel, t, y) for y in (x, x - dx, x + dx))
    rate = (kernel_density(kernel, t + step, x) - kernel_density(kernel, t - step, x)) / (2 * step)
    flux = (right - left) if published else ((x + dx) * right - (x - dx) * left)
    diffused = process.diffusion(t) ** 2 / 2 * (right - 2 * middle + left) / dx**2
    return float((rate + process.drift(t) * flux / (2 * dx) - diffused).abs().max() / rate.abs().max())


def moments(
    process: Process, data: GaussianMixture, paths: int, steps: int, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return 11 times, the mean and the variance of simulated paths there, each (11,)."""
    start = data.sample(paths, generator)
    times = torch.linspace(0, 1, steps + 1, dtype=F64)
    drift = lambda x, t: process.drift(t) * x
    states = list(simulate(drift, process.diffusion, start, times, generator))[:: steps // 10]
    path = torch.stack(states)[:, :, 0]
    return times[:: steps // 10], path.mean(1), path.var(1)


def closed_moments(process: Process, data: GaussianMixture, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return E X_t = a m and Var X_t = a^2 Var X_0 + s^2."""
    a, s = process.mean_coef(t), process.std(t)
    return a * data.mean[0], a**2 * data.covariance[0, 0] + s**2


def log_marginal(process: Process, data: GaussianMixture, grid: np.ndarray, times: Tensor = TIMES) -> np.ndarray:
    """Return log p(t, x) on times x grid, exactly: the noised mixture is a mixture."""
    x = column(grid).repeat(len(times), 1)
    a, s = (c.repeat_interleave(len(grid)) for c in (process.mean_coef(times), process.std(times)))
    return data.log_prob(x, a, s).reshape(len(times), -1).numpy()


def page_marginal(kernel: Kernel, data: GaussianMixture, grid: np.ndarray, times: Tensor = TIMES) -> np.ndarray:
    """Return what the page draws: the log of a sum over the grid, without dx, of its kernel times the data's density.

    A kernel that is narrower than the cells, as at small t, makes its brightness an artefact; that of VP has no width
    at t = 0, which gives NaN.
    """
    x, log_p0 = torch.from_numpy(grid), data.log_prob(column(grid))
    a, s = kernel(times[:, None, None])
    terms = (
        torch.distributions.Normal(a * x, s.where(s > 0, math.nan), validate_args=False).log_prob(x[:, None]) + log_p0
    )
    return terms.logsumexp(2).numpy()


def heatmap(axes: Axes, grid: np.ndarray, values: np.ndarray, title: str, limits: tuple[int, int] = (-13, 0)) -> Axes:
    """Draw log p(t, x) as colours between two limits."""
    low, high = limits
    image = axes.pcolormesh(TIMES.numpy(), grid, values.T, vmin=low, vmax=high, cmap="viridis", rasterized=True)
    axes.figure.colorbar(image, ax=axes, label="log p(t, x) (nats)", extend="both")
    axes.set(title=title, xlabel="t", ylabel="x")
    return axes


def surface(figure: Figure, grid: np.ndarray, values: np.ndarray, title: str) -> Axes:
    """Draw log p(t, x) as a surface."""
    axes = figure.add_subplot(projection="3d")
    t, x = np.meshgrid(TIMES.numpy(), grid, indexing="ij")
    axes.plot_surface(t, x, values, cmap="viridis", rcount=50, ccount=80, linewidth=0)
    axes.set(xlabel="t", ylabel="x", zlabel="log p(t, x) (nats)", yticks=[-2, -1, 0, 1, 2])
    axes.view_init(35, -50)
    axes.set_box_aspect(None, zoom=0.95)
    figure.suptitle(title)
    figure.subplots_adjust(left=0, right=0.95, bottom=0.03, top=1)
    return axes


def draw_marginals(out: Path, data: GaussianMixture, grid: np.ndarray, prefix: str = "") -> None:
    """Write log p(t, x) of each process as a surface and as a heatmap, in files whose names begin with prefix."""
    for name, process in PROCESSES.items():
        values = log_marginal(process, data, grid)
        figure = Figure((6.4, 5.0))
        surface(figure, grid, values, f"{name}: log-density over time")
        save_figure(figure, out / f"{prefix}{name.lower()}-surface.png")
        figure, (axes,) = panels()
        heatmap(axes, grid, values, f"{name}: log-density over time")
        save_figure(figure, out / f"{prefix}{name.lower()}-heatmap.png")


def draw_moments(out: Path, data: GaussianMixture, paths: int, steps: int = 1000) -> Results:
    """Write simulated moments over closed forms; return their largest deviations in standard errors."""
    results: Results = {}
    figure, frames = panels(len(PROCESSES), width=4.2)
    for axes, (name, process) in zip(frames, PROCESSES.items(), strict=True):
        t, mean, variance = moments(process, data, paths, steps, spawn(0, "moments", name))
        exact_mean, exact_variance = closed_moments(process, data, t)
        for exact, found, label in zip(
            closed_moments(process, data, TIMES), (mean, variance), ("mean", "variance"), strict=True
        ):
            axes.plot(TIMES, exact, color=EXACT, alpha=0.5, linewidth=2.5, label=f"{label}, closed form")
            axes.plot(t, found, "o", markersize=4, label=f"{label} of {paths:,} paths")
        axes.set(title=name, xlabel="t")
        axes.legend(fontsize=8)
        off = (mean - exact_mean).abs() / (exact_variance / paths).sqrt()
        spread = (variance / exact_variance - 1).abs()
        results |= row(f"{name}: mean of simulated paths, largest error in standard errors", None, [float(off.max())])
        results |= row(f"{name}: variance of simulated paths, largest relative error", None, [float(spread.max())])
    save_figure(figure, out / "moments.png")
    return results


def draw_kernels(out: Path, data: GaussianMixture, grid: np.ndarray) -> Results:
    """Write the page's kernels and marginals beside the true ones; return both at three times."""
    results: Results = {}
    figure, frames = panels(4, width=3.6)
    maps = Figure((11, 7), layout="constrained")
    places = maps.subplots(2, 2)
    for i, (name, page) in enumerate(PAGE.items()):
        true = true_kernel(PROCESSES[name])
        for j, what in enumerate(("mean factor", "standard deviation")):
            axes = frames[2 * i + j]
            axes.plot(TIMES, true(TIMES)[j], color=EXACT, alpha=0.5, linewidth=2.5, label="true")
            axes.plot(TIMES, page(TIMES)[j], "--", color=LEARNED[0], label="page")
            axes.set(title=f"{name}: {what}", xlabel="t")
            axes.legend(fontsize=8)
            for t, ours, theirs in zip(CHECKED, true(CHECKED)[j], page(CHECKED)[j], strict=True):
                results |= row(f"{name}: {what} at t = {float(t)}", float(theirs), [float(ours)])
        heatmap(places[i, 0], grid, page_marginal(page, data, grid), f"{name}: the page's sum", (-13, 7))
        heatmap(places[i, 1], grid, log_marginal(PROCESSES[name], data, grid), f"{name}: log-density, exact", (-13, 7))
    save_figure(figure, out / "kernels.png")
    save_figure(maps, out / "marginals.png")
    return results


def checks() -> Results:
    """Return how well each kernel solves its equations, and how badly the page's do."""
    results: Results = {}
    for name, process in PROCESSES.items():
        found = [residual(process, true_kernel(process), step) for step in (2e-3, 1e-3)]
        results |= row(f"{name}: Fokker-Planck residual over the largest rate, step 0.001", None, found[1:])
        results |= row(f"{name}: its fall when the step halves (4: it is the step's)", None, [found[0] / found[1]])
        integrals = LinearSDE(process.drift, process.diffusion)
        times = TIMES[1:]
        error = (integrals.std(times) / process.std(times) - 1).abs().max()
        results |= row(f"{name}: standard deviation, closed form against the integral of g", None, [float(error)])
    process = PROCESSES["VP"]
    results |= row(
        "VP: residual with the page's div(f p)", None, [residual(process, true_kernel(process), 1e-3, published=True)]
    )
    results |= row("VP: residual of the page's kernel", None, [residual(process, page_vp, 1e-3)])
    return results
