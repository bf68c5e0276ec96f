"""Where Keras, torchvision and timm fetch the weights of our networks from, and what they check of them.

Nothing is fetched: Keras' functions are called with a `get_file` that notes its arguments and stops there, and the
others' records are read. Writes test/golden/fixtures/addresses.json, which test/backbones/downloads.test.ts compares with
the published entries: {"<backbone>": {"<source>": {...}}}. Each environment writes its own part of it:

    tf/bin/python addresses.py keras
    torch/bin/python addresses.py torch
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Callable

from store import FIXTURES

PATH = FIXTURES / "addresses.json"
Entries = dict[str, dict[str, dict[str, Any]]]


class Asked(Exception):
    """What `get_file` was called with."""


def keras_entries() -> Entries:
    import keras as keras_package
    import keras_applications
    import tensorflow as tf
    from keras.src.utils import data_utils
    from keras_applications import resnet50, resnext

    def get_file(fname: str, origin: str, cache_subdir: str, md5_hash: Any = None, file_hash: Any = None) -> None:
        raise Asked(origin, md5_hash or file_hash)

    data_utils.get_file = get_file
    tf.keras.utils.get_file = get_file

    def asked(call: Callable[[], Any], writer: str) -> dict[str, Any]:
        tf.keras.backend.clear_session()
        try:
            call()
        except Asked as noted:
            url, digest = noted.args
            # keras.utils.get_file, hash_algorithm="auto": 64 digits are a sha256, else it is an md5
            kind = {} if digest is None else {"sha256" if len(digest) == 64 else "md5": digest}
            return {"url": url, **kind, "writer": writer}
        raise AssertionError("it asked for no file")

    apps = tf.keras.applications
    keras2 = f"keras {keras_package.__version__}"
    out: Entries = {}

    def add(backbone: str, source: str, call: Callable[..., Any], **arguments: Any) -> None:
        out.setdefault(backbone, {})[source] = asked(lambda: call(weights="imagenet", **arguments), keras2)

    for name, call in {"vgg16": apps.VGG16, "vgg19": apps.VGG19}.items():
        add(name, "keras", call)
        add(name, "keras_notop", call, include_top=False)
    for name, call in {"resnet50": apps.ResNet50, "resnet101": apps.ResNet101, "resnet152": apps.ResNet152}.items():
        add(name, "keras", call)
    for alpha in (1.0, 0.75, 0.5, 0.25):
        add(f"mobilenet_v1_{alpha}", "keras", apps.MobileNet, alpha=alpha)
    for alpha in (1.0, 1.4, 1.3, 0.75, 0.5, 0.35):
        add(f"mobilenet_v2_{alpha}", "keras", apps.MobileNetV2, alpha=alpha)
    for size, call in {"large": apps.MobileNetV3Large, "small": apps.MobileNetV3Small}.items():
        kinds = {"1.0": {}, "0.75": {"alpha": 0.75}, "minimalistic": {"minimalistic": True}}
        for kind, arguments in kinds.items():
            add(f"mobilenet_v3_{size}_{kind}", "keras", call, **arguments)
            add(f"mobilenet_v3_{size}_{kind}", "keras_notop", call, include_top=False, **arguments)
    for n, call in enumerate([apps.EfficientNetB0, apps.EfficientNetB1, apps.EfficientNetB2, apps.EfficientNetB3]):
        add(f"efficientnet_b{n}", "keras", call)
    add("convnext_tiny", "keras", apps.ConvNeXtTiny)
    add("convnext_small", "keras", apps.ConvNeXtSmall)
    add("densenet121", "keras", apps.DenseNet121)

    # What Keras published before it was a part of TensorFlow; the package gets Keras as arguments.
    modules = {"backend": tf.keras.backend, "layers": tf.keras.layers, "models": tf.keras.models, "utils": tf.keras.utils}
    older = f"keras_applications {keras_applications.__version__}"
    for backbone, source, call in [
        ("resnet50", "keras_v1", resnet50.ResNet50),
        ("resnext50_32x4d", "keras", resnext.ResNeXt50),
        ("resnext101_32x4d", "keras", resnext.ResNeXt101),
    ]:
        out.setdefault(backbone, {})[source] = asked(lambda: call(weights="imagenet", **modules), older)
    return out


def torch_entries() -> Entries:
    import timm
    import torchvision
    from timm.models._hub import HF_SAFE_WEIGHTS_NAME
    from torch.hub import HASH_REGEX

    out: Entries = {}

    def torchvisions(backbone: str, model: str, weights: str = "IMAGENET1K_V1") -> None:
        entry = torchvision.models.get_model_weights(model)[weights]
        out.setdefault(backbone, {})["torch"] = {
            "url": entry.url,
            "sha256Prefix": HASH_REGEX.search(entry.url.rsplit("/", 1)[1]).group(1),  # torch.hub, check_hash=True
            "mebibytes": entry.meta["_file_size"],
            "writer": f"torchvision {torchvision.__version__.split('+')[0]}",
        }

    same_names = """alexnet vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn googlenet resnet18 resnet34
        resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d efficientnet_b0 efficientnet_b1 efficientnet_b2
        efficientnet_b3 convnext_tiny convnext_small densenet121"""
    for name in same_names.split():
        torchvisions(name, name)
    torchvisions("mobilenet_v2_1.0", "mobilenet_v2")
    torchvisions("mobilenet_v3_large_1.0", "mobilenet_v3_large")
    torchvisions("mobilenet_v3_small_1.0", "mobilenet_v3_small")
    for size, patch in [("b", 16), ("b", 32), ("l", 16), ("l", 32)]:
        torchvisions(f"vit_{size}{patch}", f"vit_{size}_{patch}")
    torchvisions("vit_h14", "vit_h_14", "IMAGENET1K_SWAG_LINEAR_V1")

    def timms(backbone: str, source: str, model: str) -> Any:
        cfg = timm.get_pretrained_cfg(model)
        file = cfg.hf_hub_filename or HF_SAFE_WEIGHTS_NAME
        out.setdefault(backbone, {})[source] = {
            "hub": {"repo": cfg.hf_hub_id, "file": file},
            "writer": f"timm {timm.__version__}",
        }
        return cfg

    timms("resnext101_32x4d", "torch", "resnext101_32x4d.gluon_in1k")
    timms("mobilenet_v1_1.0", "torch", "mobilenetv1_100.ra4_e3600_r224_in1k")
    timms("mobilenet_v2_1.4", "torch", "mobilenetv2_140.ra_in1k")
    timms("mobilenet_v2_0.5", "torch", "mobilenetv2_050.lamb_in1k")
    for size in ("large", "small"):
        for ours, theirs in {"1.0": "100", "0.75": "075", "minimalistic": "minimal_100"}.items():
            timms(f"mobilenet_v3_{size}_{ours}", "timm", f"tf_mobilenetv3_{size}_{theirs}.in1k")
    timms("mobilenet_v3_large_1.0", "timm_native", "mobilenetv3_large_100.ra_in1k")
    timms("mobilenet_v3_small_1.0", "timm_native", "mobilenetv3_small_100.lamb_in1k")
    timms("mobilenet_v3_small_0.75", "timm_native", "mobilenetv3_small_075.lamb_in1k")
    for n in range(4):
        timms(f"efficientnet_b{n}", "timm", f"tf_efficientnet_b{n}.in1k")
    vits = {
        "vit_ti16": ("torch", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
        "vit_s16": ("torch", "vit_small_patch16_224.augreg_in21k_ft_in1k"),
        "vit_b16": ("timm", "vit_base_patch16_224.augreg_in21k_ft_in1k"),
        "vit_b32": ("timm", "vit_base_patch32_224.augreg_in21k_ft_in1k"),
        "vit_l16": ("timm", "vit_large_patch16_224.augreg_in21k_ft_in1k"),
        "vit_l32": ("timm", "vit_large_patch32_384.orig_in21k_ft_in1k"),
        "vit_h14": ("timm", "vit_huge_patch14_224.orig_in21k"),
        "r50_vit_b16": ("torch", "vit_base_r50_s16_384.orig_in21k_ft_in1k"),
    }
    for backbone, (source, model) in vits.items():
        cfg = timms(backbone, source, model)
        # timm reads Google's own files of these two, which the same training wrote
        if backbone in ("vit_ti16", "vit_s16"):
            assert re.fullmatch(r"https://storage\.googleapis\.com/vit_models/augreg/[^/]*\.npz", cfg.url)
            out[backbone]["flax"] = {"url": cfg.url, "writer": f"timm {timm.__version__}"}
    return out


def main() -> None:
    entries: Entries = json.loads(PATH.read_text()) if PATH.exists() else {}
    new = {"keras": keras_entries, "torch": torch_entries}[sys.argv[1]]()
    for backbone, sources in new.items():
        entries.setdefault(backbone, {}).update(sources)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entries[name], sort_keys=True)}" for name in sorted(entries))
    PATH.write_text("{\n" + lines + "\n}\n")
    print(f"{PATH}: {sum(len(sources) for sources in new.values())} addresses")


if __name__ == "__main__":
    main()
