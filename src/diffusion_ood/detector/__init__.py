"""The detector: fitted once, kept in one file, asked about any image."""

from diffusion_ood.detector.detector import Detector as Detector
from diffusion_ood.detector.fitting import methods_of as methods_of
from diffusion_ood.detector.measuring import new_evaluator as new_evaluator
from diffusion_ood.detector.scores import Scores as Scores
