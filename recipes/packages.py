"""The public packages that the bases are trained on, and how they are fetched by their ordinary
clients.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

# Debian packages, each name prefixed `fonts-`. The first 60 hold 300 families with all of
# 0-9A-Za-z.
FONT_PACKAGES = """
pc-extra roboto-hinted tiresias pc jsmath roadgeek adf-gillius bpg-georgian myanmar adf-universalis
adf-switzera uralic adf-verana bwht arkpandora routed-gothic adf-mekanus adf-accanthis adf-ikarius
linex adf-solothurn ocr-b league-mono cabin beteckna adf-irianis adf-romande dustin sora
ferrite-core
ocr-a adf-tribun arapey klaudia-berenika league-spartan eurofurence opendyslexic adf-baskervald go
lobstertwo adf-libris national-park adf-oldania dosis quicksand johnsmith-induni yanone-kaffeesatz
spleen crosextra-caladea manrope jetbrains-mono b612 oxygen karla clear-sans povray hermit
senamirmir-washra cegui fanwood
campania comic-neue dkg-handwriting breip dancingscript ecolier-court femkeklaver georgewilliams
isabella humor-sans joscelyn jura kaushanscript kristi lobster comfortaa rufscript sjfonts summersby
tomsontalks staypuft essays1743 aenigma averia-gwf averia-sans-gwf averia-serif-gwf tuffy train
thai-tlwg-ttf bajaderka cabinsketch apropal bebas-neue f500 junction levien-museum levien-typoscript
allerta anonymous-pro agave blankenburg cantarell compagnon courier-prime cherrybomb atarismall
gotico-antiqua fantasque-sans fantasma hack-ttf inconsolata karmilla leckerli-one lindenhill
lemonada
mononoki monofur monapo okolaks oldstandard opendin osifont paratype play prociono quattrocento
radisnoir solide-mirage sil-andikanewbasic tagbanwa ubuntu-title urw-base35 vollkorn yrsa-rasa
crosextra-carlito dejavu-core liberation2 freefont-ttf gemunu-libre goudybookletter ebgaramond lato
open-sans croscore elstob century-catalogue texgyre kalapi sil-gentium-basic teluguvijayam
mph-2b-damase engadget evertype-conakry gamaliel gnutypewriter
""".split()

# npm packages of icons. `maki`, `healthicons`, `icon-park` and Twitter's emoji are reserved as
# private data of later experiments and must never appear here (tests/recipes checks it).
ICON_PACKAGES = {
    "ph": "1.2.2",
    "material-symbols": "1.2.98",
    "tabler": "1.2.41",
    "lucide": "1.2.137",
    "game-icons": "1.2.4",
    "fluent-emoji-high-contrast": "1.2.6",
    "fluent-emoji-flat": "1.2.6",
    "noto": "1.2.9",
}
# More packs with drawings of clothes, for the base `garments`.
GARMENT_PACKAGES = {
    "boxicons": "1.2.0",
    "emojione": "1.2.3",
    "fa6-solid": "1.2.4",
    "fluent": "1.2.60",
    "fxemoji": "1.2.2",
    "hugeicons": "1.2.35",
    "iconoir": "1.2.11",
    "mdi": "1.2.3",
    "mingcute": "1.2.8",
    "noto-v1": "1.2.5",
    "solar": "1.2.13",
}
# More packs in colour, for the base `things`.
COLOUR_PACKAGES = {
    "emojione": "1.2.3",
    "flat-color-icons": "1.2.3",
    "fluent-emoji": "1.2.7",
    "noto-v1": "1.2.5",
    "streamline-emojis": "1.2.4",
    "streamline-ultimate-color": "1.2.2",
}
# Avatars, drawn from seeds by node; clip art, a Debian package.
AVATAR_PACKAGES = {"@dicebear/core": "9.4.3", "@dicebear/collection": "9.4.3"}
CLIP_ART = "openclipart-png"
RESERVED = (
    "maki",
    "healthicons",
    "icon-park",
    "twemoji",
    "emoji-datasource-twitter",
    "animal-mnist",
    "openclipart-png/recreation",
)
# Folders of the clip art that no base sees: a private set of later experiments, and whatever may
# repeat its pictures.
RESERVED_CLIP_ART = ("recreation", "unsorted", "special/examples")


def fetch_fonts(cache: Path) -> Path:
    """Unpack every Debian font package under `cache/fonts` and return that folder."""
    target = cache / "fonts"
    downloads = cache / "debs"
    target.mkdir(parents=True, exist_ok=True)
    downloads.mkdir(exist_ok=True)
    missing = [f"fonts-{p}" for p in FONT_PACKAGES if not list(downloads.glob(f"fonts-{p}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", *missing], cwd=downloads, check=True)
    for deb in sorted(downloads.glob("*.deb")):
        if not (target / deb.stem).exists():
            subprocess.run(["dpkg", "-x", str(deb), str(target / deb.stem)], check=True)
    return target


def fetch_icons(cache: Path, wanted: dict[str, str] = ICON_PACKAGES) -> Path:
    """Unpack every `wanted` icon package (name -> version) under `cache/icons/NAME` and return
    `cache/icons`.
    """
    downloads = cache / "npm"
    downloads.mkdir(parents=True, exist_ok=True)
    for name, version in wanted.items():
        archive = downloads / f"iconify-json-{name}-{version}.tgz"
        if not archive.exists():
            subprocess.run(
                ["npm", "pack", f"@iconify-json/{name}@{version}"], cwd=downloads, check=True
            )
        target = cache / "icons" / name
        if not target.exists():
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
    return cache / "icons"


def fetch_clip_art(cache: Path) -> Path:
    """Unpack the Debian package of clip art under `cache/clip-art` and return the folder of its
    folders of PNG files.
    """
    target = cache / "clip-art"
    if not target.exists():
        if not list(cache.glob(f"{CLIP_ART}_*.deb")):
            subprocess.run(["apt-get", "download", CLIP_ART], cwd=cache, check=True)
        (archive,) = cache.glob(f"{CLIP_ART}_*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return target / "usr/share/openclipart/png"


def fetch_avatars(cache: Path) -> Path:
    """Install the avatars' node packages in `cache/avatars` and return that folder."""
    target = cache / "avatars"
    if not (target / "node_modules/@dicebear/collection").exists():
        target.mkdir(parents=True, exist_ok=True)
        named = [f"{name}@{version}" for name, version in AVATAR_PACKAGES.items()]
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *named], cwd=target, check=True
        )
    return target


def font_licences(cache: Path) -> dict[str, str]:
    """Package name -> version and the licences that its Debian copyright file names ("see its
    copyright file" if free text).
    """
    found = {}
    for folder in sorted((cache / "fonts").iterdir()):
        name, version = folder.name.split("_")[:2]
        names: list[str] = []
        for text in folder.glob("usr/share/doc/*/copyright"):
            for line in text.read_text("utf-8", "replace").splitlines():
                if line.startswith("License:") and line[8:].strip():
                    names.append(" ".join(line[8:].split())[:60])
        found[name] = f"{version}: " + (", ".join(dict.fromkeys(names)) or "see its copyright file")
    return found
