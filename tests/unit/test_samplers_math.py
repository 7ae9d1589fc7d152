"""Our schedulers on a Gaussian whose score is known, and against their neighbours in diffusers."""

import inspect
import math
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch

from worker.samplers import SAMPLERS
from worker.samplers.dpm_solver_sde import dpm_solver_sde

# diffusers 0.42.1 makes NumPy arrays of tensors in a way that NumPy 2 frowns upon.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # torchsde rounds the ends of its interval to six places and speaks of the seventh.
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

#: SD 1.5's own file, key for key.
CONFIG = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
#: The data: every value of a picture is drawn from one Gaussian.
MEAN, SPREAD = 0.3, 0.8
KEPT = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0).double().numpy()
SIGMAS = np.sqrt((1 - KEPT) / KEPT)
STEP_COUNTS = (10, 20, 40, 80)
#: Pictures for statistics: 16 generators, 65,536 values.
SHAPE = (16, 4, 32, 32)


def ours(name, **options):
    return SAMPLERS[name].from_config(dict(CONFIG), **options)


def theirs(name, **options):
    return getattr(diffusers, name).from_config(dict(CONFIG), **options)


def sigma_at(timestep):
    return float(np.exp(np.interp(float(timestep), np.arange(1000), np.log(SIGMAS))))


def network(sample, sigma):
    """The exact noise prediction for a variance-preserving sample."""
    return sigma * (sample * math.sqrt(1 + sigma**2) - MEAN) / (SPREAD**2 + sigma**2)


def flow(x, sigma, sigma_next):
    """The exact solution of the probability-flow ODE for a variance-exploding sample."""
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + sigma_next**2) / (SPREAD**2 + sigma**2))


def standard(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(scheduler, steps, x, *, generators=None, prediction=network):
    """Walk as a pipeline does; return the last sample and, for each evaluation, sigma and variance-exploding input."""
    scheduler.set_timesteps(steps)
    drawing = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": generators} if drawing else {}
    x = x * scheduler.init_noise_sigma
    trace = []
    for timestep in scheduler.timesteps:
        seen, sigma = scheduler.scale_model_input(x, timestep), sigma_at(timestep)
        trace.append((sigma, seen * math.sqrt(1 + sigma**2)))
        x = scheduler.step(prediction(seen, sigma), timestep, x, return_dict=False, **options)[0]
    return x, trace


def error(scheduler, steps):
    """How far the input of the last evaluation is from the exact flow of the first one's."""
    _, trace = run(scheduler, steps, torch.tensor([[1.7]], dtype=torch.float64))
    (first, start), (last, end) = trace[0], trace[-1]
    return float((flow(start, first, last) - end).abs())


def slopes(make, counts):
    errors = [error(make(), steps) for steps in counts]
    print(dict(zip(counts, errors, strict=True)))
    pairs = zip(pairwise(errors), pairwise(counts), strict=True)
    return [math.log(a / b) / math.log(n / m) for (a, b), (m, n) in pairs]


# (1) On the Gaussian


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("KarrasVeScheduler", {"s_churn": 0.0}),
        ("DPMPP2SAncestralScheduler", {"eta": 0.0, "use_karras_sigmas": True}),
        ("DPMPP2SAncestralScheduler", {"eta": 0.0, "use_exponential_sigmas": True}),
    ],
)
def test_the_error_falls_with_the_square_of_the_steps(name, options):
    found = slopes(lambda: ours(name, **options), STEP_COUNTS)

    assert all(1.95 < slope < 2.3 for slope in found)


def test_on_even_timesteps_the_last_sigmas_are_too_far_apart_for_the_full_order():
    # 1.5 and growing: the ratio of the last two sigmas is 7 at 20 steps, still 2.2 at 160.
    found = slopes(lambda: ours("DPMPP2SAncestralScheduler", eta=0.0), (*STEP_COUNTS, 160, 320, 640))

    assert all(slope > 1.5 for slope in found)
    assert found[-1] > 1.75


