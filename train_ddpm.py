"""Train a denoising diffusion model on in-distribution images.

python train_ddpm.py --output_dir=runs --model_name=fashionmnist --is_grayscale=1 \
    --training_ids=data/data_splits/FashionMNIST_train.csv \
    --validation_ids=data/data_splits/FashionMNIST_val.csv
"""

from diffusion_ood import cli
from diffusion_ood.commands.train_ddpm import main

if __name__ == "__main__":
    cli.run(main)
