"""Report on what main.py --runner ood_itp has scored.

python detect/ood_detect.py --repeat_size 4 --id_name cifar10
"""

from diffusion_ood import cli
from diffusion_ood.commands.diffood.ood_detect import main

if __name__ == "__main__":
    cli.run(main)
