"""Models that split a noisy sample into its two parts, learned or exact."""

import abc
import copy

import torch
from torch import Tensor, nn

from scorefield.diffusion import prediction
from scorefield.diffusion.densities import DiagonalGaussian, GaussianMixture
from scorefield.diffusion.networks.energy import HasPotential
from scorefield.diffusion.networks.ensemble import members_of
from scorefield.diffusion.networks.guided import Labelled
from scorefield.diffusion.process import Process
from scorefield.numerics.divergence import value_and_divergence
from scorefield.numerics.shapes import Field, PerSample, Samples, Times
from scorefield.numerics.tensors import dot, match


class Denoiser(nn.Module, abc.ABC):
    """Answers `decompose(x, t)`: the two parts of a noisy sample x = a clean + s noise, in expectation.

    The score is -noise / s; the probability flow is dx/dt = a' clean + s' noise. The prior at t_max follows from the
    moments of the data.

    Args:
        process: How noise is added.
        mean: Of the data, (d,).
        covariance: Of the data, (d, d), or (d,) for a diagonal one.
    """

    process: Process
    mean: Tensor
    covariance: Tensor

    def __init__(self, process: Process, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.process = process
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)

    @property
    def spread(self) -> float:
        """The root of the data's mean variance over columns."""
        variances = self.covariance if self.covariance.ndim == 1 else self.covariance.diagonal()
        return float(variances.mean().sqrt())

    @abc.abstractmethod
    def decompose(self, x: Samples, t: Times) -> tuple[Samples, Samples]:
        """Return (clean, noise) = (E[X_0 | X_t = x], E[Z | X_t = x]), which satisfy a clean + s noise = x."""

    @abc.abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (p, q) at t: this model predicts y = p clean + q noise."""

    @abc.abstractmethod
    def predict(self, x: Samples, t: Times) -> Samples:
        """Return the prediction y itself, on which a loss acts without cancellation."""

    def score(self, x: Samples, t: Times) -> Samples:
        """Return grad log p_t(x) = -noise / s, per unit of x."""
        _, s = self.process.kernel(t, x)
        return -self.decompose(x, t)[1] / s

    def at(self, t: Times) -> Field:
        """Return the score at a fixed time as a function of x alone."""
        return lambda x: self.score(x, t)

    def _kernel(self, t: Times) -> tuple[Tensor, Tensor]:
        """Return (a, s) at t in float64, (n,) or ()."""
        return self.process.mean_coef(t.double()), self.process.std(t.double())

    def velocity(self, x: Samples, t: Times) -> Samples:
        """Return dx/dt of the probability flow, a' clean + s' noise (Song et al., 2021, eq. 13)."""
        clean, noise = self.decompose(x, t)
        t = t.double()
        return match(self.process.mean_rate(t), x) * clean + match(self.process.std_rate(t), x) * noise

    def noise_and_divergence(
        self, x: Samples, t: Times, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        """Return the noise and its divergence in x: exact, (n,), or one estimate for each of m probes, (m, n).

        probes and sketch as in `divergence.value_and_divergence`.
        """
        return value_and_divergence(lambda y: self.decompose(y, t)[1], x, probes, sketch=sketch)

    def with_single_network(self) -> "Denoiser":
        """Return this model with its network, if it has one, in float32; everything around it keeps its type."""
        return self

    def prior(self) -> GaussianMixture | DiagonalGaussian:
        """Return N(a m, a^2 C + s^2 I) at t_max: where the noised data are, with m and C the data's moments."""
        t = torch.tensor(self.process.t_max, dtype=torch.float64)
        a, s = self.process.kernel(t, self.mean)
        if self.covariance.ndim == 1:
            return DiagonalGaussian(self.mean, self.covariance).noised(a, s)
        return GaussianMixture.gaussian(self.mean, self.covariance).noised(a, s)


