"""Samplers against the exact trajectories of denoisers that are known in closed form.

The probability-flow trajectory of a Gaussian N(μ, c²) keeps (x − √ᾱ·μ) / √(ᾱ·c² + 1 − ᾱ) constant;
a point mass at μ is the case c = 0.
"""

import itertools
import math

import pytest
import torch

from diffusion_ood.diffusion.schedule import CLEAN, NoiseSchedule, build_schedule
from diffusion_ood.registries import SAMPLERS
from diffusion_ood.trajectories.engine import Trajectory, run_trajectories

SCHEDULE = build_schedule("scaled_linear_beta", 0.0015, 0.0195)
MEAN = 0.3


def spread(schedule, t, c):
    alphas_cumprod = schedule.alphas_cumprod(t).reshape(-1, 1, 1, 1)
    return (alphas_cumprod * c**2 + 1 - alphas_cumprod).sqrt()


def gaussian_denoiser(schedule, c):
    """ε̂ = √(1−ᾱ)·(x − √ᾱ·μ) / (ᾱ·c² + 1 − ᾱ), the posterior mean of the noise."""

    def denoiser(x, t, labels=None):
        signal, noise = schedule.alpha_sigma(t, x.ndim)
        return noise * (x - signal * MEAN) / spread(schedule, t, c) ** 2

    return denoiser


def exact(schedule, x_t, t, s, c):
    t, s = torch.tensor([t]), torch.tensor([s])
    (signal_t, _), (signal_s, _) = schedule.alpha_sigma(t, 4), schedule.alpha_sigma(s, 4)
    scale = spread(schedule, s, c) / spread(schedule, t, c)
    return signal_s * MEAN + scale * (x_t - signal_t * MEAN)


def run(sampler, schedule, c, times, x_t):
    trajectory = Trajectory(0, tuple(times), lambda: x_t[0])
    *_, last = run_trajectories(
        gaussian_denoiser(schedule, c), schedule, sampler, [trajectory], torch.device("cpu")
    )
    return last.x_s


def error(sampler, steps, c=0.5):
    """Of one trajectory through a fine schedule, from its noisiest time to its cleanest."""
    # ᾱ = cos²θ with θ even in time: smooth at both ends, where a sampler's order can show
    fine = NoiseSchedule(torch.linspace(0.1, 1.4, 8193, dtype=torch.float64).cos().square())
    times = range(8192, -1, -8192 // steps)
    x_t = torch.full((1, 1, 1, 1), 1.7, dtype=torch.float64)
    return abs((run(sampler, fine, c, times, x_t) - exact(fine, x_t, 8192, 0, c)).item())


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    "times", [range(990, -1, -10), (999, 500, 7, 0), (600, CLEAN), (999, 400, CLEAN)]
)
def test_a_point_mass_is_exact_with_any_steps(sampler, times):
    times = tuple(times)
    x_t = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = run(sampler, SCHEDULE, 0.0, times, x_t)
    torch.testing.assert_close(
        found, exact(SCHEDULE, x_t, times[0], times[-1], 0.0), rtol=0, atol=1e-5
    )


def test_plms_is_exact_on_a_gaussian_to_five_digits():
    assert error(SAMPLERS["plms"], 128) < 1e-5


