#!/usr/bin/env bash
# A newcomer's path, walked: clone, demo, a folder of one's own, detection, report.
#
#   tests/newcomer.sh [FOLDER]     an empty place to work in; default: a temporary one, removed at the end
#
# The demo is made short. PYTHON_ENV=PATH takes an environment that exists in place of `make venv`.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
place=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$place"' EXIT
begin=$SECONDS
step() { echo "newcomer [$((SECONDS - begin)) s]: $*"; }
expect() {
    for file in "$@"; do
        [ -s "$file" ] || {
            echo "newcomer: $file was not written" >&2
            exit 1
        }
    done
}

step "clone"
git clone --quiet "$repository" "$place/clone"
cd "$place/clone"
if [ -n "${PYTHON_ENV:-}" ]; then
    ln -s "$PYTHON_ENV" .venv
    touch .venv/installed 2>/dev/null || true
    export PYTHONPATH=$PWD/src
fi

step "the demo, shortened"
make demo DEMO_EPOCHS=2 DEMO_IMAGES=20
expect demo/runs/mnist5k/ood/{metrics.json,decisions_PhotoPatches.csv,joined/report.html}
expect demo/digits.detector demo/screening/{decisions.csv,report.html}
head -1 demo/runs/mnist5k/ood/results_val.csv | grep perceptual_difference # by the command weights

step "a folder of images of one's own"
.venv/bin/python - <<'END'
from pathlib import Path

import numpy as np
from PIL import Image

rng = np.random.default_rng(1)
y, x = np.mgrid[:32, :32]
for kind, count in (("rings", 80), ("stripes", 20)):
    folder = Path("images", kind)
    folder.mkdir(parents=True)
    for i in range(count):
        cy, cx, r = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(4, 9)
        ring = np.exp(-((np.hypot(y - cy, x - cx) - r) ** 2) / 2)
        stripes = 0.5 + 0.5 * np.sin(x * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
        image = ring if kind == "rings" else stripes
        Image.fromarray((255 * image).astype(np.uint8)).save(folder / f"patient{i // 2}_{i}.png")
END
python() { .venv/bin/python "$@"; }
python get_datasets.py --data_root=data --image_folder=images/rings --name=Rings --group_by='(patient\d+)' \
    --val_fraction=0.3
python get_datasets.py --data_root=data --image_folder=images/stripes --name=Stripes --test_fraction=1
python train_ddpm.py --output_dir=runs --model_name=rings --is_grayscale=1 --model_type=tiny \
    --training_ids=data/data_splits/Rings_train.csv --validation_ids=data/data_splits/Rings_val.csv \
    --n_epochs=4 --eval_freq=2 --batch_size=8 --lr=1e-3
step "detection"
python reconstruct.py --output_dir=runs --model_name=rings --budget=4 \
    --validation_ids=data/data_splits/Rings_val.csv --in_ids=data/data_splits/Rings_test.csv \
    --out_ids=data/data_splits/Stripes_test.csv
python ood_detection.py --output_dir=runs --model_name=rings --target_fpr=0.5
expect runs/rings/ood/{metrics.json,metrics.csv,decisions_in.csv,decisions_Stripes.csv,report.html}
[ "$(wc -l <runs/rings/ood/decisions_Stripes.csv)" = 21 ]

step "a detector"
.venv/bin/diffusion-ood fit --output_dir=runs --model_name=rings --budget=3 --target_fpr=0.2 \
    --validation_ids=data/data_splits/Rings_val.csv --training_ids=data/data_splits/Rings_train.csv \
    --detector=rings.detector
.venv/bin/diffusion-ood screen rings.detector images/stripes --output=screening
expect screening/{decisions.csv,report.html}
[ "$(wc -l <screening/decisions.csv)" = 21 ]

step "a mistake is one sentence"
code=0
said=$(.venv/bin/python ood_detection.py --output_dir=runs --model_name=ring 2>&1) || code=$?
echo "$said"
[ $code = 2 ] && [ "$(wc -l <<<"$said")" = 1 ]
echo "newcomer: passed in $((SECONDS - begin)) s; not walked: the demo at its full length"
