#!/usr/bin/env python3
"""Crops images (raw PPM and PGM) into a folder, and keeps track of every file that it makes.

    python image_cropper.py --size 640x480 --at 10,20 --into cropped photos/*.ppm

It shows how a script uses Holdfast's monitor: a ``FileTracker`` records what was done to which file, ``monitored`` and
``get_monitor`` record what went wrong. None of them can stop the cropping: with a full disk, or a state folder that
cannot be written, the images are made all the same, and a warning says that they are not recorded.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from holdfast.monitor import FileTracker, get_monitor, monitored

HEADER = re.compile(rb"(P[56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


@dataclass(frozen=True)
class Image:
    """Rows of raw bytes; ``kind`` is ``P6`` (colours) or ``P5`` (greys)."""

    kind: bytes
    width: int
    height: int
    most: int
    pixels: bytes

    @property
    def bytes_per_pixel(self) -> int:
        """How many bytes a pixel takes."""
        return (3 if self.kind == b"P6" else 1) * (1 if self.most < 256 else 2)


def read(path: Path) -> Image:
    """Read an image. Raises ``ValueError`` for what is none, or is not whole."""
    data = path.read_bytes()
    header = HEADER.match(data)
    if header is None:
        raise ValueError(f"{path} is no raw PPM or PGM image")
    image = Image(header[1], int(header[2]), int(header[3]), int(header[4]), data[header.end() :])
    if len(image.pixels) < image.width * image.height * image.bytes_per_pixel:
        raise ValueError(f"{path} is cut off")
    return image


def crop(image: Image, left: int, top: int, width: int, height: int) -> Image:
    """The part of ``image`` that lies in the rectangle. Raises ``ValueError`` where nothing does."""
    width, height = min(width, image.width - left), min(height, image.height - top)
    if width <= 0 or height <= 0:
        raise ValueError(f"the rectangle lies outside of {image.width}x{image.height}")
    size = image.bytes_per_pixel
    rows = range(top, top + height)
    starts = [(row * image.width + left) * size for row in rows]
    pixels = b"".join(image.pixels[start : start + width * size] for start in starts)
    return Image(image.kind, width, height, image.most, pixels)


def write(image: Image, path: Path) -> None:
    """Write an image; an older one of that name is replaced as a whole."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(b"%s\n%d %d\n%d\n" % (image.kind, image.width, image.height, image.most) + image.pixels)
    part.replace(path)


def pair(text: str) -> tuple[int, int]:
    """``640x480`` or ``10,20`` as two numbers."""
    found = re.fullmatch(r"(\d+)[x,](\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, such as 640x480")
    return int(found[1]), int(found[2])


@monitored("image-cropper")
def main() -> int:
    """Crop all that was named; returns 1 where some could not be."""
    parser = argparse.ArgumentParser(description="Crop PPM and PGM images.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--size", type=pair, required=True, metavar="WIDTHxHEIGHT")
    parser.add_argument("--at", type=pair, default=(0, 0), metavar="LEFT,TOP")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    wanted = parser.parse_args()

    monitor = get_monitor("image-cropper")
    tracker = FileTracker("image-cropper")
    wanted.into.mkdir(parents=True, exist_ok=True)
    made = 0
    with tracker.session(f"crop to {wanted.size[0]}x{wanted.size[1]}") as session:
        for path in wanted.images:
            target = wanted.into / path.name
            try:
                write(crop(read(path), *wanted.at, *wanted.size), target)
            except (OSError, ValueError) as error:
                monitor.error(f"cannot crop {path}: {error}")
                continue
            session.create(target, source=str(path), bytes=target.stat().st_size)
            made += 1
    monitor.expect(made, lambda number: number > 0, "at least one image is cropped")
    print(f"{made} of {len(wanted.images)} cropped into {wanted.into}")
    return 0 if made == len(wanted.images) else 1


if __name__ == "__main__":
    sys.exit(main())
