# `make demo`, `make demo-volumes` and `make test` set everything up by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python

# The demo's size; .ci/run makes it shorter.
DEMO := demo
DEMO_EPOCHS := 8
DEMO_IMAGES := 250

.DEFAULT_GOAL := help

.PHONY: help venv demo demo-volumes test test-slow test-browser test-cuda newcomer lint docs dist docker-test clean

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/installed  ## make .venv with the tested versions

$(VENV)/installed: requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Digits in; their two flips and patches of photographs out. Then a detector, and a folder to screen.
demo: venv  ## train on digits, score three sets, fit a detector, screen a folder
	$(RUN) get_datasets.py --data_root=$(DEMO)/data --datasets=MNIST5k,PhotoPatches
	$(RUN) train_ddpm.py --output_dir=$(DEMO)/runs --model_name=mnist5k --is_grayscale=1 \
		--training_ids=$(DEMO)/data/data_splits/MNIST5k_train.csv \
		--validation_ids=$(DEMO)/data/data_splits/MNIST5k_val.csv \
		--model_type=tiny --n_epochs=$(DEMO_EPOCHS) --eval_freq=5 --batch_size=64 \
		--lr=1e-3 --lr_schedule=cosine --ema_decay=0.995 \
		--beta_schedule=scaled_linear --beta_start=0.0015 --beta_end=0.0195
	$(VENV)/bin/diffusion-ood weights
	$(RUN) reconstruct.py --output_dir=$(DEMO)/runs --model_name=mnist5k --is_grayscale=1 \
		--validation_ids=$(DEMO)/data/data_splits/MNIST5k_val.csv \
		--in_ids=$(DEMO)/data/data_splits/MNIST5k_test.csv \
		--out_ids=$(DEMO)/data/data_splits/PhotoPatches_test.csv,$(DEMO)/data/data_splits/MNIST5k_vflip_test.csv,$(DEMO)/data/data_splits/MNIST5k_hflip_test.csv \
		--methods=reconstruction,joined --num_inference_steps=10 --inference_skip_factor=2 \
		--reference_ids=$(DEMO)/data/data_splits/MNIST5k_train.csv \
		--first_n=$(DEMO_IMAGES) --save_images=4
	$(RUN) ood_detection.py --output_dir=$(DEMO)/runs --model_name=mnist5k
	$(VENV)/bin/diffusion-ood fit --output_dir=$(DEMO)/runs --model_name=mnist5k \
		--validation_ids=$(DEMO)/data/data_splits/MNIST5k_val.csv \
		--training_ids=$(DEMO)/data/data_splits/MNIST5k_train.csv \
		--budget=10 --detector=$(DEMO)/digits.detector
	$(RUN) examples/mix_a_folder.py $(DEMO)/data/data_splits/MNIST5k_test.csv \
		$(DEMO)/data/data_splits/PhotoPatches_test.csv $(DEMO)/mixed 250
	$(VENV)/bin/diffusion-ood screen $(DEMO)/digits.detector $(DEMO)/mixed --output=$(DEMO)/screening

# Heads in; the same heads with faults, and phantoms, out. A diffusion model of voxels, one of an
# autoencoder's latents, and the autoencoder alone, side by side; then a detector, and a screening.
VOLUMES := demo-volumes
VOLUMES_IMAGES := 50
VOLUMES_EPOCHS := 2
VOLUMES_BUDGET := 3
VQVAE_EPOCHS := 10
LATENT_EPOCHS := 20
VOLUMES_SPLITS := $(VOLUMES)/data/data_splits
VOLUME_FAULTS := ghosting,missing_slab,wrong_window,flip_lr,rotation,spike
comma := ,
FAULTY_SPLITS := $(subst $(comma), ,$(VOLUME_FAULTS))
FAULTY_SPLITS := $(FAULTY_SPLITS:%=$(VOLUMES_SPLITS)/MNI152_test_%3.csv)
OUT_SPLITS := $(FAULTY_SPLITS) $(VOLUMES_SPLITS)/Phantoms_test.csv
SCREENED := $(VOLUMES_SPLITS)/MNI152_test.csv $(VOLUMES_SPLITS)/MNI152_test_missing_slab3.csv
OF_VOLUMES := --output_dir=$(VOLUMES)/runs --training_ids=$(VOLUMES_SPLITS)/MNI152_train.csv \
	--validation_ids=$(VOLUMES_SPLITS)/MNI152_val.csv --is_grayscale=1 --spatial_dimension=3