def test_ipndm_nears_its_second_order():
    found = slopes(lambda: ours("IPNDMScheduler"), (50, 100, 200, 500))

    assert found == sorted(found)
    assert found[0] > 1.5
    assert 1.85 < found[-1] < 2.2
    # DDIM, of first order, is 13 times as far off at 50 steps.
    assert error(ours("IPNDMScheduler"), 50) < error(theirs("DDIMScheduler"), 50) / 12


@pytest.mark.parametrize(
    ("name", "options", "steps", "variance"),
    [
        # Where churn is at its most, up to 193 steps, Heun's steps are too long for 1 %: see the next test.
        ("KarrasVeScheduler", {"s_noise": 1.0}, 400, 1.0),
        ("DPMPP2SAncestralScheduler", {}, 200, 1.0),
        ("DPMPP2SAncestralScheduler", {"use_karras_sigmas": True}, 200, 1.0),
        # Unadjusted Langevin steps of this size settle at 1 / (1 - snr^2) of the variance.
        ("ScoreSdeVeScheduler", {}, 200, 1 / (1 - 0.15**2)),
        ("ScoreSdeVeScheduler", {"snr": 0.03}, 400, 1 / (1 - 0.03**2)),
    ],
)
def test_samples_have_the_mean_and_the_variance_of_the_data(name, options, steps, variance):
    generators = [torch.Generator().manual_seed(seed) for seed in range(SHAPE[0])]

    x, _ = run(ours(name, **options), steps, standard(SHAPE, 99), generators=generators)

    values = x.numel()
    assert abs(float(x.mean()) - MEAN) < 4 * SPREAD / math.sqrt(values)
    # Four standard errors, and 1 % for the length of the steps.
    assert abs(float(x.var()) / SPREAD**2 - variance) < 4 * math.sqrt(2 / values) + 0.01


@pytest.mark.parametrize("steps", [6, 50])
def test_karras_ve_has_the_variance_that_algorithm_2_gives(steps):
    # Algorithm 2 is affine in a Gaussian's samples, so their variance follows without drawing any.
    roots = np.linspace(SIGMAS[-1] ** (1 / 7), SIGMAS[0] ** (1 / 7), steps)
    sigmas = [*(roots**7), 0.0]
    variance = sigmas[0] ** 2
    for sigma, following in pairwise(sigmas):
        gamma = min(80 / steps, math.sqrt(2) - 1) if 0.05 <= sigma <= 50 else 0.0
        raised = min(sigma * (1 + gamma), SIGMAS[-1])
        variance += 1.007**2 * max(raised**2 - sigma**2, 0.0)
        slope = raised / (SPREAD**2 + raised**2)
        euler = 1 + (following - raised) * slope
        second = following / (SPREAD**2 + following**2) * euler
        variance *= (1 + (following - raised) * (slope + second) / 2) ** 2 if following else euler**2
    generators = [torch.Generator().manual_seed(seed) for seed in range(SHAPE[0])]

    x, _ = run(ours("KarrasVeScheduler"), steps, standard(SHAPE, 99), generators=generators)

    assert float(x.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / x.numel()))


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"DDIMInverseScheduler"}))
def test_what_the_network_predicts_makes_no_difference(name, prediction_type):
    def other(sample, sigma):
        noise, scale = network(sample, sigma), math.sqrt(1 + sigma**2)
        clean = sample * scale - sigma * noise
        return clean if prediction_type == "sample" else noise / scale - clean * sigma / scale

    def draw(prediction, **options):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return run(ours(name, **options), 8, standard((2, 4, 8, 8)), generators=generators, prediction=prediction)[0]

    torch.testing.assert_close(draw(other, prediction_type=prediction_type), draw(network), atol=1e-6, rtol=0)


# (2) Against the neighbour


@pytest.mark.parametrize("steps", [2, 3, 10, 50])
def test_without_churn_karras_ve_is_heun(steps):
    x = standard((3, 4, 8, 8))

    mine, _ = run(ours("KarrasVeScheduler", s_churn=0.0), steps, x)
    heun, _ = run(theirs("HeunDiscreteScheduler", use_karras_sigmas=True), steps, x)

    # diffusers keeps sigmas in float32.
    torch.testing.assert_close(mine, heun, atol=5e-6, rtol=0)


