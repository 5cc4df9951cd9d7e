"""The groups that names tell."""

from __future__ import annotations

import pytest

from diffusion_ood.data.groups import group_name
from diffusion_ood.errors import UserError


def test_the_first_group_counts_or_else_the_whole_match() -> None:
    assert group_name("in/p12_s3.png", r"p(\d+)_s(\d+)") == "12"
    assert group_name("in/p12_s3.png", r"p\d+") == "p12"


@pytest.mark.parametrize("pattern", [r"q\d+", r"(q)?", "("])
def test_a_name_without_a_group_and_a_broken_pattern_are_the_users_mistake(pattern: str) -> None:
    with pytest.raises(UserError, match="`group_by`"):
        group_name("p12.png", pattern)
