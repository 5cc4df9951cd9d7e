"""The second system (DiffOOD) under its own command line.

python main.py --runner base_train --config 32_cifar10_cond.yml --train_path temp/train/base_multi
python main.py --runner ood_itp --config 32_cifar10_cond.yml --method DDIM --sample_speed 50 \
    --model_path temp/train/base_multi/checkpoint_best.pth --model_name cifar10 --repeat_size 4
"""

from diffusion_ood import cli
from diffusion_ood.commands.diffood.main import main

if __name__ == "__main__":
    cli.run(main)