@pytest.mark.parametrize("steps", [2, 3, 10, 50])
def test_without_noise_2s_ancestral_is_singlestep(steps):
    # On exponential sigmas two of its steps, of order 1 and 2, are one of ours.
    single = theirs("DPMSolverSinglestepScheduler", solver_order=2, use_exponential_sigmas=True)
    mine = ours("DPMPP2SAncestralScheduler", eta=0.0, use_exponential_sigmas=True)
    single.set_timesteps(2 * steps - 1)
    mine.set_timesteps(steps)
    start = standard((3, 4, 8, 8))
    x, y = start * mine.init_noise_sigma, start * mine.init_noise_sigma / math.sqrt(1 + mine.init_noise_sigma**2)

    # Its timesteps are cut to integers there, so the network is asked by sigma.
    for t, s in zip(mine.timesteps, single.timesteps, strict=True):
        sigma = float(mine.sigmas[mine.step_index or 0])
        x = mine.step(network(mine.scale_model_input(x, t), sigma), t, x).prev_sample
        y = single.step(network(y, sigma), s, y).prev_sample

    torch.testing.assert_close(x, y, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("steps", "bound"), [(50, 0.015), (200, 0.005)])
def test_without_noise_2s_ancestral_nears_singlestep_on_their_own_sigmas(steps, bound):
    x = standard((3, 4, 8, 8))
    sigma = SIGMAS[-1]

    mine, _ = run(ours("DPMPP2SAncestralScheduler", eta=0.0), steps, x)
    single, _ = run(
        theirs("DPMSolverSinglestepScheduler", solver_order=2), 2 * steps - 1, x * sigma / math.sqrt(1 + sigma**2)
    )

    assert float((mine - single).abs().max()) < bound


@pytest.mark.parametrize(("neighbour", "steps", "bound"), [("DDIMScheduler", 200, 0.03), ("PNDMScheduler", 50, 2e-4)])
def test_ipndm_agrees_with_its_neighbours(neighbour, steps, bound):
    x = standard((3, 4, 8, 8))

    mine, _ = run(ours("IPNDMScheduler"), steps, x)
    other, _ = run(theirs(neighbour), steps, x)

    assert float((mine - other).abs().max()) < bound


def test_ipndm_steps_as_ddim_while_the_noise_stays_the_same():
    # given a network that always says the same, all weights come to one
    x, noise = standard((2, 4, 8, 8)), standard((2, 4, 8, 8), 1)

    mine, _ = run(ours("IPNDMScheduler"), 20, x, prediction=lambda *_: noise)
    ddim, _ = run(theirs("DDIMScheduler"), 20, x, prediction=lambda *_: noise)

    torch.testing.assert_close(mine, ddim, atol=1e-5, rtol=0)


# The inversion


def inverted(steps, strength, x):
    scheduler = ours("DDIMInverseScheduler")
    return scheduler, scheduler.invert(
        x, lambda y, timestep: network(y, sigma_at(timestep)), steps=steps, strength=strength
    )


