"""TF-Slim's ResNet v1: tf_slim.nets.resnet_v1 of tf-slim 1.1."""

from __future__ import annotations

from typing import Callable

from slim_nets import Net, slim, tf
from tf_slim.nets import resnet_v1

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""He 2015, table 1."""


def resnet(layers: int, **more) -> Net:
    root = f"resnet_v1_{layers}"

    def build(image, values):
        with slim.arg_scope(resnet_v1.resnet_arg_scope()):
            logits, ends = getattr(resnet_v1, root)(image, num_classes=1000, is_training=False)
        graph = image.graph
        taps = {"stem": ends[f"{root}/conv1"], "stem.pool": graph.get_tensor_by_name(f"{root}/pool1/MaxPool:0")}
        for stage, depth in enumerate(DEPTHS[layers], start=1):
            for b in range(1, depth + 1):
                taps[f"stage{stage}.block{b}"] = ends[f"{root}/block{stage}/unit_{b}/bottleneck_v1"]
        return taps | {"pre_logits": graph.get_tensor_by_name(f"{root}/pool5:0"), "logits": logits}

    return Net(f"resnet{layers}", f"tf-slim 1.1.0 {root}, TensorFlow {tf.__version__}", build, **more)


NETS: dict[str, Callable[[], Net]] = {
    "resnet50.slim": lambda: resnet(50, committed=True),
    "resnet101.slim": lambda: resnet(101),
    "resnet152.slim": lambda: resnet(152),
}
