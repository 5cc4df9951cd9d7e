"""Every option of every script, declared once.

The classes are frozen, hold no behaviour beyond refusing impossible values, and import nothing
heavy, so that `--help` answers at once. They are written to `config.json` and, where they describe
the model, into the checkpoint: `reconstruct.py` reads them back from there.
"""

from diffusion_ood.options.autoencoder import AutoencoderOptions as AutoencoderOptions
from diffusion_ood.options.autoencoder import AutoencoderTrainOptions as AutoencoderTrainOptions
from diffusion_ood.options.datasets import DatasetOptions as DatasetOptions
from diffusion_ood.options.detection import DetectOptions as DetectOptions
from diffusion_ood.options.detector import DetectorOptions as DetectorOptions
from diffusion_ood.options.detector import ScreenOptions as ScreenOptions
from diffusion_ood.options.diffood import MainOptions as MainOptions
from diffusion_ood.options.diffood import OodDetectOptions as OodDetectOptions
from diffusion_ood.options.export import ExportOptions as ExportOptions
from diffusion_ood.options.models import ClassifierOptions as ClassifierOptions
from diffusion_ood.options.models import ComputeOptions as ComputeOptions
from diffusion_ood.options.models import DiffusionOptions as DiffusionOptions
from diffusion_ood.options.models import EvaluationOptions as EvaluationOptions
from diffusion_ood.options.models import ImageOptions as ImageOptions
from diffusion_ood.options.models import LoadingOptions as LoadingOptions
from diffusion_ood.options.models import RunOptions as RunOptions
from diffusion_ood.options.models import TrackOptions as TrackOptions
from diffusion_ood.options.models import groups_of_a_run as groups_of_a_run
from diffusion_ood.options.reconstruction import ReconstructOptions as ReconstructOptions
from diffusion_ood.options.sampling import InterpolationOptions as InterpolationOptions
from diffusion_ood.options.sampling import SampleOptions as SampleOptions
from diffusion_ood.options.serving import ServeOptions as ServeOptions
from diffusion_ood.options.training import ClassifierTrainOptions as ClassifierTrainOptions
from diffusion_ood.options.training import FitOptions as FitOptions
from diffusion_ood.options.training import TrainOptions as TrainOptions
