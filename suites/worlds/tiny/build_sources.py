"""Builds `sources/`: subjects and backgrounds with licences, from Debian and npm packages.

    python suites/worlds/tiny/build_sources.py --work /tmp/tiny-sources

Needs `apt-get download`, `dpkg` and `npm` (the packages arrive by name; nothing else is fetched). Which background
photos are used, and how they are called, stands in `sources/backgrounds_selection.csv`; which subjects, in
`SUBJECTS` below. Every shipped picture gets a row in `sources/sources.csv`. Splits are drawn within each category
by the hash of the file name, so that they do not move when a picture is added.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import struct
import subprocess
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
EMOJI = "@lobehub/fluent-emoji-3d@1.1.0"
DEBIAN = (
    "gcompris-qt-data",
    "plasma-workspace-data",
    "scratch",
    "lomiri-wallpapers",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
)
GCOMPRIS_PARTS = ("categorization", "explore_world_animals")
OPEN_LICENCE = re.compile(r"^(public-domain|CC0-1\.0|CC-BY-\d\.\d|CC-BY-SA-\d\.\d)$")
SPLITS = (("evaluation", 0.18), ("teacher", 0.12), ("distill", 0.20), ("base", 0.50))
SUBJECT_SIDE, BACKGROUND_SIDE = 112, 224

# Code-point ranges of the emoji that read as one solid thing at 64 px, by category.
SUBJECTS = {
    "animal": "1f400-1f42c 1f439-1f43c 1f54a 1f577 1f980-1f98f 1f990-1f99e 1f9a1-1f9a9 1f9ab-1f9ad 1fab1-1fab3",
    "food": "1f32d-1f330 1f345-1f353 1f354-1f35b 1f35d-1f371 1f375-1f37a 1f37e 1f37f 1f382 1f950-1f956 1f95a 1f95d-1f961 "
    "1f965-1f96a 1f96d-1f96f 1f9c0 1f9c1 1f9c4 1f9c5 1f9c7 1f9cb 1fad0-1fad2 1fad6",
    "plant": "1f331-1f335 1f337-1f33c 1f340-1f342 1f344 1f384 1f940 1fab4 1fab7",
    "vehicle": "1f680-1f684 1f68b-1f68e 1f690-1f69c 1f6a2 1f6a4 1f6b2 1f6f4 1f6f5 1f6f6-1f6fb 26f5",
    "building": "1f3e0 1f3e1 1f3ea 1f3eb 1f3ed 1f3ef 1f3f0 1f3aa 1f3a1 1f54c 1f54d 1f5fc 1f5fd 1f6d5 1f6d6 26ea 26f2 26fa",
    "object": "1f302 1f380 1f381 1f383 1f388 1f392 1f393 1f3a5 1f3a7-1f3a9 1f3b0 1f3b2 1f3b7 1f3b8 1f3ba 1f3bb 1f3c6 "
    "1f3c8 1f3d0 1f451 1f452 1f455-1f45c 1f45e-1f461 1f48e 1f4bb 1f4bc 1f4e6 1f4f7 1f4fa 1f4fb 1f514 1f525-1f528 "
    "1f52d 1f52e 1f6aa 1f6bd 1f6c1 1f6d2 1f6df 1f94a 1f9e2-1f9e7 1f9f0 1f9f2 1f9f3 1f9f6 1f9f8 1f9fa 1f9ef 1fa80-1fa86 "
    "1fa91 1fa95-1fa98 1faa3 1faa9 231a 23f0 26bd 26be 26c4 1f511 1f9ed 1f5ff 1f916 1f3a8",
}
NOT_A_SUBJECT = {"dotted line face", "cooking", "roasted sweet potato"}
RENAMED = {
    "wrapped present": "present", "automobile": "car", "articulated lorry": "lorry", "bactrian camel": "two-humped camel",
    "dromedary camel": "camel", "lion face": "lion", "fox face": "fox", "giraffe face": "giraffe", "unicorn face": "unicorn",
    "zebra face": "zebra", "bear face": "bear", "panda face": "panda", "wolf face": "wolf", "hamster face": "hamster",
    "robot face": "robot", "moyai": "stone head", "aubergine": "eggplant", "ear of maize": "corn cob",
    "house building": "house", "snowman without snow": "snowman", "slice of pizza": "pizza slice", "umbrella": "umbrella",
    "open book": "book", "electric torch": "torch", "artist palette": "paint palette", "shopping trolley": "shopping cart",
}  # fmt: skip


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def fetch(work: Path) -> None:
    """Download and unpack every package once."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "package").exists():
        run("npm", "pack", EMOJI, cwd=work)
        run("tar", "xzf", next(work.glob("*emoji*.tgz")).name, cwd=work)
    for package in DEBIAN:
        if not (work / "x" / package).exists():
            run("apt-get", "download", package, cwd=work)
            run("dpkg", "-x", next(work.glob(f"{package}_*.deb")).name, f"x/{package}", cwd=work)


