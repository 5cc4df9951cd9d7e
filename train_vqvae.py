"""Train an autoencoder, whose latents a diffusion model can learn instead of pixels.

python train_vqvae.py --output_dir=runs --model_name=volumes_vqvae --is_grayscale=1 \
    --spatial_dimension=3 --model_type=vq_tiny \
    --training_ids=data/data_splits/volumes_train.csv \
    --validation_ids=data/data_splits/volumes_val.csv
"""

from diffusion_ood import cli
from diffusion_ood.commands.train_vqvae import main

if __name__ == "__main__":
    cli.run(main)
