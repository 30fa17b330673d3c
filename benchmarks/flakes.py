"""How often statistical tests of samplers, Langevin dynamics and probes fail on other seeds than their own.

The tests themselves are called, every generator in them seeded SEED_STEP k further than is written there. Each states a
false-alarm rate of 1e-6, so in 300 seeds all of them together should fail 0.003 times; one that fails has a bias, or
states a wrong rate. Left out for their time: the laws of all samplers on a mixture (50,000 samples by 200 steps each;
its check runs here on exact draws), moments of the other samplers and processes, probes along whole likelihoods (40
likelihoods a seed), latents, the adaptive SDE, and samples of one level. Brownian paths take no generator.

    python benchmarks/flakes.py [--seeds 300]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import test_divergence
import test_exponential
import test_langevin
import test_sampler_law
import test_samplers

from scorefield.process import VE, VP

RESULTS = Path(__file__).parent / "results" / "flakes.json"
SEED_STEP = 1_000_003
RATE = 1e-6


class Shifted:
    """Stands for torch.Generator in a module of tests: the generators that it seeds are others than those asked for."""

    shift = 0

    def manual_seed(self, seed: int) -> torch.Generator:
        """Return a generator of a seed further on."""
        return torch.Generator().manual_seed(seed + self.shift)


def law_of_exact_draws() -> None:
    """Check draws of the mixture as those of a sampler are checked."""
    x = test_sampler_law.TARGET.sample(test_sampler_law.N, Shifted().manual_seed(0))
    test_sampler_law.check(x, 1)


def cases() -> list[tuple[str, Callable[[], None]]]:
    """Return the tests with their parameters, by name."""
    drawn = lambda: Shifted().manual_seed(20_250_607)
    langevin, moments = test_langevin, test_samplers.test_samples_have_the_moments_of_the_target
    corrector = test_exponential.test_the_corrector_has_its_exact_law
    return [
        (
            "unadjusted, 4 steps",
            lambda: langevin.test_for_gaussian_data_every_step_has_its_exact_law(0.3, 1.0, 4, drawn()),
        ),
        ("annealed", lambda: langevin.test_annealed_chains_have_their_exact_law(drawn())),
        ("mala's law", lambda: langevin.test_mala_leaves_any_density_exactly_as_it_is(0.05, "function", drawn())),
        ("mala's acceptance", lambda: langevin.test_mala_accepts_as_its_rule_says(drawn())),
        (
            "underdamped",
            lambda: langevin.test_underdamped_positions_of_a_gaussian_have_its_exact_variance(0.6, 1.0, drawn()),
        ),
        ("corrector, VP", lambda: corrector(VP(), None)),
        ("corrector by snr, VE", lambda: corrector(VE(), 0.16)),
        ("ancestral, VP", lambda: moments("ancestral", VP())),
        ("euler_maruyama, VE", lambda: moments("euler_maruyama", VE())),
        (
            "normal probes",
            lambda: test_divergence.test_drawn_probes_are_unbiased_with_the_variance_of_theory("normals", drawn()),
        ),
        ("law of exact draws", law_of_exact_draws),
    ]


def main() -> None:
    """Count, print and keep the failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module in (test_divergence, test_exponential, test_langevin, test_samplers):
        module.Generator = Shifted
    failed, began = {name: [] for name, _ in cases()}, time.process_time()
    for k in range(1, options.seeds + 1):
        Shifted.shift = SEED_STEP * k
        for name, test in cases():
            try:
                test()
            except AssertionError as error:
                failed[name].append(k)
                print(name, k, str(error)[:200], flush=True)
        if k % 25 == 0:
            print(k, f"{time.process_time() - began:.0f} s", flush=True)
            rows = [{"test": name, "failures": len(found), "failed": found} for name, found in failed.items()]
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"seeds": k, "rate": RATE, "tests": rows}, indent=1))


if __name__ == "__main__":
    main()
