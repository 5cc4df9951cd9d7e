#!/usr/bin/env bash
# Build the image: create_docker_image.sh [cpu|cuda]
set -euo pipefail
device=${1:-cpu}
case $device in
cpu) arguments=() ;;
cuda) arguments=(--build-arg TORCH_INDEX=) ;; # PyPI's builds bring CUDA's libraries along
*)
    echo "create_docker_image.sh: found $device, expected cpu or cuda" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
engine=$(command -v docker || command -v podman) || {
    echo "create_docker_image.sh: found neither docker nor podman" >&2
    exit 2
}
exec "$engine" build -f docker/Dockerfile -t "diffusion-ood:$device" "${arguments[@]}" .