def test_inversion_nears_the_noise_that_the_flow_comes_from():
    x = torch.tensor([[1.7]], dtype=torch.float64)
    # Both begin where DDIM ends: at the noise of timestep 0.
    scale = math.sqrt(1 + SIGMAS[0] ** 2)

    def away(steps):
        scheduler, noise = inverted(steps, 0.5, x)
        scheduler.set_timesteps(steps)
        sigma = sigma_at(scheduler.timesteps[steps // 2])
        return float((noise * math.sqrt(1 + sigma**2) - flow(x * scale, SIGMAS[0], sigma)).abs())

    errors = [away(steps) for steps in (25, 50, 100, 200)]

    assert all(1.7 < a / b < 2.3 for a, b in pairwise(errors))


@pytest.mark.parametrize(("steps", "bound"), [(10, 0.2), (50, 0.05), (200, 0.012)])
def test_down_again_the_picture_comes_back(steps, bound):
    x = MEAN + SPREAD * standard((2, 4, 8, 8))
    scheduler, y = inverted(steps, 0.5, x)
    scheduler.set_timesteps(steps)

    for timestep in scheduler.timesteps[-(steps // 2) :]:
        y = scheduler.step(network(y, sigma_at(timestep)), timestep, y, return_dict=False)[0]

    assert float((x - y).abs().max()) < bound


def test_without_an_init_image_there_is_no_inversion():
    scheduler = ours("DDIMInverseScheduler")
    scheduler.set_timesteps(6)
    x = standard((1, 4, 8, 8))

    with pytest.raises(ValueError, match="needs an init image"):
        scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(ValueError, match="needs an init image"):
        scheduler.add_noise(x, x, scheduler.timesteps[:1])


# The protocol

EVALUATIONS = {
    "DDIMInverseScheduler": lambda n: n,
    "IPNDMScheduler": lambda n: n,
    "KarrasVeScheduler": lambda n: 2 * n - 1,
    "DPMPP2SAncestralScheduler": lambda n: 2 * n - 1,
    "ScoreSdeVeScheduler": lambda n: 2 * n,
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 30, 200])
def test_timesteps_count_the_evaluations_and_stay_within_the_models(name, steps):
    scheduler = ours(name)

    scheduler.set_timesteps(steps)

    assert len(scheduler.timesteps) == EVALUATIONS[name](steps)
    assert 0 <= float(scheduler.timesteps.min()) <= float(scheduler.timesteps.max()) <= 999


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"DDIMInverseScheduler", "IPNDMScheduler"}))
def test_noise_is_added_to_the_level_of_the_coming_evaluation(name):
    scheduler = ours(name)
    scheduler.set_timesteps(10)
    clean, noise = standard((2, 4, 8, 8)), standard((2, 4, 8, 8), 1)
    scheduler.set_begin_index(8)

    noised = scheduler.add_noise(clean, noise, scheduler.timesteps[8:9].repeat(2))

    torch.testing.assert_close(noised, clean + float(scheduler.sigmas[8]) * noise)
    # The second evaluation's level is the one that the first leads to.
    scheduler.step(noise, scheduler.timesteps[8], noised, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        scheduler.add_noise(clean, noise, scheduler.timesteps[9:10]), clean + float(scheduler.sigmas[9]) * noise
    )


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"DDIMInverseScheduler"}))
def test_half_precision_is_kept_and_loses_little(name):
    def draw(dtype):
        generators = [torch.Generator().manual_seed(1)]
        return run(ours(name), 8, standard((1, 4, 8, 8)).to(dtype), generators=generators)[0]

    half = draw(torch.float16)

    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), draw(torch.float32), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"DDIMInverseScheduler"}))
def test_the_loop_never_waits_for_the_device(name):
    # given tensors without values: whatever asked for one would raise
    scheduler = ours(name)
    scheduler.set_timesteps(8, device="meta")
    scheduler.set_begin_index(0)
    x = torch.empty((2, 4, 8, 8), device="meta")
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, timestep)
        x = scheduler.step(seen, timestep, x, generator=generators, return_dict=False)[0]

    assert (x.device.type, x.dtype) == ("meta", torch.float32)


def test_dpm_solver_sde_draws_the_same_noise_in_half_precision():
    def draw(dtype):
        return run(dpm_solver_sde(CONFIG, seeds=[1, 2]), 8, standard((2, 4, 8, 8)).to(dtype))[0]

    half = draw(torch.float16)

    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), draw(torch.float32), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DPMPP2SAncestralScheduler", {"eta": 1.5}),
        ("DPMPP2SAncestralScheduler", {"use_karras_sigmas": True, "use_exponential_sigmas": True}),
    ],
)
def test_options_that_cannot_be_are_refused(name, options):
    with pytest.raises(ValueError, match=r"eta|only one"):
        ours(name, **options)
