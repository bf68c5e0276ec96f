#!/bin/sh
# Writes jpegs.json: one small picture in the kinds of JPEG that sharp does not write, by libjpeg-turbo's cjpeg (Debian:
# libjpeg-turbo-progs). Run it as `sh test/data/jpegs.sh` after changing the list.
set -e
cd "$(dirname "$0")"
python3 - <<'END'
import base64, json, random, subprocess

width, height = 37, 21
random.seed(3)
noise = [random.randrange(60) for _ in range(width * height * 3)]
pixels = bytes((5 * (i // 3 % width) + 3 * (i // 3 // width) + 40 * (i % 3) + n) % 256 for i, n in enumerate(noise))
kinds = {
    "4:2:2": ["-sample", "2x1"],
    "4:4:0": ["-sample", "1x2"],
    "4:1:1": ["-sample", "4x1"],
    "4:2:0, progressive": ["-sample", "2x2", "-progressive"],
    "chroma sampled unlike": ["-sample", "2x2,2x1,1x2"],
    "luma sampled less than chroma": ["-sample", "1x1,2x2,1x1"],
    "restarts": ["-restart", "2B"],
    "restarts, progressive": ["-restart", "3B", "-progressive", "-sample", "2x1"],
    "restarts, grey": ["-restart", "1B", "-grayscale"],
    "RGB": ["-rgb"],
    "coarse tables": ["-quality", "1"],
    "arithmetic": ["-arithmetic"],
}
ppm = b"P6 %d %d 255\n" % (width, height) + pixels
files = {name: subprocess.run(["cjpeg", *how], input=ppm, stdout=subprocess.PIPE, check=True).stdout for name, how in kinds.items()}
with open("jpegs.json", "w") as out:
    json.dump({name: base64.b64encode(file).decode() for name, file in files.items()}, out, indent=2)
    out.write("\n")
END
