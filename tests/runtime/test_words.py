"""Numbers and settings in sentences."""

from __future__ import annotations

from diffusion_ood.runtime.words import counted, duration, shown


def test_one_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_durations_have_the_unit_that_fits() -> None:
    found = [duration(s) for s in (0, 12e-6, 0.0012, 0.72, 9.98, 119, 720, 7200, 1e5, 1e6)]
    assert found == [
        *("0 µs", "12 µs", "1.2 ms", "720 ms", "10 s", "119 s"),
        *("12 min", "2 h", "28 h", "12 days"),
    ]


def test_digests_are_short_and_what_is_absent_is_said() -> None:
    digest = "0123456789abcdef" * 4
    assert digest not in shown(digest)
    assert shown([digest, 4]) == "['0123456789ab…', 4]"
    assert (shown(None), shown(True), shown("plms")) == ("not set", "True", "'plms'")
