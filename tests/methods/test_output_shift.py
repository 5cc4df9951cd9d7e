"""Scores by a classifier's outputs against their definition."""

import math

import pytest
import torch

from diffusion_ood.methods.scores.base import Scorer
from diffusion_ood.methods.scores.output_shift import (
    BASELINES,
    NAMES,
    OutputShift,
    movements,
    unit,
)


def classifier(images):
    """Logits are the first three pixels, features all of them."""
    flat = images.flatten(1)
    return flat[:, :3], flat.abs()


def images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 2, 3, generator=generator) + 0.1


def shown(names, originals, reconstructions, repeats=1):
    """The columns for reconstructions `(B, draws, C, *S)`, shown in a mixed order."""
    score = OutputShift(classifier, names, repeats)
    scorer = Scorer(score, originals, reconstructions.shape[1])
    pairs = [(i, k) for i in range(len(originals)) for k in range(reconstructions.shape[1])]
    for part in (pairs[::-1][::2], pairs[::-1][1::2]):
        image, draw = torch.tensor(part).T
        scorer.update(image, draw, reconstructions[image, draw])
    values = scorer.compute(torch.arange(len(originals)))
    return dict(zip(score.columns, values.unbind(2), strict=True))


def test_columns_are_those_of_the_definition():
    """Two levels, two repeats: draw = 2 · level + repeat."""
    originals, made = images(3), images(12, seed=1).unflatten(0, (3, 4))
    found = shown(("feature_l1", "logit_l1"), originals, made, repeats=2)
    assert list(found) == [
        "logit_l1_global",
        "logit_l1_local",
        "feature_l1_global",
        "feature_l1_local",
    ]
    for kind, name in enumerate(("logit_l1", "feature_l1")):
        for i in range(3):
            outputs = [classifier(made[i, k][None])[kind][0].tolist() for k in range(4)]
            z = [classifier(originals[i][None])[kind][0].tolist(), *outputs]
            z = [[v / math.hypot(*vector) for v in vector] for vector in z]

            def distance(a, b, z=z):
                return sum(abs(v - w) for v, w in zip(z[a], z[b], strict=True))

            # z[1 + draw]; the level before the first is the image itself, z[0]
            assert found[f"{name}_global"][i].tolist() == pytest.approx(
                [distance(0, 1 + k) for k in range(4)], rel=1e-5
            )
            assert found[f"{name}_local"][i].tolist() == pytest.approx(
                [distance(0, 1), distance(0, 2), distance(1, 3), distance(2, 4)], rel=1e-5
            )


def test_equal_outputs_score_zero_whatever_their_scale():
    originals = images(4)
    made = torch.stack([originals, 3 * originals], dim=1)
    for name, column in shown(("logit_l1", "feature_l1"), originals, made).items():
        assert column.abs().max() < 1e-5, name


def test_an_output_that_moves_further_scores_higher():
    """Turned away from the original's by growing angles."""
    angles = torch.linspace(0, math.pi / 2, 9)
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    found, _ = movements(z[:1], z[None, :, None])
    assert found.flatten().diff().min() > 0
    assert found.flatten()[-1].item() == pytest.approx(2)


def test_no_distance_exceeds_twice_the_root_of_the_number_of_outputs():
    d = 16
    z = unit(torch.randn(200, 1, 1, d, generator=torch.Generator().manual_seed(2)))
    far, _ = movements(z[:, 0, 0], -z)
    assert far.max() <= 2 * math.sqrt(d) + 1e-5
    corner = unit(torch.ones(1, d))
    found, _ = movements(corner, -corner[:, None, None])
    assert found.item() == pytest.approx(2 * math.sqrt(d), rel=1e-6)


def test_baselines_are_those_of_the_image_at_every_draw():
    originals = torch.tensor([1.0, 2.0, 3.0, 9, 9, 9]).reshape(1, 1, 2, 3)
    found = shown(tuple(BASELINES), originals, images(2)[None])
    total = sum(math.exp(v) for v in (1, 2, 3))
    expected = {"msp": -math.exp(3) / total, "maxlogit": -3, "energy": -math.log(total)}
    assert found.keys() == expected.keys()
    for name, column in found.items():
        assert column.tolist() == [pytest.approx([expected[name]] * 2, rel=1e-6)]


@pytest.mark.parametrize("name", BASELINES)
def test_a_less_certain_image_scores_higher(name):
    certain, uncertain = torch.tensor([[9.0, 0, 0]]), torch.tensor([[1.0, 0.9, 0.8]])
    assert BASELINES[name](uncertain) > BASELINES[name](certain)


def test_what_was_not_shown_is_no_number():
    scorer = Scorer(OutputShift(classifier, NAMES, 1), images(2), 2)
    scorer.update(torch.tensor([0]), torch.tensor([1]), images(1))
    values = scorer.compute(torch.arange(2))
    assert values[0, 1, 0].isfinite()
    assert values[1, :, 0].isnan().all()
    assert values[:, :, -3:].isfinite().all()
