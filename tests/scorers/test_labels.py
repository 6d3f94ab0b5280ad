"""Values of other settings that do not compare have another label."""

from __future__ import annotations

from synthvlm.scorers import SCORERS, scorer_label
from synthvlm.scorers.ssim import SsimSettings


def test_the_label_of_ssim_names_its_sizes_and_others_are_as_they_were() -> None:
    assert scorer_label("ssim", SsimSettings()) == "SSIMScore 768/336"
    assert scorer_label("ssim", SsimSettings(side=64, model_input_side=28)) == "SSIMScore 64/28"
    for name in {*SCORERS.names()} - {"ssim"}:
        assert scorer_label(name, SCORERS.settings(name, {})) == SCORERS.label(name)