class ScoreModel(Denoiser):
    """A learned denoiser: a network that predicts y = p clean + q noise.

    The network is called as net(z, log_ratio) with z = x / sqrt(a^2 d^2 + s^2), of unit variance for data of std d,
    and log_ratio = log(s/a), shape (n,), so it does not depend on the process. With the prediction 'v' a network
    that returns zero is the model of Gaussian data N(0, d^2 I). It is asked in the type of its own weights.

    Args:
        net: The network, (z, log_ratio) -> the shape of z.
        process: How noise is added.
        mean: Of the data, (d,).
        covariance: Of the data, (d, d) or (d,).
        predicts: One of PREDICTIONS.
        data_std: d.
        base: A density known in closed form whose own exact prediction the network corrects, so that a network that
            returns zero is the exact model of that density.

    Raises:
        ValueError: the prediction is unknown.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        mean: Tensor,
        covariance: Tensor,
        predicts: str = "v",
        data_std: float = 1.0,
        base: GaussianMixture | None = None,
    ) -> None:
        if predicts not in prediction.PREDICTIONS:
            raise ValueError(f"predicts must be one of {list(prediction.PREDICTIONS)}; got {predicts!r}")
        super().__init__(process, mean, covariance)
        self.net, self.predicts, self.data_std, self.base = net, predicts, data_std, base
        self._single = None if base is None else base.like(torch.empty(0))  # made once, for float32

    def given(self, label: Tensor, guidance: float = 1.0) -> "ScoreModel":
        """Return this model for rows of given classes, label (n,) or (); see `networks.Labelled`."""
        return self.with_network(Labelled(self.net, label, guidance), self.base)

    def with_network(self, net: nn.Module, base: GaussianMixture | None) -> "ScoreModel":
        """Return this model with another network on another base."""
        return ScoreModel(net, self.process, self.mean, self.covariance, self.predicts, self.data_std, base)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return prediction.coefficients(self.predicts, self.process, t, self.data_std)

    def predict(self, x: Samples, t: Times) -> Samples:
        if self.base is None:
            return self._correction(x, t)
        clean, noise = self._like(self.base, x).posterior(x, *self._kernel(t))
        p, q = (match(c, x) for c in self.coefficients(t))
        return self._correction(x, t) + p * clean + q * noise

    def noise_and_divergence(
        self, x: Samples, t: Times, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        """Return the noise and its divergence in x: in closed form of the base, of the network as in the parent."""
        if self.base is None:
            return super().noise_and_divergence(x, t, probes, sketch)
        kernel, base = self._kernel(t), self._like(self.base, x)
        gain = prediction.noise_gain(*kernel, *self.coefficients(t))
        network = lambda y: match(gain, y) * self._correction(y, t)
        correction, divergence = value_and_divergence(network, x, probes, sketch=sketch)
        noise, trace = base.noise_and_divergence(x, *kernel)
        return noise + correction, trace + divergence

    def with_single_network(self) -> "ScoreModel":
        return self.with_network(copy.deepcopy(self.net).float(), self.base)

    @property
    def has_potential(self) -> bool:
        """Whether the network is the gradient of a number, so that the score is that of a log-density."""
        return len(self._with_potential()) == len(members_of(self.net))

    def _with_potential(self) -> list[HasPotential]:
        """Return the members of the network, those that are gradients of a number."""
        return [net for net in members_of(self.net) if isinstance(net, HasPotential)]

    def log_potential(self, x: Samples, t: Times) -> PerSample:
        """Return log p_t(x) up to a constant of each t, whose gradient is the score, for networks with a potential.

        With n = sqrt(a^2 d^2 + s^2), D = a q - s p and y = grad P at z = x/n, the score (p x - a y) / (s D) is the
        gradient of (p |x|^2 / 2 - a n P) / (s D); with a base the first part is its log-density.
        Raises ValueError for other networks.
        """
        if not self.has_potential:
            raise ValueError("this network is not the gradient of an energy; train one with --network energy")
        t = t.double()
        a, s = self._kernel(t)
        p, q = self.coefficients(t)
        n, determinant = torch.hypot(a * self.data_std, s), a * q - s * p
        z, log_ratio = x / match(n, x), (s / a).log().to(x).expand(len(x))
        potential = torch.stack([net.potential(z, log_ratio) for net in self._with_potential()]).mean(0)
        correction = (a * n / (s * determinant)).to(x) * potential
        if self.base is None:
            return (p / (2 * s * determinant)).to(x) * dot(x, x) - correction
        return self._like(self.base, x).log_prob(x, a, s) - correction

    def _correction(self, x: Samples, t: Times) -> Samples:
        a, s = self._kernel(t)
        weight = next(self.net.parameters(), x)
        z, log_ratio = x / match(torch.hypot(a * self.data_std, s), x), (s / a).log().expand(len(x))
        answer = self.net(z.to(weight.dtype), log_ratio.to(weight)).to(x)
        if answer.shape != x.shape:  # which could broadcast
            raise ValueError(f"expected a network that keeps the shape {tuple(x.shape)}; got {tuple(answer.shape)}")
        return answer

    def _like(self, base: GaussianMixture, x: Samples) -> GaussianMixture:
        """Return the base in the type of x."""
        return (base if self._single is None or x.dtype != torch.float32 else self._single).like(x)

    def decompose(self, x: Samples, t: Times) -> tuple[Samples, Samples]:
        a, s = self.process.kernel(t, x)
        p, q = (match(c, x) for c in self.coefficients(t))
        return prediction.solve(x, self.predict(x, t), a, s, p, q)


class ExactDenoiser(Denoiser):
    """The oracle: what a perfect model of a known density would answer.

    A Gaussian mixture noised by a process is again a Gaussian mixture, so both parts are known in closed form.

    Args:
        density: Of the data.
        process: How noise is added.

    Examples:
        >>> import torch
        >>> from scorefield import VP
        >>> model = ExactDenoiser(GaussianMixture.gaussian(torch.zeros(1), torch.eye(1)), VP())
        >>> clean, noise = model.decompose(torch.tensor([[2.0]]), VP().time(torch.tensor(1.0)))
        >>> print(f"clean {clean.item():.4f}, noise {noise.item():.4f}")  # x a and x s, here alike
        clean 1.4142, noise 1.4142
    """

    def __init__(self, density: GaussianMixture, process: Process) -> None:
        super().__init__(process, density.mean, density.covariance)
        self.density = density

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return prediction.coefficients("noise", self.process, t)

    def predict(self, x: Samples, t: Times) -> Samples:
        return self.decompose(x, t)[1]

    def decompose(self, x: Samples, t: Times) -> tuple[Samples, Samples]:
        return self.density.like(x).posterior(x, *self._kernel(t))

    def noise_and_divergence(
        self, x: Samples, t: Times, probes: Tensor | None = None, sketch: int = 0
    ) -> tuple[Samples, Tensor]:
        """Return the noise and its divergence in x, in closed form; probes are for other models."""
        if probes is not None:
            return super().noise_and_divergence(x, t, probes, sketch)
        return self.density.like(x).noise_and_divergence(x, *self._kernel(t))