def codes(ranges: str) -> Iterator[int]:
    for part in ranges.split():
        first, _, last = part.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def split_of(names: list[str]) -> dict[str, str]:
    """Assign the names of one category to splits by hash order, every split getting its share."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    edges, total = [], 0.0
    for split, share in SPLITS:
        total += share
        edges.append((split, round(total * len(order))))
    return {name: next(s for s, edge in edges if i < edge) for i, name in enumerate(order)}


def resource_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a Qt resource bundle (format versions 1 to 3, zlib or stored)."""
    data = path.read_bytes()
    version, tree, payload, names = struct.unpack(">IIII", data[4:20])
    size = 22 if version >= 2 else 14

    def name_at(offset: int) -> str:
        (length,) = struct.unpack(">H", data[names + offset : names + offset + 2])
        return data[names + offset + 6 : names + offset + 6 + 2 * length].decode("utf-16-be")

    def walk(index: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + index * size
        name_offset, flags = struct.unpack(">IH", data[at : at + 6])
        name = prefix + (name_at(name_offset) if index else "")
        if flags & 2:
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, name + "/" if index else "")
            return
        start = payload + struct.unpack(">I", data[at + 10 : at + 14])[0]
        raw = data[start + 4 : start + 4 + struct.unpack(">I", data[start : start + 4])[0]]
        yield name, zlib.decompress(raw[4:]) if flags & 1 else raw

    yield from walk(0, "")


def debian_licences(path: Path) -> dict[str, tuple[str, str, str]]:
    """File stem -> (author, licence, address) of a machine-readable Debian copyright file."""
    found: dict[str, tuple[str, str, str]] = {}
    for stanza in re.split(r"\n\n+", path.read_text()):
        match = re.match(r"Files:(.*?)\nCopyright:(.*?)\nLicense:(.*?)(?:\nComment:(.*))?$", stanza, re.S)
        if match:
            author, comment = (re.sub(r"\s+", " ", (match[i] or "").strip()) for i in (2, 4))
            for name in match[1].split():
                found[name.rsplit(".", 1)[0]] = (author, match[3].strip().split("\n")[0], comment)
    return found


