"""Reconstruct images from many noise levels and score the reconstructions.

python reconstruct.py --output_dir=runs --model_name=fashionmnist --inference_skip_factor=4 \
    --validation_ids=data/data_splits/FashionMNIST_val.csv \
    --in_ids=data/data_splits/FashionMNIST_test.csv \
    --out_ids=data/data_splits/MNIST_test.csv,data/data_splits/FashionMNIST_vflip_test.csv
"""

from diffusion_ood import cli
from diffusion_ood.commands.reconstruct import main

if __name__ == "__main__":
    cli.run(main)
