"""Fixtures of grey and RGBA pictures: test/golden/fixtures/channels.json.

  conversions  small files of every mode, and what Pillow's convert('L'), convert('RGB') and convert('RGBA') make of them
  resizes      one grey and one RGBA picture, resized by Pillow
Bytes are base64; pictures are uint8 [height, width, channels].
"""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL
from PIL import Image

from generator import tensor
from store import FIXTURES, write_json

WIDTH, HEIGHT = 13, 9

SIZES = [(13, 9), (6, 4), (30, 20), (5, 20), (30, 9)]
"""Width and height of the resized pictures. The height never shrinks more than the width: Pillow 13 would then exchange
its passes."""


def noise(name: str, channels: int) -> np.ndarray:
    values = tensor(name, [HEIGHT, WIDTH, channels], 127.5, 127.5)
    return values.astype(np.uint8)


def translucent() -> np.ndarray:
    """RGBA in which alpha takes 0, 255 and everything between, side by side."""
    pixels = noise("rgba", 4)
    pixels[:3, :, 3] = 255
    pixels[6:, :6, 3] = 0
    return pixels


def files() -> dict[str, bytes]:
    def png(image: Image.Image, **options: object) -> bytes:
        out = io.BytesIO()
        image.save(out, "PNG", **options)
        return out.getvalue()

    grey = Image.fromarray(noise("grey", 1)[..., 0], "L")
    colour = Image.fromarray(noise("rgb", 3), "RGB")
    palette = colour.quantize(16)
    bilevel = Image.fromarray(noise("grey", 1)[..., 0] > 127)
    return {
        "grey": png(grey),
        "grey with alpha": png(Image.fromarray(noise("la", 2), "LA")),
        "RGB": png(colour),
        "RGBA": png(Image.fromarray(translucent(), "RGBA")),
        "palette": png(palette),
        "palette with a transparent colour": png(palette, transparency=3),
        "one bit": png(bilevel),
    }


def b64(values: bytes | np.ndarray) -> str:
    data = values if isinstance(values, bytes) else np.ascontiguousarray(values, dtype=np.uint8).tobytes()
    return base64.b64encode(data).decode("ascii")


def main() -> None:
    conversions = []
    for name, content in files().items():
        modes = {mode: b64(np.asarray(Image.open(io.BytesIO(content)).convert(mode))) for mode in ("L", "RGB", "RGBA")}
        conversions.append({"name": name, "file": b64(content), "width": WIDTH, "height": HEIGHT, **modes})
    pictures = {1: Image.fromarray(noise("grey", 1)[..., 0], "L"), 4: Image.fromarray(translucent(), "RGBA")}
    kernels = {"pil_bilinear": Image.Resampling.BILINEAR, "pil_bicubic": Image.Resampling.BICUBIC}
    resizes = []
    for channels, picture in pictures.items():
        for kernel, resampling in kernels.items():
            results = [
                {"width": w, "height": h, "expected": b64(np.asarray(picture.resize((w, h), resampling)))} for w, h in SIZES
            ]
            pixels = b64(np.asarray(picture))
            shape = {"channels": channels, "width": WIDTH, "height": HEIGHT}
            resizes.append({**shape, "kernel": kernel, "pixels": pixels, "results": results})
    reference = f"Pillow {PIL.__version__}"
    write_json(FIXTURES / "channels.json", {"reference": reference, "conversions": conversions, "resizes": resizes})


if __name__ == "__main__":
    main()
