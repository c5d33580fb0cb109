import itertools
import multiprocessing
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.engine import patching
from lab.engine.patching import PATCH_DIR, PatchError, build_overlay, installed_package, load_series, select

ON_BASELINE = ("02-fp16-vocoder", "03-no-empty-cache", "04-rms-cache")
SUBSETS = [subset for size in range(4) for subset in itertools.combinations(ON_BASELINE, size)]


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_an_overlay_without_patches_equals_the_installed_package_byte_for_byte(tmp_path):
    overlay = build_overlay([], folder=tmp_path)
    assert files(overlay.root / "f5_tts") == files(installed_package())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git checkout as upstream's repository has it."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(installed_package(), root / "src" / "f5_tts", ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "released"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: "+".join(name[:2] for name in subset) or "01-alone")
def test_every_subset_applies_on_the_baseline_and_gives_what_git_apply_gives(subset, checkout, tmp_path):
    names = ("01-ishowtts-baseline", *subset)
    overlay = build_overlay(names, folder=tmp_path)
    for name in names:
        subprocess.run(["git", "apply", str(PATCH_DIR / f"{name}.patch")], cwd=checkout, check=True)
    try:
        assert files(overlay.root / "f5_tts") == files(checkout / "src" / "f5_tts")
        compile((overlay.root / "f5_tts/infer/utils_infer.py").read_text(), "utils_infer.py", "exec")
        for name in reversed(names):
            subprocess.run(["git", "apply", "-R", str(PATCH_DIR / f"{name}.patch")], cwd=checkout, check=True)
        assert subprocess.run(["git", "status", "--porcelain"], cwd=checkout, check=True, capture_output=True, text=True).stdout == ""
    finally:
        subprocess.run(["git", "checkout", "-q", "."], cwd=checkout, check=True)


def test_a_drifted_package_is_refused_with_file_hunk_and_line(tmp_path):
    package = tmp_path / "f5_tts"
    shutil.copytree(installed_package(), package, ignore=shutil.ignore_patterns("__pycache__"))
    target = package / "infer" / "utils_infer.py"
    target.write_text(target.read_text().replace("with torch.inference_mode():", "with torch.no_grad():"))
    with pytest.raises(PatchError) as refusal:
        build_overlay(["01"], package=package, folder=tmp_path / "cache")
    message = str(refusal.value)
    assert "src/f5_tts/infer/utils_infer.py" in message
    assert "hunk 4" in message
    assert "expected '        with torch.inference_mode():', found '        with torch.no_grad():'" in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_one_line_inserted_far_above_a_hunk_is_refused_too(tmp_path):
    package = tmp_path / "f5_tts"
    shutil.copytree(installed_package(), package, ignore=shutil.ignore_patterns("__pycache__"))
    target = package / "infer" / "utils_infer.py"
    target.write_text("# one line more\n" + target.read_text())
    with pytest.raises(PatchError, match="hunk 1"):
        build_overlay(["01"], package=package, folder=tmp_path / "cache")


def test_an_already_patched_package_is_refused_rather_than_taken_for_a_success(tmp_path):
    patched = build_overlay(["01"], folder=tmp_path)
    with pytest.raises(PatchError, match="does not apply"):
        build_overlay(["01"], package=patched.root / "f5_tts", folder=tmp_path / "again")


def test_a_patch_without_the_one_it_needs_is_refused():
    with pytest.raises(PatchError, match="04-rms-cache applies on top of 01-ishowtts-baseline"):
        select(["04"])


def test_an_unknown_patch_is_refused_with_the_series():
    with pytest.raises(PatchError, match=r"no patch '07'.*01-ishowtts-baseline"):
        select(["01", "07"])


def test_patches_apply_in_the_order_of_the_series_whatever_order_they_are_named_in():
    assert [patch.name for patch in select(["04", "01", "02"])] == ["01-ishowtts-baseline", "02-fp16-vocoder", "04-rms-cache"]


def test_an_overlay_is_named_by_its_content(tmp_path):
    one = build_overlay(["01"], folder=tmp_path)
    again = build_overlay(["01-ishowtts-baseline"], folder=tmp_path)
    other = build_overlay(["01", "03"], folder=tmp_path)
    assert one.root == again.root
    assert one.digest != other.digest


def test_a_damaged_overlay_is_made_again(tmp_path):
    overlay = build_overlay(["01"], folder=tmp_path)
    good = files(overlay.root)
    (overlay.root / "f5_tts" / "infer" / "utils_infer.py").write_text("raise SystemExit")
    assert files(build_overlay(["01"], folder=tmp_path).root) == good
    (overlay.root / patching.MANIFEST).write_text("{")
    assert files(build_overlay(["01"], folder=tmp_path).root) == good


def test_two_processes_may_make_the_same_overlay_at_the_same_time(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(_build, [tmp_path] * 4)
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [made[0]]


def _build(folder: Path) -> str:
    return build_overlay(["01", "04"], folder=folder).root.name


def test_every_patch_says_why_what_was_claimed_and_its_numerics_class():
    for patch in load_series():
        assert patch.why
        assert patch.claimed
        assert patch.numerics in ("identical", "rounding", "perceptual")


def test_a_patch_that_leaves_the_package_is_refused(tmp_path):
    for name, text in (("outside", "src/../../etc/passwd"), ("elsewhere", "setup.py")):
        folder = tmp_path / name
        folder.mkdir()
        header = "Subject: s\nWhy: w\nClaimed: c\nNumerics: identical\nNeeds: -\nBase: b\n\n"
        (folder / "series").write_text("01-x\n")
        (folder / "01-x.patch").write_text(f"{header}--- a/{text}\n+++ b/{text}\n@@ -1,1 +1,1 @@\n-a\n+b\n")
        with pytest.raises(PatchError, match=r"below src/f5_tts|not a readable"):
            build_overlay(["01-x"], directory=folder, folder=tmp_path / "cache")


def test_a_header_that_lacks_a_field_is_refused(tmp_path):
    (tmp_path / "series").write_text("01-x\n")
    (tmp_path / "01-x.patch").write_text("Subject: s\nWhy: w\n--- a/src/f5_tts/api.py\n+++ b/src/f5_tts/api.py\n")
    with pytest.raises(PatchError, match="lacks Claimed, Numerics, Needs, Base"):
        load_series(tmp_path)
