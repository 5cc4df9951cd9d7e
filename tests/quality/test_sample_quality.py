"""Samples against real images, by Inception's features, on weights drawn at random."""

from pathlib import Path

import pytest
import torch

from diffusion_ood.errors import UserError
from diffusion_ood.networks.features import InceptionFeatures
from diffusion_ood.options import ImageOptions, LoadingOptions, SampleOptions
from diffusion_ood.quality import sample_quality
from diffusion_ood.quality.frechet import frechet_distance, moments
from diffusion_ood.quality.sample_quality import SampleQuality

CPU, SHAPE = torch.device("cpu"), (1, 8, 8)


def quality(inception_weights: Path, splits: Path, cache: Path, **options: str) -> SampleQuality:
    flags = {"features": "inception", "inception_weights": inception_weights, **options}
    sampling = SampleOptions(reference_ids=splits / "B_test.csv", **flags)  # type: ignore[arg-type]
    images, loading = ImageOptions(is_grayscale=True), LoadingOptions(num_workers=0)
    return SampleQuality(sampling, images, SHAPE, loading, cache, CPU)


def small(self: InceptionFeatures, images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, :3]


def test_the_papers_own_weights_alone_give_the_fid(
    inception_weights: Path, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InceptionFeatures, "forward", small)
    samples = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    said = []
    for _ in range(2):  # the second time with the real images' moments as they were kept
        found = quality(inception_weights, splits, tmp_path / "ood" / "cache")
        assert "two" in found.report()
        for part in (samples[:2], samples[2:]):
            found.add(part)
        said.append(found.report())
    assert len(list((tmp_path / "ood" / "cache").iterdir())) == 1
    expected = frechet_distance(moments(samples.flatten(1)[:, :3].numpy()), found._reference)
    assert found._reference[0, 0] == 5
    assert f"3 samples against 5 images: {expected:.4f}" in said[0]
    assert said[0] == said[1]
    assert not said[0].startswith("FID")
    own = InceptionFeatures(inception_weights).digest[:8]
    monkeypatch.setattr(sample_quality, "INCEPTION_FILE", f"of-the-paper-{own}.pth")
    found = quality(inception_weights, splits, tmp_path / "ood" / "cache")
    found.add(samples)
    assert found.report() == f"FID, 3 samples against 5 images: {expected:.4f}"


def test_features_that_cannot_be_had_are_refused(
    inception_weights: Path, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for features, word in (("classifier", "classifier_checkpoint"), ("alexnet", "weights")):
        with pytest.raises(UserError, match=word):
            quality(inception_weights, splits, tmp_path, features=features)
