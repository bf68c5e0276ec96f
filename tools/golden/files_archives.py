"""Archives around the reader fixtures, by Python's tarfile, zipfile and gzip, and by GNU tar: files/, with archives.json.

Run after the others: what they pack is read from test/golden/fixtures/files/.
"""

from __future__ import annotations

import gzip
import io
import json
import platform
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from store import FIXTURES
from tiny import FOLDER, file_entry, write_index

V2 = ["saver-v2.ckpt.index", "saver-v2.ckpt.data-00000-of-00001"]
LONG = "a folder with a name that is longer than the hundred characters that the first header of a tar archive has room for"


def entries_of(index: str, file: str) -> list[dict]:
    """What a reader must find in a file that another script wrote."""
    (found,) = [each for each in json.loads((FIXTURES / "files" / f"{index}.json").read_text())["files"] if each["file"] == file]
    return found["tensors"]


def tar(path: Path, mode: str, format_: int, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, mode, format=format_) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def gzipped(path: Path) -> None:
    """A gzip without a time in its header, so that a second run writes the same bytes."""
    path.with_name(path.name.removesuffix(".plain")).write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def slim_like(prefix: str, folder: str) -> list[tuple[str, bytes]]:
    """What lies in slim's archives of MobileNets: a checkpoint, its graph, a frozen graph, a graph for phones, texts."""
    return [
        (f"{folder}{prefix}.ckpt.data-00000-of-00001", read(V2[1])),
        (f"{folder}{prefix}.ckpt.index", read(V2[0])),
        (f"{folder}{prefix}.ckpt.meta", b"\n\x04\x12\x02\n\x00"),
        (f"{folder}{prefix}_frozen.pb", read("frozen.pb")),
        (f"{folder}{prefix}_eval.pbtxt", b"node {}\n"),
        (f"{folder}{prefix}_info.txt", b"Input: input\n"),
        (f"{folder}{prefix}.tflite", b"\x1c\x00\x00\x00TFL3"),
    ]


def sparse(path: Path, *options: str) -> None:
    """A file with a hole, packed by GNU tar as one."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "arrays.npz"
        with whole.open("wb") as file:
            file.truncate(2**20)
            file.write(b"end")
        subprocess.run(
            ["tar", "--sparse", "--create", "--owner=0", "--group=0", "--mtime=@0", *options, f"--file={path}", "-C", folder, whole.name],
            check=True,
        )


def main() -> None:
    files = []
    v2 = entries_of("tensorflow", V2[0])

    def entry(name: str, about: str, tensors: list[dict]) -> None:
        files.append(file_entry(name, about, tensors))

    path = FOLDER / "slim-gnu.tar.gz.plain"
    tar(path, "w", tarfile.GNU_FORMAT, [("./", b""), *slim_like("mobilenet_v1_1.0_224", "./")])
    gzipped(path)
    entry("slim-gnu.tar.gz", "as slim packs its MobileNets; GNU's format", v2)

    path = FOLDER / "long-gnu.tar.plain"
    tar(path, "w", tarfile.GNU_FORMAT, slim_like("tiny", f"{LONG}/"))
    gzipped(path)
    entry("long-gnu.tar", "names above 100 characters in GNU's format, called as if it were not packed", v2)

    path = FOLDER / "long-pax.tgz.plain"
    tar(path, "w", tarfile.PAX_FORMAT, [(f"größe/{LONG}/", b""), *slim_like("κ", f"größe/{LONG}/")])
    gzipped(path)
    entry("long-pax.tgz", "names above 100 characters and outside ASCII in pax' format", v2)

    tar(FOLDER / "long-ustar.tar", "w", tarfile.USTAR_FORMAT, slim_like("tiny", f"{LONG}/"))
    gz = gzip.compress(read("long-ustar.tar"), mtime=0)
    (FOLDER / "long-ustar.tar").unlink()
    (FOLDER / "long-ustar.tar.gz").write_bytes(gz)
    entry("long-ustar.tar.gz", "names above 100 characters in ustar's format", v2)

    v1 = [("vgg_16.ckpt", read("saver-v1.ckpt"))]
    tar(FOLDER / "vgg.tar", "w", tarfile.USTAR_FORMAT, [*v1, ("._vgg_16.ckpt", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")])
    entry("vgg.tar", "as slim packs its VGG, with what macOS leaves; not compressed", entries_of("tensorflow", "saver-v1.ckpt"))

    # two members of gzip, one after the other: the content is that of both
    content = read("tiny.safetensors")
    (FOLDER / "tiny.safetensors.gz").write_bytes(gzip.compress(content[:1000], mtime=0) + gzip.compress(content[1000:], mtime=0))
    entry("tiny.safetensors.gz", "one file, in two members of gzip", entries_of("torch", "tiny.safetensors"))

    def zipped(name: str, compression: int, members: list[tuple[str, bytes]]) -> None:
        with zipfile.ZipFile(FOLDER / name, "w", compression) as archive:
            for inner, data in members:
                archive.writestr(zipfile.ZipInfo(inner), data, compression)

    zipped("keras2.zip", zipfile.ZIP_DEFLATED, [("weights/", b""), ("weights/tiny.h5", read("keras2-whole.h5")), ("__MACOSX/weights/._tiny.h5", b"x"), ("README.md", b"# read")])
    entry("keras2.zip", "a Keras file in a folder, deflated", entries_of("keras2", "keras2-whole.h5"))
    zipped("npz-in.zip", zipfile.ZIP_STORED, [("arrays.npz", read("arrays-deflated.npz"))])
    entry("npz-in.zip", "an npz in a zip, stored", entries_of("numpy", "arrays-deflated.npz"))
    write_index("archives", f"Python {platform.python_version()}", files)

    sparse(FOLDER / "sparse-gnu.tar", "--format=gnu")
    sparse(FOLDER / "sparse-pax.tar", "--format=posix", "--pax-option=delete=atime,delete=ctime,exthdr.name=x")


if __name__ == "__main__":
    main()
