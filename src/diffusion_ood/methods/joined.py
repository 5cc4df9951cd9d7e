"""Which methods and levels are measured for joined evidence, by the network calls that it may cost.

The rule is a principle, fixed before any out-of-distribution set was looked at: kinds of evidence
that are unlike each other come before more levels of the same kind. A call with noise gives three
of them at once, the distance of x̂_0, ‖ε̂‖² and activations; so these come first, at up to nine
levels. From ten calls on each level is looked at without noise, too; from thirty on with traces.
What is left beyond `MOST_LEVELS` levels goes into further draws of noise. Of a latent model, whose
distances are those of latents by default, the autoencoder's error takes part, at no network call.
"""

from __future__ import annotations

from diffusion_ood.methods.autoencoder import AutoencoderError
from diffusion_ood.methods.base import Method
from diffusion_ood.methods.denoising import Denoising
from diffusion_ood.methods.features import LOG_SNR, Features
from diffusion_ood.methods.score_geometry import ScoreGeometry
from diffusion_ood.methods.scores.chosen import asked_scores
from diffusion_ood.options import ReconstructOptions

BUDGET = 30
MOST_LEVELS = 16
LOWEST = -3.0
WITH_CLEAN, WITH_TRACES = 10, 30
"""Budgets from which on there are images without noise, and traces."""


def joined(options: ReconstructOptions) -> list[Method]:
    """The methods that stand for `joined` within the budget of the options."""
    budget = options.budget or BUDGET
    clean, traces = budget >= WITH_CLEAN, budget >= WITH_TRACES
    calls_a_level = 6 if traces else 2 if clean else 1
    num_levels = min(MOST_LEVELS, budget // calls_a_level)
    repeats = budget // (calls_a_level * num_levels)
    # Where the features are looked at is the first level, which so costs nothing for them.
    ends = (LOG_SNR, LOWEST if num_levels > 1 else LOG_SNR)
    methods: list[Method] = [
        Denoising(
            num_levels=num_levels,
            ends=ends,
            repeats=repeats,
            scores=asked_scores(options),
            seed=options.seed,
        ),
        ScoreGeometry(
            num_levels=num_levels,
            ends=ends,
            repeats=repeats,
            clean=clean,
            traces=traces,
            seed=options.seed,
        ),
        Features(seed=options.seed),
    ]
    if "mse_latent" in options.scores:  # which is blind to what the autoencoder loses
        methods.append(AutoencoderError(seed=options.seed))
    return methods
