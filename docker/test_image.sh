#!/usr/bin/env bash
# Builds docker/Dockerfile and runs the main job in the image, without any image registry.
#
# As root on Debian: needs Debian's mirror and PyPI as this machine reaches them. The base image is made
# here from Debian's packages in place of python:3.11-slim; nothing of the container file is changed.
# The images carry this machine's settings of pip and are removed at the end.
#
#   TORCH_VERSION=X TORCHVISION_VERSION=Y docker/test_image.sh   takes these from pip's own index: CUDA
#   builds, unless X ends with +cpu; the 2 GB that the image may have are then beside CUDA's libraries
set -euo pipefail
cd "$(dirname "$0")/.."
begin=$SECONDS
say() { echo "[$((SECONDS - begin)) s] $*"; }
fail() {
    echo "docker-test: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "run as root: making the base image needs it"

missing=()
for tool in podman runc mmdebstrap; do command -v $tool >/dev/null || missing+=("$tool"); done
[ -e /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

scratch=$(mktemp -d --tmpdir=/var/tmp diffusion-ood-image.XXXXXX)
cleanup() {
    podman stop --all --time 1 >/dev/null 2>&1 || true
    podman rmi --all --force >/dev/null 2>&1 || true
    podman network rm --force composed_default >/dev/null 2>&1 || true
    umount "$scratch/storage/overlay" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT

# An engine of our own: its images and settings are apart from those of this machine's user.
export TMPDIR=$scratch CONTAINERS_STORAGE_CONF=$scratch/storage.conf \
    CONTAINERS_CONF=$scratch/containers.conf CONTAINERS_REGISTRIES_CONF=$scratch/registries.conf
cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
runroot = "$scratch/run"
graphroot = "$scratch/storage"
END
cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
echo 'unqualified-search-registries = []' >"$CONTAINERS_REGISTRIES_CONF"

# Pip in the image reaches PyPI as pip here does; folders of wheels on this machine are mounted.
mounts=()
{
    echo "[global]"
    for key in index-url extra-index-url find-links; do
        value=$({ pip config get ":env:.$key" || pip config get "user.$key" || pip config get "global.$key"; } 2>/dev/null || true)
        [ -n "$value" ] && echo "$key = $value"
        for place in $value; do
            place=${place#file://}
            [ -d "$place" ] && mounts+=(-v "$place:$place:ro")
            [ -d "${place%/simple}/files" ] && mounts+=(-v "${place%/simple}:${place%/simple}:ro")
        done
    done
    echo "cert = /etc/ssl/certs/ca-certificates.crt"
} >"$scratch/pip.conf"

arguments=()
cuda_wheels=no
torch_index=$(sed -n 's/^ARG TORCH_INDEX=//p' docker/Dockerfile)
cpu_wheel=$(for place in $(sed -n 's/^find-links = //p' "$scratch/pip.conf"); do find "$place" -name 'torch-*+cpu-cp311-*x86_64.whl'; done | sort | tail -1)
versions() {
    arguments+=(--build-arg TORCH_INDEX= --build-arg "TORCH_VERSION=$1" --build-arg "TORCHVISION_VERSION=$2")
    [[ $1 == *+cpu ]] || cuda_wheels=yes # a Linux version of PyPI's is the CUDA build
}
if [ -n "${TORCH_VERSION:-}" ]; then
    versions "$TORCH_VERSION" "$TORCHVISION_VERSION"
    torch_from="pip's own index: $TORCH_VERSION"
elif python3 -c "import urllib.request as u; u.urlopen('$torch_index/torch/', timeout=20)" 2>/dev/null; then
    torch_from="$torch_index, as the container file has it"
elif [ -n "$cpu_wheel" ]; then
    version=$(basename "$cpu_wheel" | cut -d- -f2)
    minor=$(cut -d. -f2 <<<"$version")
    versions "$version" "0.$((minor + 15)).0" # torch 2.N goes with torchvision 0.(N + 15)
    torch_from="a folder of wheels of this machine, version $version"
else
    arguments+=(--build-arg TORCH_INDEX=)
    torch_from="PyPI, with CUDA's libraries, as builds without them are out of reach"
    cuda_wheels=yes
fi

say "a base image from Debian's mirror"
sources=$(grep -rlE 'bookworm-updates' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates,python3.11-dev,python3.11-venv \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='chroot "$1" python3.11 -m venv /usr/local' \
    --customize-hook="cp -L /etc/ssl/certs/ca-certificates.crt \"\$1/etc/ssl/certs/\"; cp $scratch/pip.conf \"\$1/etc/pip.conf\"" \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
    bookworm "$scratch/base.tar" ${sources:+"$sources"} 2>"$scratch/base.log" || { cat "$scratch/base.log"; fail "no base image"; }
if [[ $torch_from == "a folder of wheels"* ]]; then
    # PyPI's torchvision is built for CUDA, and without CUDA's libraries its operators cannot be
    # loaded; its import asks for one, which nothing here calls, to be declared.
    site=usr/local/lib/python3.11/site-packages
    mkdir -p "$scratch/declared/$site"
    cp docker/stand_in_torchvision.py "$scratch/declared/$site/"
    echo 'import stand_in_torchvision' >"$scratch/declared/$site/stand_in_torchvision.pth"
    tar -C "$scratch/declared" --append -f "$scratch/base.tar" "./$site/stand_in_torchvision.py" "./$site/stand_in_torchvision.pth"
fi
podman import --quiet --change 'CMD ["python3"]' "$scratch/base.tar" localhost/base >/dev/null
rm "$scratch/base.tar"

say "build; torch from $torch_from"
build_begin=$SECONDS
podman build --quiet --format docker --network host --pull-never "${mounts[@]}" \
    --build-arg BASE_IMAGE=localhost/base "${arguments[@]}" \
    -t localhost/diffusion-ood:cpu -f docker/Dockerfile . >"$scratch/build.log" 2>&1 || {
    tail -40 "$scratch/build.log"
    fail "the image was not built"
}
say "built in $((SECONDS - build_begin)) s"

# No network, no capabilities, nothing writable but the two volumes and /tmp, a user id unknown to the image.
me=1234:1234
mkdir "$scratch/data" "$scratch/outputs"
chown $me "$scratch/data" "$scratch/outputs"
chmod 711 "$scratch"
inside() {
    podman run --rm --pull=never --network none --read-only --tmpfs /tmp:exec --cap-drop all \
        --security-opt no-new-privileges --user $me -v "$scratch/data:/data" -v "$scratch/outputs:/outputs" \
        localhost/diffusion-ood:cpu "$@"
}

size=$(podman image inspect --format '{{.Size}}' localhost/diffusion-ood:cpu)
cuda=$(inside python -c "
import pathlib, torch
site = pathlib.Path(torch.__file__).parents[1]
places = [*site.glob('nvidia'), *site.glob('cuda'), *site.glob('triton'), *site.glob('torch/lib/*cuda*'), *site.glob('torch/lib/*nv*')]
print(sum(f.stat().st_size for p in places for f in ([p] if p.is_file() else p.rglob('*')) if f.is_file()))")
say "size $((size / 1000000)) MB, of which CUDA's libraries $((cuda / 1000000)) MB"
[ $((size - cuda)) -le 2000000000 ] || fail "more than 2 GB beside CUDA's libraries"
[ $cuda_wheels = yes ] || [ "$cuda" -le 10000000 ] || fail "CUDA's libraries are in the CPU image"

say "the main job, from images to decisions"
inside diffusion-ood --version
inside diffusion-ood data --data_root=/data --datasets=MNIST5k,PhotoPatches
inside diffusion-ood train --output_dir=/outputs --model_name=digits --is_grayscale=1 --model_type=tiny \
    --training_ids=/data/data_splits/MNIST5k_train.csv --validation_ids=/data/data_splits/MNIST5k_val.csv \
    --n_epochs=1 --batch_size=32 --quick_test
inside diffusion-ood reconstruct --output_dir=/outputs --model_name=digits --budget=2 --first_n=8 \
    --validation_ids=/data/data_splits/MNIST5k_val.csv --in_ids=/data/data_splits/MNIST5k_test.csv \
    --out_ids=/data/data_splits/PhotoPatches_test.csv,/data/data_splits/MNIST5k_vflip_test.csv
inside python ood_detection.py --output_dir=/outputs --model_name=digits
for file in config.json checkpoint.pth ood/results_val.csv ood/metrics.json ood/decisions_PhotoPatches.csv; do
    [ -s "$scratch/outputs/digits/$file" ] || fail "$file was not written"
    [ "$(stat -c %u:%g "$scratch/outputs/digits/$file")" = $me ] || fail "$file is not the caller's"
done
head -1 "$scratch/outputs/digits/ood/results_val.csv" | grep -q perceptual_difference || fail "no LPIPS in the image"

say "torch.compile works inside"
inside python -c "import torch; f = torch.compile(lambda x: (x.sin() + 1).sum()); assert abs(f(torch.zeros(64)) - 64) < 1e-6"
say "a mistake ends with exit code 2, and the read-only file system is one"
code=0
inside diffusion-ood detect --output_dir=/outputs --model_name=none >/dev/null 2>&1 || code=$?
[ $code = 2 ] || fail "exit code $code"
inside sh -c '! touch /app/x 2>/dev/null' || fail "/app is writable"
say "without --user it runs as $(podman run --rm --pull=never --network none localhost/diffusion-ood:cpu id -un)"
[ "$(podman run --rm --pull=never --network none localhost/diffusion-ood:cpu id -u)" = 1000 ] || fail "runs as root"

say "docker/compose.yaml: a training, and TensorBoard beside it"
python3 -m venv "$scratch/compose"
"$scratch/compose/bin/pip" install --quiet --disable-pip-version-check podman-compose==1.6.0
compose() {
    DATA=$scratch/data OUTPUTS=$scratch/outputs ME=$me NAME=composed SET=few EPOCHS=1 \
        "$scratch/compose/bin/podman-compose" -p composed -f docker/compose.yaml "$@" >>"$scratch/compose.log" 2>&1
}
for part in train val; do
    head -17 "$scratch/data/data_splits/MNIST5k_$part.csv" >"$scratch/data/data_splits/few_$part.csv"
done
compose up -d || { tail -40 "$scratch/compose.log"; fail "compose did not start"; }
code=$(podman wait composed_train_1)
[ "$code" = 0 ] || { podman logs composed_train_1; fail "the training under compose ended with $code"; }
[ -s "$scratch/outputs/composed/checkpoint.pth" ] || fail "the training under compose left no checkpoint"
shown() { python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6006/data/runs', timeout=5).read().decode())" 2>/dev/null; }
for _ in $(seq 60); do
    runs=$(shown || true)
    [[ $runs == *composed* ]] && break
    sleep 1
done
[[ $runs == *composed* ]] || { podman logs composed_tensorboard_1; fail "TensorBoard does not show the training: ${runs:-no answer}"; }
say "TensorBoard shows $runs"
compose down || { tail -40 "$scratch/compose.log"; fail "compose did not stop"; }

cat <<END
docker-test: passed in $((SECONDS - begin)) s; size $((size / 1000000)) MB, CUDA's libraries $((cuda / 1000000)) MB of it.
Not tested: the official base image and any image registry; CUDA; Docker itself and its compose, in
whose place podman and podman-compose ran. Torch came from $torch_from.
END