def backgrounds(work: Path) -> Iterator[tuple[dict[str, str], bytes]]:
    """Each selected background: its row for sources.csv and the file's bytes."""
    root = work / "x"
    bundles = root / "gcompris-qt-data/usr/share/gcompris-qt/rcc"
    files = {
        name.split("src/activities/")[1]: raw
        for part in GCOMPRIS_PARTS
        for name, raw in resource_files(bundles / f"{part}.rcc")
        if "src/activities/" in name
    }
    doc = "usr/share/doc"
    gcompris = debian_licences(root / f"gcompris-qt-data/{doc}/gcompris-qt-data/copyright")
    lomiri = debian_licences(root / f"lomiri-wallpapers/{doc}/lomiri-wallpapers/copyright")
    with open(HERE / "sources/backgrounds_selection.csv", newline="") as handle:
        for row in csv.DictReader(handle):
            package, path = row["package"], row["path"]
            stem = path.rsplit(".", 1)[0]
            if package == "gcompris-qt-data":
                raw, (author, licence, address) = files[path], gcompris[f"src/activities/{stem}"]
            elif package == "plasma-workspace-data":
                file = root / f"{package}/usr/share/plasma/avatars/photos/{path}"
                note = Path(f"{file}.license").read_text()
                raw, licence = file.read_bytes(), note.split("SPDX-License-Identifier: ")[1].split()[0]
                author = re.search(r"FileCopyrightText: (.*)", note)[1]  # type: ignore[index]
                address = (re.search(r"https?://\S+", note) or [""])[0]
            elif package == "scratch":
                raw = (root / f"scratch/usr/share/scratch/Media/Backgrounds/{path}").read_bytes()
                author, licence, address = "Massachusetts Institute of Technology, 2011", "CC-BY-SA-3.0", "scratch.mit.edu"
            else:
                raw = next(root.glob(f"lomiri-wallpapers*/usr/share/backgrounds/{path}")).read_bytes()
                key = next(k for k in lomiri if k.endswith(stem))
                author, licence, address = lomiri[key]
                address = address or "gitlab.com/ubports/development/core/lomiri-wallpapers"
            if not OPEN_LICENCE.match(licence):
                raise SystemExit(f"{package}/{path}: licence {licence!r} is not an open one")
            yield row | {"author": author, "licence": licence, "address": address}, raw


def subjects(work: Path) -> Iterator[tuple[dict[str, str], bytes]]:
    """Each subject: its row for sources.csv and the file's bytes."""
    seen: set[str] = set()
    for category, ranges in SUBJECTS.items():
        for code in codes(ranges):
            file = work / f"package/assets/{code:x}.webp"
            if not file.exists():
                file = work / f"package/assets/{code:x}-fe0f.webp"
            name = unicodedata.name(chr(code), "").lower()
            name = RENAMED.get(name, name)
            if not file.exists() or name in NOT_A_SUBJECT or name in seen:
                continue
            seen.add(name)
            yield {
                "package": EMOJI, "path": f"assets/{file.name}", "name": name, "category": category,
                "author": "Microsoft (Fluent Emoji)", "licence": "MIT", "address": "npm " + EMOJI,
            }, file.read_bytes()  # fmt: skip


def cut_out(raw: bytes) -> Image.Image:
    """Trim to the alpha box and reduce so that the longer side is SUBJECT_SIDE."""
    image = Image.open(io.BytesIO(raw)).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    return ImageOps.contain(image.crop(box), (SUBJECT_SIDE, SUBJECT_SIDE), Image.Resampling.LANCZOS)


def photo(raw: bytes) -> Image.Image:
    """Reduce so that the shorter side is BACKGROUND_SIDE (never enlarges above the original)."""
    image = Image.open(io.BytesIO(raw)).convert("RGBA")
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image)
    scale = BACKGROUND_SIDE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return flat.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def build(work: Path) -> None:
    fetch(work)
    rows = []
    for kind, items, shape in (("subjects", subjects, cut_out), ("backgrounds", backgrounds, photo)):
        folder = HERE / "sources" / kind
        folder.mkdir(parents=True, exist_ok=True)
        found = list(items(work))
        categories = {row["category"] for row, _ in found}
        split = {
            name: part
            for category in sorted(categories)
            for name, part in split_of([r["name"] for r, _ in found if r["category"] == category]).items()
        }
        for row, raw in found:
            stem = re.sub(r"[^a-z0-9]+", "_", row["name"])
            file = folder / f"{stem}.webp"
            shape(raw).save(file, quality=82, method=6, alpha_quality=90)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            rows.append({
                "file": f"{kind}/{file.name}", "sha256": digest, "kind": kind[:-1], "name": row["name"],
                "category": row["category"], "split": split[row["name"]], "title": row["path"], "author": row["author"],
                "licence": row["licence"], "address": row["address"], "package": row["package"],
            })  # fmt: skip
    with open(HERE / "sources/sources.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{sum(r['kind'] == 'subject' for r in rows)} subjects, {sum(r['kind'] == 'background' for r in rows)} backgrounds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the downloaded packages")
    build(parser.parse_args().work)
