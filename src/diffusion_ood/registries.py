"""What can be chosen by name: one registry a kind, and one line for each of its members.

A member is given by its place, `module:attribute`, and imported when it is first asked for; where
the attribute is a dictionary, the member is what this has by the same name. So a
command line knows every name before anything heavy is imported, and its choices are these names.
"""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any


class Registry(UserDict[str, Any]):
    """The members of one kind by their names; each is given by its place, `module:attribute`."""

    @property
    def places(self) -> dict[str, str]:
        """The place of each member by its name."""
        return self.data

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - the kind says what its members are
        if name not in self.places:
            raise KeyError(f"found {name!r}, expected one of {', '.join(self.places)}")
        module, attribute = self.places[name].split(":")
        found = getattr(importlib.import_module(module), attribute)
        return found[name] if isinstance(found, dict) else found


METHODS = Registry(
    reconstruction="diffusion_ood.methods.reconstruction:Reconstruction",
    diffood="diffusion_ood.methods.diffood:DiffOOD",
    denoising="diffusion_ood.methods.denoising:Denoising",
    score_geometry="diffusion_ood.methods.score_geometry:ScoreGeometry",
    features="diffusion_ood.methods.features:Features",
    path="diffusion_ood.methods.path:Path",
    likelihood="diffusion_ood.methods.likelihood:Likelihood",
    equivariance="diffusion_ood.methods.equivariance:Equivariance",
    eigenscore="diffusion_ood.methods.eigenscore:EigenScore",
    projection_regret="diffusion_ood.methods.projection_regret:ProjectionRegret",
    inpainting="diffusion_ood.methods.inpainting:Inpainting",
    controls="diffusion_ood.methods.controls:Controls",
    autoencoder="diffusion_ood.methods.autoencoder:AutoencoderError",
)
"""What is measured of an image: classes of `methods.base.Method`."""

SCORES = Registry(
    mse="diffusion_ood.methods.scores.mse:MeanSquaredError",
    mse_latent="diffusion_ood.methods.scores.latent:LatentError",
    mse_autoencoded="diffusion_ood.methods.scores.latent:AutoencodedError",
    perceptual="diffusion_ood.methods.scores.perceptual:PerceptualDifference",
    perceptual_difference="diffusion_ood.methods.scores.perceptual:PerceptualDifference",
    logit_l1="diffusion_ood.methods.scores.output_shift:OutputShift",
    feature_l1="diffusion_ood.methods.scores.output_shift:OutputShift",
    msp="diffusion_ood.methods.scores.output_shift:OutputShift",
    maxlogit="diffusion_ood.methods.scores.output_shift:OutputShift",
    energy="diffusion_ood.methods.scores.output_shift:OutputShift",
)
"""How far a reconstruction is from its image: classes of `methods.scores.base.PairScore`."""

HEADS = Registry(
    zscore="diffusion_ood.calibration.zscore:ZScore",
    two_sided="diffusion_ood.calibration.zscore:TwoSidedZScore",
    highest="diffusion_ood.calibration.zscore:TopLevels",
    gaussian="diffusion_ood.calibration.gaussian:LedoitWolfGaussian",
    log_gaussian="diffusion_ood.calibration.gaussian:LogGaussian",
    mixture="diffusion_ood.calibration.mixture:Mixture",
    kde="diffusion_ood.calibration.kde:KernelDensity",
    knn="diffusion_ood.calibration.neighbours:NearestNeighbours",
    pca="diffusion_ood.calibration.pca:PCAResidual",
)
"""How measurements become one score: classes of `calibration.base.Head`."""

PUBLISHED = Registry(
    msma_noisy="diffusion_ood.calibration.published:MSMA_NOISY",
    msma_clean="diffusion_ood.calibration.published:MSMA_CLEAN",
    scoped="diffusion_ood.calibration.published:SCOPED",
    flipd="diffusion_ood.calibration.published:FLIPD",
    posterior_trace="diffusion_ood.calibration.published:POSTERIOR_TRACE",
    cfs="diffusion_ood.calibration.published:CFS",
    diffpath_1d="diffusion_ood.calibration.published:DIFFPATH_1D",
    diffpath_6d="diffusion_ood.calibration.published:DIFFPATH_6D",
    ufcod="diffusion_ood.calibration.published:UFCOD",
    nll="diffusion_ood.calibration.published:NLL",
    typicality="diffusion_ood.calibration.published:TYPICALITY",
    input_complexity="diffusion_ood.calibration.published:INPUT_COMPLEXITY",
    gepc="diffusion_ood.calibration.published:GEPC",
    eigenscore="diffusion_ood.calibration.published:EIGENSCORE",
    projection_regret="diffusion_ood.calibration.published:PROJECTION_REGRET",
    lmd="diffusion_ood.calibration.published:LMD",
    mean_control="diffusion_ood.calibration.published:PIXEL_MEAN",
    spread_control="diffusion_ood.calibration.published:PIXEL_STD",
    compression_control="diffusion_ood.calibration.published:COMPRESSED",
    untrained_control="diffusion_ood.calibration.published:UNTRAINED",
)
"""Detectors of the literature and controls: objects of `calibration.published.Detector`."""

SAMPLERS = Registry(
    ddim="diffusion_ood.diffusion.samplers.ddim:SAMPLER",
    dpmpp_2m="diffusion_ood.diffusion.samplers.dpm_solver:SAMPLER",
    plms="diffusion_ood.diffusion.samplers.plms:SAMPLER",
    pndm2="diffusion_ood.diffusion.samplers.pndm:SECOND_ORDER",
    pndm4="diffusion_ood.diffusion.samplers.pndm:FOURTH_ORDER",
)
"""How a trajectory steps: objects of `diffusion.samplers.base.Sampler`."""

