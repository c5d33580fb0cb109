"""Patched f5-tts as an overlay on disk: `patches/` and the installed package in, a folder to put first on `sys.path` out.

An overlay is a whole copy of the installed `f5_tts` package with the patches applied. It is named by a digest over the installed files and the
patches' bytes, so it is made once and never changed. Application is strict: each hunk has to match at exactly the line it names, or the overlay is
refused with the file and the hunk. patch-ng parses the diffs; its own `apply` is not used because it takes an already patched file for a success and
changes the working directory of the whole process.

This module knows nothing about models or devices, and never imports `f5_tts` (which takes seconds): the package is found by its spec.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import patch_ng
import platformdirs

from lab.errors import LabError

PATCH_DIR = Path(__file__).resolve().parents[2] / "patches"
F5_TTS_VERSION = "1.1.22"
#: The diffs are made on upstream's repository, where the package lies below this folder, so that `git apply` takes them as they are.
PREFIX = "src/"
MANIFEST = "lab-overlay.json"
_HEADER_FIELDS = ("Subject", "Why", "Claimed", "Numerics", "Needs", "Base")
_NUMERICS = ("identical", "rounding", "perceptual")


class PatchError(LabError):
    """A patch is missing, malformed, out of order, or does not apply exactly."""


@dataclass(frozen=True)
class Patch:
    """One unified diff of `patches/`, with the header that a reviewer reads first."""

    name: str
    path: Path
    subject: str
    why: str
    claimed: str
    numerics: str
    needs: tuple[str, ...]

    def is_called(self, name: str) -> bool:
        """Whether `name` means this patch: its full name, or its number."""
        return name in (self.name, self.name.split("-")[0])

    @property
    def sha256(self) -> str:
        """SHA-256 of the patch file, hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Overlay:
    """A folder that holds a patched `f5_tts`, and the digest that names it."""

    root: Path
    digest: str
    patches: tuple[str, ...]


def _read_header(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    current = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("diff --git", "--- ")):
            break
        name, colon, rest = line.partition(":")
        if colon and name in _HEADER_FIELDS:
            current = name
            fields[name] = rest.strip()
        elif current and line.startswith(" "):
            fields[current] += " " + line.strip()
    missing = [name for name in _HEADER_FIELDS if not fields.get(name)]
    if missing:
        raise PatchError(f"{path.name}: the header lacks {', '.join(missing)}. Every patch starts with {', '.join(_HEADER_FIELDS)}.")
    if fields["Numerics"] not in _NUMERICS:
        raise PatchError(f"{path.name}: numerics class {fields['Numerics']!r} is unknown. Write one of {', '.join(_NUMERICS)}.")
    return fields


def load_series(directory: Path = PATCH_DIR) -> tuple[Patch, ...]:
    """Read `series` and the header of each patch named there, in order.

    Raises:
        PatchError: `series` or a patch is missing, or a header is incomplete.
    """
    series = directory / "series"
    if not series.is_file():
        raise PatchError(f"There is no {series}. It lists the patches in the order in which they apply, one name a line.")
    patches = []
    for line in series.read_text(encoding="utf-8").splitlines():
        name = line.split("#")[0].strip()
        if not name:
            continue
        path = directory / f"{name}.patch"
        if not path.is_file():
            raise PatchError(f"{series} names {name}, but there is no {path.name} beside it.")
        fields = _read_header(path)
        needs = tuple(need for need in fields["Needs"].replace(",", " ").split() if need != "-")
        patches.append(Patch(name, path, fields["Subject"], fields["Why"], fields["Claimed"], fields["Numerics"], needs))
    return tuple(patches)


def select(names: Iterable[str], directory: Path = PATCH_DIR) -> tuple[Patch, ...]:
    """The patches called `names` (full names or their numbers), in the order of the series, with what they need checked.

    Raises:
        PatchError: a name is unknown, or a patch is asked for without one that it needs.
    """
    series = load_series(directory)
    wanted = set()
    for name in names:
        found = [patch.name for patch in series if patch.is_called(name)]
        if not found:
            raise PatchError(f"There is no patch {name!r}. The series has {', '.join(patch.name for patch in series)}.")
        wanted.add(found[0])
    chosen = tuple(patch for patch in series if patch.name in wanted)
    for patch in chosen:
        lacking = [need for need in patch.needs if need not in wanted]
        if lacking:
            raise PatchError(f"Patch {patch.name} applies on top of {', '.join(lacking)}: ask for both.")
    return chosen


@cache
def installed_package() -> Path:
    """The folder of the installed `f5_tts`, found without importing it.

    Raises:
        PatchError: it is not installed, or not in the version that the patches are made for.
    """
    spec = importlib.util.find_spec("f5_tts")
    locations = list(spec.submodule_search_locations or []) if spec else []
    if not locations:
        raise PatchError("f5-tts is not installed: run `pip install -r requirements.txt`.")
    version = importlib.metadata.version("f5-tts")
    if version != F5_TTS_VERSION:
        raise PatchError(
            f"f5-tts {version} is installed and the patches are made for {F5_TTS_VERSION}: run `pip install -r requirements.txt`."
        )
    return Path(locations[0])