SCHEDULE := --lr=1e-3 --lr_schedule=cosine \
	--beta_schedule=scaled_linear --beta_start=0.0015 --beta_end=0.0195

demo-volumes: venv  ## the same on volumes: latents beside voxels
	$(RUN) get_datasets.py --data_root=$(VOLUMES)/data --datasets=MNI152,Phantoms
	$(RUN) get_datasets.py --data_root=$(VOLUMES)/data --of=$(VOLUMES_SPLITS)/MNI152_test.csv \
		--corrupt=$(VOLUME_FAULTS) --first_n=$(VOLUMES_IMAGES)
	$(RUN) train_ddpm.py $(OF_VOLUMES) --model_name=voxels $(SCHEDULE) \
		--model_type=micro --n_epochs=$(VOLUMES_EPOCHS) --batch_size=4 --ema_decay=0.98
	$(RUN) train_vqvae.py $(OF_VOLUMES) --model_name=vqvae --model_type=vq_tiny \
		--vqvae_num_channels=16,32 --n_epochs=$(VQVAE_EPOCHS) --batch_size=4 --lr=1e-3
	$(RUN) train_ddpm.py $(OF_VOLUMES) --model_name=latents $(SCHEDULE) \
		--vqvae_checkpoint=$(VOLUMES)/runs/vqvae/checkpoint_best.pth \
		--model_type=tiny --n_epochs=$(LATENT_EPOCHS) --batch_size=32 --ema_decay=0.99
	for space in voxels latents; do \
		$(RUN) reconstruct.py --output_dir=$(VOLUMES)/runs --model_name=$$space \
			--methods=joined --budget=$(VOLUMES_BUDGET) --first_n=$(VOLUMES_IMAGES) \
			--reference_ids=$(VOLUMES_SPLITS)/MNI152_train.csv \
			--validation_ids=$(VOLUMES_SPLITS)/MNI152_val.csv \
			--in_ids=$(VOLUMES_SPLITS)/MNI152_test.csv \
			--out_ids=$(subst $() ,$(comma),$(OUT_SPLITS)) && \
		$(RUN) ood_detection.py --output_dir=$(VOLUMES)/runs --model_name=$$space || exit; done
	$(RUN) examples/side_by_side.py $(VOLUMES)/side_by_side.csv voxels=$(VOLUMES)/runs/voxels/ood/joined \
		latents=$(VOLUMES)/runs/latents/ood/joined autoencoder=$(VOLUMES)/runs/latents/ood/autoencoder
	$(VENV)/bin/diffusion-ood fit --output_dir=$(VOLUMES)/runs --model_name=latents --budget=$(VOLUMES_BUDGET) \
		--validation_ids=$(VOLUMES_SPLITS)/MNI152_val.csv \
		--training_ids=$(VOLUMES_SPLITS)/MNI152_train.csv --detector=$(VOLUMES)/heads.detector
	$(VENV)/bin/diffusion-ood screen $(VOLUMES)/heads.detector $(SCREENED) \
		--output=$(VOLUMES)/screening --maps=$(VOLUMES)/maps

test: venv  ## run the tests that take less than ten seconds each
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses=4 --dist=worksteal -m "not slow"

test-slow: venv  ## run the others
	$(RUN) -m pytest -m slow

# Debian's and Ubuntu's package `chromium`, or CHROMIUM=/path/to/a/browser.
test-browser: venv  ## open the report and TensorBoard in a headless Chromium
	$(RUN) -m pytest -m browser -rs tests/browser

lint: venv  ## check formatting, style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/hadolint --failure-threshold=error docker/Dockerfile

docs: venv  ## build the site into build/site, without a warning
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

docker-test:  ## build the container image and run the main job inside; as root on Debian
	docker/test_image.sh

test-cuda: venv  ## compare a GPU's results with the CPU's
	$(RUN) -m pytest -m cuda -rs tests/cuda

newcomer:  ## walk a newcomer's path in a fresh clone: demo, own folder, report
	tests/newcomer.sh

dist: venv  ## build the wheel and the sdist into dist/
	$(RUN) -m build