SIZES = Registry(
    micro="diffusion_ood.networks.unet:MICRO",
    tiny="diffusion_ood.networks.unet:TINY",
    small="diffusion_ood.networks.unet:SMALL",
    big="diffusion_ood.networks.unet:BIG",
    ddim32="diffusion_ood.networks.unet:DDIM32",
)
"""Sizes of the diffusion model's U-Net: objects of `networks.unet.UNetSize`."""

AUTOENCODERS = Registry(
    vq_tiny="diffusion_ood.networks.autoencoder:VQ_TINY",
    vq_small="diffusion_ood.networks.autoencoder:VQ_SMALL",
    vq_original="diffusion_ood.networks.autoencoder:VQ_ORIGINAL",
    vq_paper="diffusion_ood.networks.autoencoder:VQ_PAPER",
    kl_tiny="diffusion_ood.networks.autoencoder:KL_TINY",
    kl_small="diffusion_ood.networks.autoencoder:KL_SMALL",
)
"""Sizes of autoencoders: objects of `networks.autoencoder.VQSize` or `KLSize`."""

CLASSIFIERS = Registry(
    resnet18="diffusion_ood.networks.resnet:RESNET18",
    narrow="diffusion_ood.networks.resnet:NARROW",
)
"""Sizes of the classifier: the channels of its four stages."""

MEDMNIST = (
    *("pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist"),
    *("breastmnist", "bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist"),
    *("organmnist3d", "nodulemnist3d", "adrenalmnist3d"),
    *("fracturemnist3d", "vesselmnist3d", "synapsemnist3d"),
)
"""The sets of MedMNIST of 28 pixels a side; `_64` behind it names one of 64, and so on."""

DECATHLON = (
    *("Task01_BrainTumour", "Task02_Heart", "Task03_Liver", "Task04_Hippocampus"),
    *("Task05_Prostate", "Task06_Lung", "Task07_Pancreas", "Task08_HepaticVessel"),
    *("Task09_Spleen", "Task10_Colon"),
)
BMAD = (
    *("BMAD_Brain", "BMAD_Chest", "BMAD_Histopathology"),
    *("BMAD_Liver", "BMAD_Retina_OCT2017", "BMAD_Retina_RESC"),
)

SOURCES = Registry(
    MNIST="diffusion_ood.data.sources.idx:MNIST",
    FashionMNIST="diffusion_ood.data.sources.idx:FASHION_MNIST",
    CIFAR10="diffusion_ood.data.sources.cifar:CIFAR10",
    CIFAR100="diffusion_ood.data.sources.cifar:CIFAR100",
    SVHN="diffusion_ood.data.sources.svhn:SOURCE",
    Textures="diffusion_ood.data.sources.photographs:TEXTURES",
    Places365="diffusion_ood.data.sources.photographs:PLACES365",
    TinyImageNet="diffusion_ood.data.sources.photographs:TINY_IMAGENET",
    CelebA="diffusion_ood.data.sources.celeba:SOURCE",
    MNIST5k="diffusion_ood.data.sources.mnist5k:SOURCE",
    PhotoPatches="diffusion_ood.data.sources.photo_patches:SOURCE",
    MNI152="diffusion_ood.data.sources.mni152:SOURCE",
    MNI152_64="diffusion_ood.data.sources.mni152:LARGER",
    Phantoms="diffusion_ood.data.sources.phantoms:SOURCE",
    MedNIST="diffusion_ood.data.sources.mednist:SOURCE",
    **{
        f"{name}{size}": "diffusion_ood.data.sources.medmnist:SOURCES"
        for name in MEDMNIST
        for size in ("", "_64", "_128", "_224")[: 2 if name.endswith("3d") else 4]
    },
    **dict.fromkeys(DECATHLON, "diffusion_ood.data.sources.decathlon:SOURCES"),
    **dict.fromkeys(BMAD, "diffusion_ood.data.sources.bmad:SOURCES"),
)
"""The data sets that `get_datasets.py` prepares: objects of `data.sources.base.Source`."""

FAULTS = Registry(
    ghosting="diffusion_ood.data.faults.kspace:ghosting",
    motion="diffusion_ood.data.faults.kspace:motion",
    spike="diffusion_ood.data.faults.kspace:spike",
    bias_field="diffusion_ood.data.faults.intensity:bias_field",
    noise="diffusion_ood.data.faults.intensity:noise",
    blur="diffusion_ood.data.faults.intensity:blur",
    gamma="diffusion_ood.data.faults.intensity:gamma",
    contrast="diffusion_ood.data.faults.intensity:contrast",
    inversion="diffusion_ood.data.faults.intensity:inversion",
    wrong_window="diffusion_ood.data.faults.intensity:wrong_window",
    rotation="diffusion_ood.data.faults.geometry:rotation",
    shift="diffusion_ood.data.faults.geometry:shift",
    cropped="diffusion_ood.data.faults.geometry:cropped",
    box="diffusion_ood.data.faults.geometry:box",
    missing_slab="diffusion_ood.data.faults.geometry:missing_slab",
    flip_lr="diffusion_ood.data.faults.geometry:flip_lr",
    swapped_quarters="diffusion_ood.data.faults.geometry:swapped_quarters",
    foreign_patch="diffusion_ood.data.faults.geometry:foreign_patch",
    resampling="diffusion_ood.data.faults.intensity:resampling",
    lesions="diffusion_ood.data.faults.lesions:lesions",
)
"""Faults that `get_datasets.py` puts into images: `data.faults.base.Fault` or `PairFault`."""
