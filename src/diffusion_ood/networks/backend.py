"""The one place that knows which package MONAI's diffusion networks come from.

monai-generative 0.2.3 has them where it is installed and imports (MONAI up to 1.5); MONAI core has
carried the same networks since 1.4. monai-generative builds an output projection into its
attention blocks and never applies it, so that its weights get no gradient; it is taken out here,
and left out of MONAI core's blocks, and the two give equal outputs from equal weights. They differ
in the name of one constructor argument and of some weights.

MONAI core applies the projection where it is asked to build it. A network that needs it, as the
U-Net of DDIM does, therefore comes from MONAI core in either case, and so do the autoencoders.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from diffusion_ood.runtime.imports import without_deprecation_notices

with without_deprecation_notices():
    from monai.networks.blocks.selfattention import SABlock
    from monai.networks.nets import VQVAE, AutoencoderKL
    from monai.networks.nets import DiffusionModelUNet as CoreUNet
    from monai.networks.nets import diffusion_model_unet as core
    from monai.networks.nets.resnet import ResNet

    try:
        from generative.networks.nets import DiffusionModelUNet
        from generative.networks.nets.diffusion_model_unet import AttentionBlock, Upsample
        from generative.networks.schedulers import DDPMScheduler

        BACKEND = "monai-generative"
    except ImportError:  # not installed, or a MONAI whose parts it no longer finds
        DiffusionModelUNet = CoreUNet
        AttentionBlock, Upsample = SABlock, core.WrappedUpsample
        from monai.networks.schedulers import DDPMScheduler

        BACKEND = "monai"

__all__ = [
    "BACKEND",
    "UPSAMPLINGS",
    "VQVAE",
    "AttentionBlock",
    "AutoencoderKL",
    "DDPMScheduler",
    "ResNet",
    "SABlock",
    "diffusion_unet",
    "own_names",
]

UPSAMPLINGS: tuple[type[nn.Module], ...] = (core.WrappedUpsample, Upsample)
"""Its modules that enlarge an image twofold and convolve it."""

# (monai-generative's part of a weight's name, MONAI core's part)
_RENAMED = (
    (".to_q.", ".attn.to_q."),
    (".to_k.", ".attn.to_k."),
    (".to_v.", ".attn.to_v."),
    (".upsampler.conv.", ".upsampler.postconv."),
)
_UNUSED = (".proj_attn.", ".attn.out_proj.")


def diffusion_unet(
    channels: tuple[int, ...],
    *,
    attention_projection: bool = False,
    **arguments: Any,  # noqa: ANN401 - MONAI's
) -> nn.Module:
    """MONAI's `DiffusionModelUNet` of these channels a level, from whichever package is there.

    With a projection its attention ends in a linear layer, which MONAI core alone has.
    """
    if attention_projection or BACKEND == "monai":
        return CoreUNet(channels=channels, include_fc=attention_projection, **arguments)
    network: nn.Module = DiffusionModelUNet(num_channels=channels, **arguments)
    for module in list(network.modules()):
        if hasattr(module, "proj_attn"):
            del module.proj_attn
    return network


def own_names(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The same weights under the names that this process's package gives them."""
    own = {}
    for name, weight in state_dict.items():
        for generative, core in _RENAMED:
            if BACKEND == "monai-generative":
                name = name.replace(core, generative)
            elif core not in name:
                name = name.replace(generative, core)
        if not any(part in name for part in _UNUSED):
            own[name] = weight
    return own
