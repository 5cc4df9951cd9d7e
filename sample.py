"""Draw samples from a trained diffusion model: exactly as many as asked for.

python sample.py --output_dir=runs --model_name=fashionmnist --num_samples=100 --guidance=2
"""

from diffusion_ood import cli
from diffusion_ood.commands.sample import main

if __name__ == "__main__":
    cli.run(main)
