# `make demo` and `make test` set everything up by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python

# The demo's size; .ci/run makes it shorter.
DEMO := demo
DEMO_EPOCHS := 10
DEMO_IMAGES := 250

.PHONY: venv demo test test-slow lint clean

venv: $(VENV)/installed

$(VENV)/installed: requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Digits in; their two flips and patches of photographs out.
demo: venv
	$(RUN) get_datasets.py --data_root=$(DEMO)/data --datasets=MNIST5k,PhotoPatches
	$(RUN) train_ddpm.py --output_dir=$(DEMO)/runs --model_name=mnist5k --is_grayscale=1 \
		--training_ids=$(DEMO)/data/data_splits/MNIST5k_train.csv \
		--validation_ids=$(DEMO)/data/data_splits/MNIST5k_val.csv \
		--model_type=tiny --n_epochs=$(DEMO_EPOCHS) --eval_freq=5 --batch_size=64 \
		--lr=1e-3 --lr_schedule=cosine --ema_decay=0.995 \
		--beta_schedule=scaled_linear --beta_start=0.0015 --beta_end=0.0195
	$(RUN) reconstruct.py --output_dir=$(DEMO)/runs --model_name=mnist5k --is_grayscale=1 \
		--validation_ids=$(DEMO)/data/data_splits/MNIST5k_val.csv \
		--in_ids=$(DEMO)/data/data_splits/MNIST5k_test.csv \
		--out_ids=$(DEMO)/data/data_splits/PhotoPatches_test.csv,$(DEMO)/data/data_splits/MNIST5k_vflip_test.csv,$(DEMO)/data/data_splits/MNIST5k_hflip_test.csv \
		--num_inference_steps=10 --inference_skip_factor=2 \
		--first_n=$(DEMO_IMAGES) --save_images=4
	$(RUN) ood_detection.py --output_dir=$(DEMO)/runs --model_name=mnist5k

test: venv
	$(RUN) -m pytest -m "not slow"

test-slow: venv
	$(RUN) -m pytest -m slow

lint: venv
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) $(DEMO)
