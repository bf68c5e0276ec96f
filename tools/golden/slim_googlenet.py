"""TF-Slim's Inception v1, pooled over the whole picture so that any size fits (at 224 its 7x7 pool does just that)."""

from __future__ import annotations

from typing import Callable

from slim_nets import Net, slim, tf, v1
from tf_slim.nets import inception_v1

# slim counts the pool before a stage as its first member, and calls the modules of the paper 3b, 3c, 4b, ...
TAPS = {"stem.conv1": "Conv2d_1a_7x7", "stem.pool1": "MaxPool_2a_3x3", "stem.conv3": "Conv2d_2c_3x3"}
TAPS |= {"stem": "MaxPool_3a_3x3", "inception3a": "Mixed_3b", "inception3b": "Mixed_3c", "pool3": "MaxPool_4a_3x3"}
TAPS |= {f"inception4{paper}": f"Mixed_4{theirs}" for paper, theirs in zip("abcde", "bcdef")}
TAPS |= {"pool4": "MaxPool_5a_2x2", "inception5a": "Mixed_5b", "inception5b": "Mixed_5c"}


def googlenet() -> Net:
    def build(image, values):
        scope = inception_v1.inception_v1_arg_scope()
        with slim.arg_scope(scope), slim.arg_scope([slim.batch_norm], is_training=False):
            net, ends = inception_v1.inception_v1_base(image)
            pooled = tf.reduce_mean(net, axis=[1, 2], keepdims=True)
            with v1.variable_scope("InceptionV1/Logits"):
                plain = {"activation_fn": None, "normalizer_fn": None}
                logits = slim.conv2d(pooled, 1001, [1, 1], scope="Conv2d_0c_1x1", **plain)
        return {tap: ends[name] for tap, name in TAPS.items()} | {"pre_logits": pooled, "logits": logits}

    return Net("googlenet", f"tf-slim 1.1.0 inception_v1, TensorFlow {tf.__version__}", build, committed=True)


NETS: dict[str, Callable[[], Net]] = {"googlenet.slim": googlenet}
