"""Paths in committed reports: from the current folder or the run's, else the last two parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.provenance import portable_command, portable_path, portable_sentence


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The user's current folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("runs/all", "runs/all"), ("{here}/runs/all", "runs/all"), ("{here}", "{parent}/project"),
        ("/srv/results/all/teacher", "all/teacher"), ("/srv/results/teacher", "teacher"), ("/srv/results", "srv/results"),
        ("/srv/other/deep/world.toml", "deep/world.toml"), ("/world.toml", "world.toml"), ("tiny", "tiny"),
    ],
)  # fmt: skip
def test_a_path(here, path, told):
    found = portable_path(path.format(here=here), Path("/srv/results"))
    assert found == told.format(parent=here.parent.name)


def test_a_command(here):
    typed = f"clbench eval --suite all --world={here}/mine/w.toml --out '{here}/my runs/all' --limit 3 --images /mnt/disk/a/b"
    told = portable_command(typed, Path("runs"))
    assert told == "clbench eval --suite all --world=mine/w.toml --out 'my runs/all' --limit 3 --images a/b"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no picture sepia/p0.png in {here}/made", "no picture sepia/p0.png in made"),
        ("cannot read the picture {here}/my pictures/p0.png: broken", "cannot read the picture my pictures/p0.png: broken"),
        ("'/home/someone/a/b.png' is 3x4; both and/or 1 / 2", "'a/b.png' is 3x4; both and/or 1 / 2"),
        ("nothing is known", "nothing is known"),
    ],
)  # fmt: skip
def test_a_sentence(here, said, told):
    assert portable_sentence(said.format(here=here), Path("runs")) == told
