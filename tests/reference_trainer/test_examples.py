"""What training looks at, in the shipped world of scenes."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest
from PIL import Image

from clbench.images import read_rgb, write_png
from clbench.registry import ClbenchError
from clbench.world import load_world
from reference_trainer import examples as E


@pytest.fixture(scope="module")
def world():
    return load_world("tiny")


def test_pairs_are_scenes_of_the_teacher_split_under_the_operator(world):
    effect = world.effect("sepia")
    pairs = E.teacher_pairs(world, effect, 3, None)
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.source.shape == pair.target.shape == (world.resolution, world.resolution, 3)
        assert np.abs(pair.source.astype(int) - pair.target).mean() > 2
    again = E.teacher_pairs(world, effect, 3, None)
    assert E.pixels([p.target for p in pairs]) == E.pixels([p.target for p in again])
    assert len(set(E.pixels([p.source for p in pairs]))) == 3


def test_streams_have_their_own_sources(world):
    a, b = (E.pixels(E.distillation_sources(world, name, 3, None)) for name in ("sepia", "invert"))
    assert len(set(a) | set(b)) == 6


def test_general_examples_are_edits_of_scenes(world):
    examples = E.general_examples(world, 12, None)
    assert len({text for _, text in examples}) > 4
    assert all(picture.shape == (world.resolution, world.resolution, 3) for picture, _ in examples)


@pytest.fixture
def own(mini_world_file):
    """A user's world whose sources are reduced in two steps, with a reference pair of its source p1."""
    text = mini_world_file.read_text(encoding="utf-8").replace('kind = "folder"', 'kind = "folder"\nsize = 40')
    mini_world_file.write_text(text + '\n[references]\nfolder = "references"\n', encoding="utf-8")
    home = mini_world_file.parent
    picture = read_rgb(home / "pictures/p1.png")
    write_png(home / "references/sepia/source/p1.png", picture)
    write_png(home / "references/sepia/target/p1.png", 255 - picture)
    return load_world(mini_world_file)


def test_pictures_of_the_evaluation_are_not_trained_on(own, tmp_path):
    """A copy in another format under another name is known too; the file and what it shows are named."""
    write_png(tmp_path / "mine/a.png", np.zeros((48, 48, 3), np.uint8))
    assert len(E.distillation_sources(own, "sepia", 2, str(tmp_path / "mine"))) == 2
    Image.open(own.root / "pictures/p2.png").save(tmp_path / "mine/b.bmp")
    told = r"mine/b.bmp shows the source 'p2' of world \w+: systems are measured on it"
    with pytest.raises(ClbenchError, match=told):
        E.distillation_sources(own, "sepia", 2, str(tmp_path / "mine"))
    with pytest.raises(ClbenchError, match=told):
        E.general_examples(own, 2, str(tmp_path / "mine"))


def test_folders_of_a_recipe_may_lie_below_the_home_or_the_current_folder(own, tmp_path, monkeypatch):
    """An error names the whole path, so that it says where was looked."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    sepia, picture = own.effect("sepia"), np.zeros((48, 48, 3), np.uint8)
    for name in ("mine/a.png", "pairs/sepia/source/x.png", "pairs/sepia/target/x.png"):
        write_png(tmp_path / "home" / name, picture)
    monkeypatch.chdir(tmp_path / "home")
    for here in ("~/", ""):
        E.check_sources(own, f"{here}mine", "collection")
        assert len(E.distillation_sources(own, "sepia", 2, f"{here}mine")) == 2
        assert len(E.teacher_pairs(own, sepia, 1, f"{here}pairs")) == 1
        with pytest.raises(ClbenchError, match=f"not found: {re.escape(str(tmp_path / 'home' / 'gone'))}$"):
            E.check_sources(own, f"{here}gone", "collection")
        with pytest.raises(ClbenchError, match=f"not found: {re.escape(str(tmp_path / 'home' / 'gone'))}.sepia.source"):
            E.check_pairs(own, sepia, f"{here}gone")


def test_a_folder_is_checked_one_picture_at_a_time(own, tmp_path, monkeypatch):
    """None is kept, every one is read once, and a picture that is bad is found wherever it stands."""
    home, alive, most, read = tmp_path / "mine", [], [], []
    for index in range(5):
        write_png(home / f"{index}.png", np.full((48, 48, 3), index, np.uint8))
    real = E._square

    def watched(path, world):
        picture = real(path, world)
        alive.append(weakref.ref(picture))
        read.append(path.name)
        most.append(sum(one() is not None for one in alive))
        return picture

    with monkeypatch.context() as patched:
        patched.setattr(E, "_square", watched)
        E.check_sources(own, str(home), "collection")
    assert sorted(read) == [f"{index}.png" for index in range(5)] and max(most) <= 2
    for index in range(5):
        whole = (home / f"{index}.png").read_bytes()
        (home / f"{index}.png").write_bytes(whole[:60])
        with pytest.raises(ClbenchError, match=f"cannot read the picture .*{index}.png"):
            E.check_sources(own, str(home), "collection")
        (home / f"{index}.png").write_bytes(whole)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClbenchError, match="empty holds no picture to distil on"):
        E.check_sources(own, str(tmp_path / "empty"), "collection")


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("pictures/p3.png", None, "source/x.png shows the source 'p3'"),
        (None, "references/sepia/target/p1.png", "target/x.png shows the reference target of 'sepia' for the source 'p1'"),
    ],
)
def test_neither_side_of_a_pair_may_be_of_the_evaluation(own, tmp_path, source, target, told):
    for side, shown in (("source", source), ("target", target)):
        picture = np.zeros((48, 60, 3), np.uint8) if shown is None else read_rgb(own.root / shown)
        write_png(tmp_path / "pairs/sepia" / side / "x.png", picture)
    with pytest.raises(ClbenchError, match=told):
        E.teacher_pairs(own, own.effect("sepia"), 1, str(tmp_path / "pairs"))
