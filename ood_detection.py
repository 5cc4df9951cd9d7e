"""Metrics and decisions from the score tables that reconstruct.py wrote.

python ood_detection.py --output_dir output --model_name fashionmnist
"""

from diffusion_ood import cli
from diffusion_ood.commands.ood_detection import main

if __name__ == "__main__":
    cli.run(main)
