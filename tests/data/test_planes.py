"""Three planes of a volume, upright."""

from __future__ import annotations

import numpy as np
import torch

from diffusion_ood.data.pictures import flat, planes
from diffusion_ood.report.pictures import png
from diffusion_ood.scoring.pictures import MAX_SIDE, small_pictures
from diffusion_ood.screening.maps import overlay, picture

X, Y, Z = 4, 5, 6
VOLUME = torch.arange(X * Y * Z).reshape(X, Y, Z) + 1


def test_the_planes_lie_as_radiologists_see_them() -> None:
    found = planes(VOLUME, (1, 2, 3))
    assert found.shape == (Z, X + X + Y)
    axial, coronal, sagittal = found[:Y, :X], found[:, X : 2 * X], found[:, 2 * X :]
    right, front, head = X - 1, Y - 1, Z - 1
    assert axial[0, 0] == VOLUME[right, front, 3]
    assert axial[-1, 0] == VOLUME[right, 0, 3]
    assert axial[0, -1] == VOLUME[0, front, 3]
    assert coronal[0, 0] == VOLUME[right, 2, head]
    assert coronal[-1, -1] == VOLUME[0, 2, 0]
    assert sagittal[0, 0] == VOLUME[1, front, head]
    assert sagittal[-1, -1] == VOLUME[1, 0, 0]
    assert (found[Y:, :X] == 0).all()
    torch.testing.assert_close(planes(VOLUME), planes(VOLUME, (2, 2, 3)))


def test_panels_of_volumes_and_of_images() -> None:
    panels = torch.rand(2, 3, 1, X, Y, Z)
    assert flat(panels).shape == (2, 3, 1, Z, 2 * X + Y)
    images = torch.rand(2, 3, 1, X, Y)
    assert flat(images) is images
    assert small_pictures(panels).shape == (2, 3, Z, 2 * X + Y, 1)
    large = small_pictures(torch.rand(1, 1, 1, 256, 256, 256))
    assert large.shape == (1, 1, MAX_SIDE, 3 * MAX_SIDE, 1)


def test_a_map_is_shown_where_it_peaks() -> None:
    image, of_image = torch.zeros(1, X, Y, Z), np.zeros((X, Y, Z), np.float32)
    of_image[3, 0, 5] = 1.0  # right, back, head
    image[0, 3, 0, 5] = 1.0
    assert np.argwhere(picture(image, of_image)[..., 0]).tolist() == [[0, 4], [0, 12], [4, 0]]
    shown = overlay(image, of_image, 1.0)
    assert shown.shape == (Z, 2 * X + Y, 3)
    assert np.argwhere(shown.any(-1)).tolist() == [[0, 4], [0, 12], [4, 0]]
    assert not picture(image).any()


def test_a_wide_picture_is_bounded_by_its_height() -> None:
    from io import BytesIO

    from PIL import Image

    for sides, expected in (((60, 180), (60, 20)), ((40, 40), (20, 20)), ((10, 12), (12, 10))):
        content = png(np.zeros((*sides, 1), np.uint8), 20)
        assert Image.open(BytesIO(content)).size == expected
