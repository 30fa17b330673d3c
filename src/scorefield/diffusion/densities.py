"""Densities known in closed form: Gaussian mixtures, which stay Gaussian mixtures under noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from scorefield.numerics.shapes import PerSample, Rows, Samples, Times
from scorefield.numerics.tensors import in_blocks, match, normal, shares

ROWS, LITTLE, BLOCK = 128, 2**11, 2**22
"""Rows meet other rows in blocks of ROWS, of more where a block had less than LITTLE numbers, of fewer above BLOCK."""

CACHED = 2**17
"""A block of a mixture has at most so many numbers: memory that is taken and given back costs more than it holds."""


def posterior_of_rows(
    x: Samples, rows: Rows, a: Tensor, s: Tensor, std: float = 0.0, log_weights: Tensor | None = None
) -> tuple[Samples, Samples]:
    """Return E[X | x] and E[Z | x] where x = a X + s Z, X is one of some rows plus std U, Z and U standard normal.

    With S^2 = a^2 std^2 + s^2 the posterior weight of row r is proportional to exp(-|x/a - r|^2 / 2 (S/a)^2); with m
    the weighted mean of the rows, clean = m + (a std^2 / S^2) (x - a m) and noise = (s / S^2) (x - a m).
    a and s: shaped for x. log_weights of the rows, (k,): None where all are equally likely. One matrix product of
    (n, d) by (d, k), in float64, since two large numbers cancel in it. The bits of a row of x are its own.
    """
    flat = rows.flatten(1).double()
    variance = a.double() ** 2 * std**2 + s.double() ** 2
    precision = (a.double() ** 2 / variance).reshape(-1, 1)
    located = torch.cat([(x.double() / a).flatten(1) * precision, precision.expand(len(x), 1)], 1)
    matrix = torch.cat([flat, -flat.square().sum(1, keepdim=True) / 2], 1).mT

    def weighted(located: Tensor) -> tuple[Tensor]:
        logits = located @ matrix  # less |x/a|^2 (a/S)^2 / 2
        if log_weights is not None:
            logits = logits + log_weights
        weights = shares((logits - logits.amax(1, keepdim=True).detach()).to(x))
        return (weights @ rows.flatten(1),)

    mean = in_blocks(weighted, located, size=_block(len(rows), BLOCK))[0].reshape(x.shape)
    residual = (x - a * mean) / variance.to(x)
    return mean + a * std**2 * residual, s * residual


def _block(numbers: int, most: int) -> int:
    """Return how many rows make a block if each needs so many numbers."""
    return max(1, min(max(ROWS * numbers, LITTLE), most) // numbers)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """The density sum_k w_k N(m_k, C_k) in any dimension.

    A covariance may be singular (a point mass) as long as noise is added before a density is asked for. Everything is
    computed through logarithms, so it is exact far out in the tails.

    Args:
        weights: (k,), positive, normalised here.
        means: (k, d).
        covariances: (k, d, d), or (1, d, d) where all components share one.

    Raises:
        ValueError: shapes do not fit, weights are not positive, means not finite, covariances not symmetric and
            non-negative.

    Examples:
        >>> import torch
        >>> mixture = GaussianMixture.isotropic(torch.ones(2), torch.tensor([[-1.0], [1.0]]), std=0.5)
        >>> mixture.log_prob(torch.tensor([[0.0], [1.0]]))  # nats
        tensor([-2.2258, -0.9186])
        >>> mixture.score(torch.tensor([[3.0]]))
        tensor([[-8.]])
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    _eigen: tuple[Tensor, Tensor] = field(init=False, repr=False)
    """Eigenvalues (k or 1, d) and eigenvectors Q (k or 1, d, d) of the covariances."""
    _turned: tuple[Tensor, Tensor] = field(init=False, repr=False)
    """All Q side by side, (d, k d or d), to turn a row into each eigenbasis by one product, and Q_k' m_k, (k, d)."""
    _std: float | None = field(init=False, repr=False)
    """The standard deviation that all components share in every direction, None where they do not."""

    def __post_init__(self) -> None:
        k, d = self.means.shape if self.means.ndim == 2 else (0, 0)
        fits = self.weights.shape == (k,) and self.covariances.shape in {(k, d, d), (1, d, d)}
        if k == 0 or not fits:
            raise ValueError(
                "a GaussianMixture needs weights (k,), means (k, d) and covariances (k, d, d) or (1, d, d); got "
                f"{tuple(self.weights.shape)}, {tuple(self.means.shape)} and {tuple(self.covariances.shape)}"
            )
        if not bool((self.weights > 0).all()) or not bool(self.weights.isfinite().all()):
            raise ValueError(f"mixture weights must be positive and finite; got {self.weights.tolist()}")
        if not bool(self.means.isfinite().all()):
            row = int((~self.means.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"mixture means must be finite; row {row} is {self.means[row].tolist()}")
        total = self.weights.sum()
        if not abs(float(total) - 1) <= 16 * torch.finfo(total.dtype).eps:  # weights of sum 1 keep their bits
            object.__setattr__(self, "weights", self.weights / total)
        scale = self.covariances.abs().amax((1, 2), keepdim=True)
        slack = 100 * torch.finfo(self.covariances.dtype).eps * d
        symmetric = bool(((self.covariances - self.covariances.mT).abs() <= slack * scale).all())
        values, vectors = torch.linalg.eigh(self.covariances)
        if not symmetric or not bool((values >= -slack * scale[..., 0]).all()):
            raise ValueError("covariances must be symmetric with eigenvalues that are not negative")
        rounding = torch.finfo(values.dtype).eps * d * values[:, -1:]
        object.__setattr__(self, "_eigen", (values.where(values > rounding, 0), vectors))  # a rounded zero is zero
        turned = vectors.permute(1, 0, 2).reshape(d, -1), (self.means[:, None] @ vectors)[:, 0]
        object.__setattr__(self, "_turned", turned)
        variance = self.covariances[0, 0, 0]
        isotropic = torch.equal(self.covariances, variance * torch.eye(d).to(variance)[None])
        object.__setattr__(self, "_std", float(variance.sqrt()) if isotropic else None)

    @classmethod
    def gaussian(cls, mean: Tensor, covariance: Tensor) -> "GaussianMixture":
        """Return one Gaussian, N(mean, covariance), as a mixture of one component."""
        return cls(torch.ones_like(mean[:1]), mean[None], covariance[None])

    @classmethod
    def isotropic(cls, weights: Tensor, means: Tensor, std: float) -> "GaussianMixture":
        """Return a mixture whose components share one standard deviation in every direction."""
        eye = torch.eye(means.shape[-1], dtype=means.dtype, device=means.device)
        return cls(weights, means, std**2 * eye[None])

    @classmethod
    def kde(cls, data: Tensor, bandwidth: float) -> "GaussianMixture":
        """Return the kernel density estimate of data (n, d): a Gaussian of std `bandwidth` at every row."""
        return cls.isotropic(torch.ones_like(data[:, 0]), data, bandwidth)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """E X, shape (d,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Cov X = sum_k w_k (C_k + m_k m_k') - mean mean', shape (d, d)."""
        centred = self.means - self.mean
        within = (self.weights[:, None, None] * self.covariances).sum(0)
        return within + centred.mT @ (self.weights[:, None] * centred)

    def like(self, x: Tensor) -> "GaussianMixture":
        """Return this mixture in the type and on the device of x."""
        same = x.dtype == self.means.dtype and x.device == self.means.device
        return self if same else GaussianMixture(self.weights.to(x), self.means.to(x), self.covariances.to(x))

    def noised(self, a: float | Tensor, s: float | Tensor) -> "GaussianMixture":
        """Return the density of a X + s Z with standard normal Z: means a m_k, covariances a^2 C_k + s^2 I."""
        eye = torch.eye(self.dim, dtype=self.means.dtype, device=self.means.device)
        return GaussianMixture(self.weights, a * self.means, a**2 * self.covariances + s**2 * eye)

    def log_prob(self, x: Samples, a: Times | None = None, s: Times | None = None) -> PerSample:
        """Return log p(x) in nats, or with a and s the log-density of a X + s Z, Z standard normal.

        Args:
            x: Points (n, d).
            a: The factor of X, () or (n,); without a and s no noise is added.
            s: The standard deviation of the noise, the same.

        Returns:
            (n,), in the type of x.

        Raises:
            ValueError: a covariance is singular and no noise is added.
        """
        if a is None or s is None:
            self._check_density(x)
            a, s = x.new_ones(()), x.new_zeros(())
        return self._by_rows(lambda x, a, s: (self._joint(x, a, s)[0].logsumexp(1),), x, a, s)[0]

    def score(self, x: Samples) -> Samples:
        """Return grad log p(x), for x (n, d). Raises ValueError where a covariance is singular."""
        self._check_density(x)
        one, zero = x.new_ones(()), x.new_zeros(())
        return -self._by_rows(lambda x, a, s: (self._residual(*self._joint(x, a, s)),), x, one, zero)[0]

    def posterior(self, x: Samples, a: Times, s: Times) -> tuple[Samples, Samples]:
        """Return E[X | x] and E[Z | x] where x = a X + s Z and Z is standard normal.

        With r_k the posterior weight of component k and e_k = (a^2 C_k + s^2 I)^-1 (x - a m_k):
        clean = sum_k r_k (m_k + a C_k e_k), noise = s sum_k r_k e_k. Neither cancels, however small a or s.
        """
        if self._std is not None:
            return posterior_of_rows(x, self.means, match(a, x), match(s, x), self._std, self.weights.log())
        clean, noise = self._by_rows(self._split, x, a, s)
        return clean, noise

    def noise_and_divergence(self, x: Samples, a: Times, s: Times) -> tuple[Samples, PerSample]:
        """Return E[Z | x] as in `posterior` and its divergence in x, in closed form, (n, d) and (n,).

        With S_k = a^2 C_k + s^2 I and e_k, r_k as there, d r_k/dx = r_k (e - e_k), e = sum_k r_k e_k, so it is
        s (sum_k r_k tr S_k^-1 - sum_k r_k |e_k|^2 + |e|^2).
        """
        noise, divergence = self._by_rows(self._noise_and_divergence, x, a, s)
        return noise, divergence

    def sample(self, n: int, generator: Generator | None = None) -> Samples:
        """Draw n independent samples, shape (n, d), in the type of the means: m_k + R_k z, R_k R_k' = C_k.

        Of one covariance for all, as a prior has it, the root is the symmetric one, which follows a small change of C;
        eigenvectors of a C near c I do not, so what rounding makes of them would turn the draws.

        Raises:
            ValueError: n is negative.
        """
        if n < 0:
            raise ValueError(f"the number of samples must not be negative; got {n}")
        if n == 0:  # which torch.multinomial refuses
            return self.means.new_empty(0, self.dim)
        device = generator.device if generator is not None else "cpu"
        pick = torch.multinomial(self.weights.double().to(device), n, replacement=True, generator=generator)
        values, vectors = self._eigen
        roots = vectors * values.sqrt()[:, None]
        roots = (roots @ vectors.mT if len(roots) == 1 else roots).expand(len(self.weights), -1, -1)
        pick, z = pick.to(self.means.device), normal((n, self.dim), self.means, generator)
        return self.means[pick] + torch.einsum("nij,nj->ni", roots[pick], z)

    def _split(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        log_joint, solved = self._joint(x, a, s)
        values, _ = self._eigen
        clean = shares(log_joint) @ self.means + self._residual(log_joint, match(a, solved) * values * solved)
        return clean, match(s, x) * self._residual(log_joint, solved)

    def _noise_and_divergence(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        log_joint, solved = self._joint(x, a, s)
        values, _ = self._eigen
        trace = (match(a, solved) ** 2 * values + match(s, solved) ** 2).reciprocal().sum(-1)
        spread = (shares(log_joint) * (trace - solved.square().sum(-1))).sum(1)
        residual = self._residual(log_joint, solved)
        return match(s, x) * residual, s * (spread + residual.square().sum(1))

    def _joint(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return log w_k N(x; a m_k, S_k) as (n, k) and S_k^-1 (x - a m_k) in the eigenbasis as (n, k, d)."""
        values, (turn, located) = self._eigen[0], self._turned
        turned = (x @ turn).reshape(len(x), len(values), self.dim) - match(a, x[:, None]) * located
        spread = match(a, turned) ** 2 * values + match(s, turned) ** 2
        solved = turned / spread
        log_norm = spread.log().sum(-1) + self.dim * math.log(2 * math.pi)
        return self.weights.log() - ((turned * solved).sum(-1) + log_norm) / 2, solved

    def _residual(self, log_joint: Tensor, solved: Tensor) -> Tensor:
        """Return sum_k r_k Q_k v_k for v = solved (n, k, d) in the eigenbases Q_k; r_k are the responsibilities."""
        weighted = shares(log_joint)[..., None] * solved
        _, vectors = self._eigen
        if len(vectors) == 1:
            return weighted.sum(1) @ vectors[0].mT
        return weighted.flatten(1) @ vectors.mT.flatten(0, 1)

    def _by_rows(
        self, function: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], x: Samples, a: Times, s: Times
    ) -> tuple[Tensor, ...]:
        """Return what a function of x (n, d), a and s (n,) gives; the bits of a row are its own."""
        rows = [t if t.ndim else t.expand(len(x)) for t in (a.to(x), s.to(x))]
        return in_blocks(function, x, *rows, size=_block(self.means.numel(), CACHED))

    def _check_density(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"expected points of shape (n, {self.dim}); got {tuple(x.shape)}")
        if not bool((self._eigen[0] > 0).all()):
            raise ValueError("a singular covariance has no density; add noise first: density.noised(1.0, s)")


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(variance)), for more dimensions than a covariance matrix has room for: mean and variance (d,)."""

    mean: Tensor
    variance: Tensor

    @property
    def covariance(self) -> Tensor:
        """Cov X, shape (d, d)."""
        return self.variance.diag()

    def noised(self, a: float | Tensor, s: float | Tensor) -> "DiagonalGaussian":
        """Return the density of a X + s Z with standard normal Z."""
        return DiagonalGaussian(a * self.mean, a**2 * self.variance + s**2)

    def log_prob(self, x: Samples) -> PerSample:
        """Return log p(x) in nats, for x (n, d)."""
        variance = self.variance.to(x)
        return -((x - self.mean.to(x)).square() / variance + (2 * math.pi * variance).log()).sum(1) / 2

    def sample(self, n: int, generator: Generator | None = None) -> Samples:
        """Draw n independent samples, shape (n, d), in the type of the mean."""
        return self.mean + self.variance.sqrt() * normal((n, len(self.mean)), self.mean, generator)