clean:  ## remove the environment, the demo and what was built
	rm -rf $(VENV) $(DEMO) $(VOLUMES) dist build

# Speed beside the reference loops; trains FashionMNIST first and scores it down the whole grid, an
# hour or two on two cores. FASHION_MNIST: the IDX files, where they are on disk. `frontier` goes on
# with more budgets on the same images, and `frontier-of` does so for any model that is there.
BENCH := bench
FASHION_MNIST := /usr/share/datasets/fashion-mnist
BENCH_SPLITS := $(BENCH)/data/data_splits
BENCH_IMAGES := 100
PAIR := fashionmnist
CHECKPOINT = $(BENCH)/runs/$(PAIR)/checkpoint_best.pth
ifeq ($(PAIR),fashionmnist)
VALIDATION_IDS := $(BENCH_SPLITS)/FashionMNIST_val.csv
IN_IDS := $(BENCH_SPLITS)/FashionMNIST_test.csv
OUT_IDS := $(BENCH_SPLITS)/MNIST5k_test.csv,$(BENCH_SPLITS)/FashionMNIST_vflip_test.csv,$(BENCH_SPLITS)/FashionMNIST_hflip_test.csv
else
VALIDATION_IDS = $(error VALIDATION_IDS: missing, expected the validation split of PAIR=$(PAIR))
IN_IDS = $(error IN_IDS: missing, expected the test split of PAIR=$(PAIR))
OUT_IDS = $(error OUT_IDS: missing, expected the splits of OOD images for PAIR=$(PAIR))
endif
BENCH_SCORE = $(RUN) reconstruct.py --output_dir=$(BENCH)/runs --precision=bf16 \
	--eval_checkpoint=$(CHECKPOINT) --validation_ids=$(VALIDATION_IDS) --in_ids=$(IN_IDS) --out_ids=$(OUT_IDS) \
	--first_n=$(BENCH_IMAGES) --first_n_val=$(BENCH_IMAGES) --report_images=0
BENCH_DETECT = $(RUN) ood_detection.py --output_dir=$(BENCH)/runs
BUDGETS := 7 10 13 25 50 100
FRONTIER := full grid16 $(BUDGETS:%=budget%)

.PHONY: bench bench-runs frontier frontier-of
bench: bench-runs  ## measure speed beside the reference loops
	$(RUN) benchmarks/bench.py --runs=$(BENCH)/runs --data=$(BENCH)/data

frontier: bench-runs  ## draw AUROC against network calls
	$(MAKE) frontier-of

frontier-of: venv  ## the same for PAIR, CHECKPOINT, VALIDATION_IDS, IN_IDS and OUT_IDS
	$(BENCH_SCORE) --model_name=$(PAIR)_full --inference_skip_factor=4
	$(BENCH_SCORE) --model_name=$(PAIR)_grid16 --inference_skip_factor=16
	for budget in $(BUDGETS); do \
		$(BENCH_SCORE) --model_name=$(PAIR)_budget$$budget --budget=$$budget --run_patched || exit; done
	$(RUN) benchmarks/frontier.py --title="$(PAIR) in distribution" --output=$(BENCH)/frontier_$(PAIR).png \
		$(FRONTIER:%=$(BENCH)/runs/$(PAIR)_%)

bench-runs: venv  ## train and score what is measured
	$(RUN) get_datasets.py --data_root=$(BENCH)/data --datasets=MNIST5k,FashionMNIST \
		$(if $(wildcard $(FASHION_MNIST)),--source_dir=$(FASHION_MNIST))
	$(RUN) train_ddpm.py --output_dir=$(BENCH)/runs --model_name=fashionmnist --is_grayscale=1 \
		--training_ids=$(BENCH_SPLITS)/FashionMNIST_train.csv \
		--validation_ids=$(BENCH_SPLITS)/FashionMNIST_val.csv \
		--model_type=tiny --n_epochs=6 --eval_freq=1 --batch_size=128 --precision=bf16 \
		--lr=1e-3 --lr_schedule=cosine --ema_decay=0.999 \
		--beta_schedule=scaled_linear --beta_start=0.0015 --beta_end=0.0195
	$(VENV)/bin/diffusion-ood weights
	for budget in 10 50; do \
		$(BENCH_SCORE) --model_name=fashionmnist_budget$$budget --budget=$$budget --run_patched && \
		$(BENCH_DETECT) --model_name=fashionmnist_budget$$budget --level_weights=patched || exit; done
	$(BENCH_SCORE) --model_name=fashionmnist_full --inference_skip_factor=4
	$(BENCH_DETECT) --model_name=fashionmnist_full

