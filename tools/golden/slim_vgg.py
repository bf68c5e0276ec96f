"""TF-Slim's VGG-16 and VGG-19."""

from __future__ import annotations

from slim_nets import Net, slim, tf
from tf_slim.nets import vgg


def network(name: str) -> Net:
    root = name.replace("vgg", "vgg_")

    def build(image, values):
        with slim.arg_scope(vgg.vgg_arg_scope()):
            logits, ends = getattr(vgg, root)(image, num_classes=1000, is_training=False)
        taps = {f"stage{s}": ends[f"{root}/pool{s}"] for s in range(1, 6)}
        return taps | {"pre_logits": ends[f"{root}/fc7"], "logits": logits}

    reference = f"tf-slim 1.1.0 {root}, TensorFlow {tf.__version__}"
    return Net(name, reference, build, sizes=(224,))


NETS = {f"{name}.slim": lambda name=name: network(name) for name in ("vgg16", "vgg19")}
