"""The codes of a VQ-VAE: they begin as encodings, and codes that are used no more do so again.

In training MONAI's `EMAQuantizer` moves each code to the running mean of the encodings whose
nearest code it is. Its codes begin as normal noise, of which the few that are nearest to anything
are all that is ever used. Here they begin as encodings of the first step. A code's count, the
running number of its encodings a step, begins as the mean of all codes' counts. A code is dead once
its count is below `DEAD_SHARE` of that mean, so a code that nothing uses dies after
log(DEAD_SHARE) / log(decay) steps, 229 with a decay of 0.99 and 22 with 0.9. It becomes an encoding
of that step, and its count the mean again.

A step holds positions × codes numbers a few times over, and an evaluation once: of 8 volumes of
8 × 8 × 8 latents and 2,048 codes, 34 MB each time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusion_ood.runtime import distributed

DEAD_SHARE = 0.1


@torch.compiler.disable  # type: ignore[untyped-decorator] # torch has no types for it
def quantised_step(codebook: Any, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Codes `(B, c, *s)`, through which gradients pass to z, and the commitment losses (B,).

    The codebook takes its step, too. All of it is float32, since bfloat16 would choose other codes.

    Args:
        codebook: MONAI's `EMAQuantizer` in training mode.
        z: this process's encodings `(B, c, *s)`.
        rows: for each code, the number of one of the encodings (images × positions) of all
            processes together, which it becomes where it is dead; the image comes first.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        _revive(codebook, z.detach().flatten(2).transpose(1, 2), rows.to(z.device))
        codes, _, _ = codebook(z)
        losses = (codes.detach() - z).square().flatten(1).mean(1)
    return codes, codebook.commitment_cost * losses


def nearest_codes(codebook: Any, z: Tensor) -> Tensor:  # noqa: ANN401 - MONAI's
    """The nearest codes `(B, c, *s)`, float32; nothing of the codebook changes."""
    codes: Tensor = codebook.embed(nearest_numbers(codebook, z))
    return codes


def nearest_numbers(codebook: Any, z: Tensor) -> Tensor:  # noqa: ANN401 - MONAI's
    """The numbers `(B, *s)` of the nearest codes.

    By differences: by MONAI's products a code may be nearer to its neighbour than to itself, and
    an encoding's code may depend on the others in its batch.
    """
    vectors, mode = z.float().flatten(2).transpose(1, 2), "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(vectors, codebook.embedding.weight, compute_mode=mode)
    return distances.argmin(2).unflatten(1, z.shape[2:])


@torch.no_grad()
def _revive(codebook: Any, vectors: Tensor, rows: Tensor) -> None:  # noqa: ANN401 - MONAI's
    """Make encodings of dead codes; `vectors` `(B, positions, c)` are this process's."""
    counts = codebook.ema_cluster_size
    dead = counts <= DEAD_SHARE * counts.mean()  # before the first step all counts are 0
    if not dead.any():
        return
    number = torch.tensor(float(vectors.shape[:2].numel()), device=vectors.device)
    mean = distributed.sum_over_processes(number) / len(counts)
    chosen = _chosen(vectors, rows[dead])
    codebook.embedding.weight[dead] = chosen
    codebook.ema_w[dead] = chosen * mean
    counts[dead] = mean


def _chosen(vectors: Tensor, rows: Tensor) -> Tensor:
    """The encodings (rows, c) of these numbers, whichever process has them."""
    images, positions = rows // vectors.shape[1], rows % vectors.shape[1]
    size = distributed.world_size()
    own = images % size == distributed.rank()  # as `distributed.shard` has it
    chosen = vectors.new_zeros(len(rows), vectors.shape[2])
    chosen[own] = vectors[images[own] // size, positions[own]]
    return distributed.sum_over_processes(chosen)
