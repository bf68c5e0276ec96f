"""torchvision's GoogLeNet, with its auxiliary classifiers in inference mode too."""

from __future__ import annotations

from typing import Callable

import torchvision

from torch_nets import Net

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


class GoogLeNet(torchvision.models.GoogLeNet):
    """Its output is the logits alone; whoever wants those of the auxiliary classifiers hooks into these."""

    def __init__(self) -> None:
        super().__init__(aux_logits=True, init_weights=False)
        for block, classifier in ((self.inception4a, self.aux1), (self.inception4d, self.aux2)):

            def run(module, inputs, output, classifier=classifier):
                if not self.training:  # in training torchvision does it
                    classifier(output)

            block.register_forward_hook(run)

    def eager_outputs(self, x, aux2, aux1):
        return x


def googlenet() -> Net:
    def taps(model):
        of = {"stem.conv1": model.conv1, "stem.pool1": model.maxpool1, "stem.conv3": model.conv3, "stem": model.maxpool2}
        of |= {f"inception{name}": getattr(model, f"inception{name}") for name in MODULES}
        of |= {"pool3": model.maxpool3, "pool4": model.maxpool4}
        return of | {"aux1.logits": model.aux1, "aux2.logits": model.aux2}

    reference = f"torchvision {torchvision.__version__} googlenet"
    return Net(
        *("googlenet", "torch", "torch", reference, GoogLeNet, taps, "fc"),
        committed=True,
        trained=True,
        train_input=(8, 48, 48, 3),  # grids of 3x3, which the auxiliary classifiers pool to 4x4
        auxiliary={"aux1.fc2": 0.3, "aux2.fc2": 0.3},
    )


NETS: dict[str, Callable[[], Net]] = {"googlenet.torch": googlenet}