# 10,000 splits and images of any content; and what is known of faults in the pinned packages, which
# needs the network. Without --strict a package that the service does not know would count as clean;
# this folder itself, which has no version there, is left out.
.PHONY: fuzz audit
fuzz: venv  ## try 10,000 splits and images of any content
	FUZZ_CASES=10000 $(RUN) -m pytest tests/faults/test_fuzz.py

audit: venv  ## look for known holes in the pinned versions
	mkdir -p build
	grep -v '^-e' requirements.txt > build/audit.txt
	$(VENV)/bin/pip-audit --strict --requirement build/audit.txt --no-deps --disable-pip

# On a machine with a GPU; no data and no network are needed, and after GPU_MINUTES it ends with what
# it has. Writes benchmarks/gpu.json.
GPU_MINUTES := 8

.PHONY: bench-gpu
bench-gpu: venv  ## measure a GPU beside the plain loops, in eight minutes
	$(RUN) benchmarks/gpu.py --minutes=$(GPU_MINUTES)

# How often the 95 % intervals of the metrics hold the true value; on one core, in minutes. Writes
# benchmarks/interval_coverage.json, which docs/reliability.md quotes.
.PHONY: coverage
coverage: venv  ## count how often the intervals of metrics hold
	OMP_NUM_THREADS=1 $(RUN) benchmarks/interval_coverage.py

# Every method and the joined evidence on four models, each trained in less than 40 minutes on two
# cores; hours altogether. MNIST5k and PhotoPatches need no download. A model whose images are not
# there is left out: docs/leaderboard.md says which folders CIFAR and MedNIST are made of.
LEADERBOARD := leaderboard
LEADERBOARD_IMAGES := 100

.PHONY: leaderboard
leaderboard: venv  ## every method on the same images of four models
	$(RUN) get_datasets.py --data_root=$(LEADERBOARD)/data --datasets=MNIST5k,PhotoPatches
	-$(RUN) get_datasets.py --data_root=$(LEADERBOARD)/data --datasets=FashionMNIST \
		$(if $(wildcard $(FASHION_MNIST)),--source_dir=$(FASHION_MNIST))
	$(VENV)/bin/diffusion-ood weights
	$(RUN) benchmarks/leaderboard.py --root=$(LEADERBOARD) --images=$(LEADERBOARD_IMAGES)
	$(RUN) benchmarks/leaderboard_page.py

# Random kills, stops and torn files against training and scoring in two processes.
SOAK_MINUTES := 20

.PHONY: soak
soak: venv  ## kill, stop and tear training and scoring for SOAK_MINUTES
	OMP_NUM_THREADS=1 $(RUN) tests/faults/soak.py --minutes=$(SOAK_MINUTES)

# 10,000 requests of 16 clients to the service of DETECTOR, a file of diffusion-ood fit, each answer
# checked, and SIGTERM in the middle of a load; docs/serving.md has the figures.
DETECTOR = $(error DETECTOR: missing, expected a file of diffusion-ood fit)

.PHONY: soak-serve
soak-serve: venv  ## ask the service of DETECTOR 10,000 times, and stop it under load
	OMP_NUM_THREADS=1 $(RUN) benchmarks/serve_load.py $(DETECTOR)

# Four workers of a Ray cluster on this machine, each at a fixed pace, one slowed fourfold, one killed
# half way; on the detector RAY_DETECTOR, else on one of random weights.
RAY_RUNS := 1

.PHONY: ray-demo
ray-demo: venv  ## screen on a Ray cluster with a slow and a killed worker
	OMP_NUM_THREADS=1 $(RUN) benchmarks/ray_cluster.py --runs=$(RAY_RUNS) \
		$(if $(RAY_DETECTOR),--detector=$(RAY_DETECTOR))

# What a million and a billion images cost, by simulation from benchmarks/scale_rates.json; SCALE=
# --measure measures this machine's rates before, in minutes.
SCALE :=

.PHONY: scale
scale: venv  ## simulate what a million and a billion images cost
	$(RUN) benchmarks/scale.py $(SCALE)
