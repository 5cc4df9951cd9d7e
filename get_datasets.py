"""Download data sets, or take those on disk, and write their images and splits.

python get_datasets.py --data_root=${data_root}
python get_datasets.py --data_root=${data_root} --image_folder=scans --name=Scans
"""

from diffusion_ood import cli
from diffusion_ood.commands.get_datasets import main

if __name__ == "__main__":
    cli.run(main)