def _package_files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _file_hashes(root: Path, files: Sequence[Path]) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _digest(package_hashes: dict[str, str], patches: Sequence[Patch]) -> str:
    recipe = {"package": package_hashes, "patches": [[patch.name, patch.sha256] for patch in patches]}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _apply_hunks(lines: list[bytes], file: Any, patch: Patch, shown: str) -> list[bytes]:
    """Apply the hunks of one file of a parsed patch to `lines`, each exactly where it says."""
    result: list[bytes] = []
    position = 0
    for number, hunk in enumerate(file.hunks, start=1):
        old = [text[1:].rstrip(b"\r\n") for text in hunk.text if text[:1] in (b" ", b"-")]
        new = [text[1:].rstrip(b"\r\n") for text in hunk.text if text[:1] in (b" ", b"+")]
        start = hunk.startsrc - 1 if old else hunk.startsrc
        for offset, expected in enumerate(old):
            at = start + offset
            actual = lines[at] if at < len(lines) else None
            if actual != expected:
                found = "the end of the file" if actual is None else repr(actual.decode("utf-8", "replace"))
                raise PatchError(
                    f"Patch {patch.name} does not apply: {shown}, hunk {number}, line {at + 1}: expected"
                    f" {expected.decode('utf-8', 'replace')!r}, found {found}. The patches are made for f5-tts {F5_TTS_VERSION} as released;"
                    " reinstall it, or make the patch again."
                )
        if start < position:
            raise PatchError(f"Patch {patch.name}: {shown}, hunk {number} starts before the end of the one above it.")
        result += lines[position:start] + new
        position = start + len(old)
    return result + lines[position:]


def apply_patch(patch: Patch, root: Path) -> tuple[str, ...]:
    """Apply `patch` strictly to the tree below `root` (which holds `f5_tts/`); returns the files changed, relative to `root`.

    Raises:
        PatchError: naming the file and the hunk that does not match. Files of earlier hunks may have been written: work on a copy.
    """
    parsed = patch_ng.fromfile(str(patch.path))
    if not parsed:
        raise PatchError(f"{patch.path.name} is not a readable unified diff.")
    changed = []
    for file in parsed.items:
        source = file.source.decode().removeprefix("a/")
        if not source.startswith(PREFIX) or ".." in Path(source).parts:
            raise PatchError(f"Patch {patch.name} changes {source}, which is not below {PREFIX}f5_tts/.")
        target = root / source.removeprefix(PREFIX)
        if not target.is_file():
            raise PatchError(f"Patch {patch.name} changes {source}, and the installed f5-tts has no such file.")
        lines = target.read_bytes().split(b"\n")
        target.write_bytes(b"\n".join(_apply_hunks(lines, file, patch, source)))
        changed.append(source.removeprefix(PREFIX))
    return tuple(changed)


def cache_dir() -> Path:
    """Where what can be made again is kept: `LAB_CACHE_DIR`, or the user's cache folder."""
    return Path(os.environ.get("LAB_CACHE_DIR") or platformdirs.user_cache_dir("ishowtts-lab"))


def _intact(root: Path) -> bool:
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(manifest["files"] == _file_hashes(root, _package_files(root / "f5_tts")))


def build_overlay(names: Iterable[str], directory: Path = PATCH_DIR, package: Path | None = None, folder: Path | None = None) -> Overlay:
    """Make (or find) the overlay of the patches `names`.

    Args:
        names: patches of `directory/series`, full names or numbers; none gives a byte-for-byte copy of the package.
        directory: the folder with `series` and the diffs.
        package: the `f5_tts` folder to start from; default the installed one.
        folder: where to put it; default `cache_dir()/overlays`.

    Raises:
        PatchError: a patch is unknown or does not apply exactly. Nothing is left behind then.
    """
    patches = select(names, directory)
    package = package or installed_package()
    digest = _digest(_file_hashes(package, _package_files(package)), patches)
    base = folder or cache_dir() / "overlays"
    root = base / digest[:24]
    chosen = tuple(patch.name for patch in patches)
    if _intact(root):
        return Overlay(root, digest, chosen)
    base.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=base))
    try:
        shutil.copytree(package, work / "f5_tts", ignore=shutil.ignore_patterns("__pycache__"))
        for patch in patches:
            apply_patch(patch, work)
        manifest = {"digest": digest, "patches": chosen, "files": _file_hashes(work, _package_files(work / "f5_tts"))}
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _publish(work, root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Overlay(root, digest, chosen)


def _publish(work: Path, root: Path) -> None:
    """Rename `work` to `root`; another process may have done the same a moment ago, and a damaged overlay is set aside."""
    if root.exists() and not _intact(root):
        aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=root.parent))
        root.rename(aside / root.name)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        work.rename(root)
    except OSError:
        if not _intact(root):
            raise
