"""Train the classifier whose outputs the scores logit_l1 and feature_l1 compare.

python train_classifier.py --output_dir=runs --model_name=fashionmnist_classifier --is_grayscale=1 \
    --classifier_type=narrow --num_classes=10 \
    --training_ids=data/data_splits/FashionMNIST_train.csv \
    --validation_ids=data/data_splits/FashionMNIST_val.csv \
    --test_ids=data/data_splits/FashionMNIST_test.csv
"""

from diffusion_ood import cli
from diffusion_ood.commands.train_classifier import main

if __name__ == "__main__":
    cli.run(main)