@pytest.mark.parametrize(
    ("name", "order", "finest"),
    [
        ("ddim", 1, 512),
        ("dpmpp_2m", 2, 512),
        ("plms", 2, 512),
        ("pndm2", 2, 512),
        ("pndm4", 2, 512),
    ],
)
def test_order_of_convergence_on_a_gaussian(name, order, finest):
    errors = [error(SAMPLERS[name], steps) for steps in (finest // 4, finest // 2, finest)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.25)


def test_plms_is_much_closer_than_ddim_at_equal_calls():
    assert error(SAMPLERS["plms"], 64) < 0.1 * error(SAMPLERS["ddim"], 64)


def test_dpm_solver_follows_its_algorithm():
    """Lu et al. (2022), algorithm 2, in its own words, through times of unequal steps."""
    times = (900, 500, 300, 20, CLEAN)
    denoiser = gaussian_denoiser(SCHEDULE, 0.5)
    x = torch.full((1, 1, 1, 1), 0.8, dtype=torch.float64)
    alpha, sigma = ([SCHEDULE.alpha_sigma(torch.tensor([t]), 4)[k] for t in times] for k in (0, 1))
    lambdas = [(a / b).log() for a, b in zip(alpha, sigma, strict=True)]
    data = []
    expected = x
    for i in range(1, len(times)):
        eps = denoiser(expected, torch.tensor([times[i - 1]]))
        data.append((expected - sigma[i - 1] * eps) / alpha[i - 1])
        h = lambdas[i] - lambdas[i - 1]
        d = data[-1]
        if i > 1 and times[i] != CLEAN:
            r = (lambdas[i - 1] - lambdas[i - 2]) / h
            d = (1 + 1 / (2 * r)) * data[-1] - 1 / (2 * r) * data[-2]
        expected = sigma[i] / sigma[i - 1] * expected - alpha[i] * ((-h).exp() - 1) * d
    found = run(SAMPLERS["dpmpp_2m"], SCHEDULE, 0.5, times, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_plms_weights_reproduce_polynomial_slopes():
    """At age k the slope is exact on average over the step for polynomials of degree k."""
    from diffusion_ood.diffusion.samplers.plms import ADAMS_BASHFORTH

    for age in range(4):
        for degree in range(age + 1):
            # slopes at 0, 1, 2, … steps back; the step runs forward from 0 to 1
            slopes = torch.tensor([(-float(back)) ** degree for back in range(4)]).double()
            assert ADAMS_BASHFORTH[age] @ slopes == pytest.approx(1 / (degree + 1))


def test_the_ddim_step_equals_the_formula_of_pndm():
    """Liu et al. (2022), equation 11, in its own words."""
    from diffusion_ood.diffusion.samplers.base import ddim_step

    generator = torch.Generator().manual_seed(3)
    x, eps = torch.randn(2, 4, 1, 3, 3, generator=generator, dtype=torch.float64)
    t, s = torch.tensor([999, 500, 20, 10]), torch.tensor([500, 20, 0, CLEAN])
    a, b = (SCHEDULE.alphas_cumprod(time).reshape(-1, 1, 1, 1) for time in (t, s))
    expected = (
        x
        + (b - a) * x / (a.sqrt() * (a.sqrt() + b.sqrt()))
        - (b - a) * eps / (a.sqrt() * (((1 - b) * a).sqrt() + ((1 - a) * b).sqrt()))
    )
    torch.testing.assert_close(ddim_step(SCHEDULE, x, eps, t, s), expected, rtol=1e-12, atol=1e-12)


def test_ddim_equals_monais_scheduler_on_its_own_grid():
    schedulers = pytest.importorskip("generative.networks.schedulers")
    theirs = schedulers.DDIMScheduler(
        1000,
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    theirs.set_timesteps(100)
    denoiser = gaussian_denoiser(SCHEDULE, 0.5)
    x_t = torch.full((1, 1, 1, 1), 0.8, dtype=torch.float64)
    expected = x_t
    for t in range(400, -1, -10):
        expected, _ = theirs.step(denoiser(expected, torch.tensor([t])), t, expected)
    found = run(SAMPLERS["ddim"], SCHEDULE, 0.5, range(400, -1, -10), x_t)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)  # its ᾱ are float32


@pytest.mark.parametrize("num_steps", [1, 2, 3, 6, 12, 18])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ddim", lambda n: n),
        ("dpmpp_2m", lambda n: n),
        ("plms", lambda n: n),
        ("pndm2", lambda n: n + 1),
        ("pndm4", lambda n: n + 3 * min(n, 3)),
    ],
)
def test_network_calls_of_a_trajectory(name, expected, num_steps):
    asked = []

    def denoiser(x, t, labels):
        asked.extend(t.tolist())
        return torch.zeros_like(x)

    times = (*range(20 * num_steps, 0, -20), CLEAN)
    trajectory = Trajectory(0, times, lambda: torch.zeros(1, 1, 1))
    list(run_trajectories(denoiser, SCHEDULE, SAMPLERS[name], [trajectory], torch.device("cpu")))
    assert len(asked) == expected(num_steps) == SAMPLERS[name].calls(num_steps)
    assert min(asked) >= 0  # never at the clean image
    assert set(times[:-1]) <= set(asked)


def test_pndm4_is_closer_than_pndm2():
    assert error(SAMPLERS["pndm4"], 64) < 0.5 * error(SAMPLERS["pndm2"], 64)


def test_pndm_starts_with_runge_kutta_and_goes_on_with_adams_bashforth():
    """Slopes of a denoiser that answers its time alone, in the words of the papers' rules."""
    times, e = (240, 220, 200, 180, 160, 140), lambda t: t / 1000
    for name, slopes in {
        "pndm2": [(e(240) + e(220)) / 2, *((3 * e(t) - e(t + 20)) / 2 for t in times[1:-1])],
        "pndm4": [
            *((e(t) + 4 * e(t - 10) + e(t - 20)) / 6 for t in times[:3]),
            *(
                (55 * e(t) - 59 * e(t + 20) + 37 * e(t + 40) - 9 * e(t + 60)) / 24
                for t in times[3:-1]
            ),
        ],
    }.items():
        expected = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        for t, s, slope in zip(times, times[1:], slopes, strict=False):
            (signal_t, noise_t), (signal_s, noise_s) = (
                SCHEDULE.alpha_sigma(torch.tensor([time]), 4) for time in (t, s)
            )
            expected = signal_s * (expected - noise_t * slope) / signal_t + noise_s * slope
        trajectory = Trajectory(0, times, lambda: torch.ones(1, 1, 1, dtype=torch.float64))
        *_, last = run_trajectories(
            lambda x, t, labels: torch.ones_like(x) * t.reshape(-1, 1, 1, 1) / 1000,
            SCHEDULE,
            SAMPLERS[name],
            [trajectory],
            torch.device("cpu"),
        )
        torch.testing.assert_close(last.x_s, expected, rtol=1e-12, atol=1e-12)
