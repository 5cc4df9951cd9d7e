"""Numbers and settings in sentences."""

from __future__ import annotations

from diffusion_ood.runtime.words import counted, shown


def test_one_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_digests_are_short_and_what_is_absent_is_said() -> None:
    digest = "0123456789abcdef" * 4
    assert digest not in shown(digest)
    assert shown([digest, 4]) == "['0123456789ab…', 4]"
    assert (shown(None), shown(True), shown("plms")) == ("not set", "True", "'plms'")
