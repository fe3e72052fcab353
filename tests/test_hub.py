"""Backbones named on a hub, with a hub that is not there: what is said, what is fetched, and what is refused."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from typer.testing import CliRunner

from clbench.backbones import backbone_folder, hub
from clbench.cli import app
from clbench.cost.answer import answer
from clbench.cost.options import Options
from clbench.doctor import examine
from clbench.registry import ClbenchError
from clbench.world import load_world

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIZES = {"model_index.json": 500, "transformer/x.safetensors": 3_000_000_000, "vae/config.json": 500, "whole.safetensors": 9**12}


class Hub:
    """What of `huggingface_hub` is used, over a folder that stands for the hub; `seen` lists what was asked of it."""

    def __init__(self, folder, cached=()):
        self.folder, self.cached, self.seen, self.fails = folder, set(cached), [], None

    def snapshot_download(self, name, revision=None, local_files_only=False, **_):
        self.seen.append(("snapshot", revision, local_files_only))
        if self.fails or local_files_only:
            raise self.fails or errors.LocalEntryNotFoundError("Cannot find an appropriate cached snapshot")
        return str(self.folder)

    def hf_hub_download(self, name, file, revision=None, local_files_only=False):
        self.seen.append((file, revision, local_files_only))
        if self.fails or local_files_only:
            raise self.fails or errors.LocalEntryNotFoundError("not in the cache")
        return str(self.folder / file)

    def model_info(self, name, revision=None, files_metadata=False):
        if self.fails:
            raise self.fails
        assert files_metadata
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in SIZES.items()])


def response(status) -> Any:
    """An answer of the hub, as its client's errors hold one."""
    return SimpleNamespace(headers={}, request=None, status_code=status)


@pytest.fixture
def the_hub(monkeypatch, flux_folder, tmp_path):
    folder = tmp_path / COMMIT
    shutil.copytree(flux_folder, folder)
    made = Hub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    inside = lambda name, file, revision=None: "here" if file in made.cached else None  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", inside)
    hub._fetched.cache_clear()
    yield made
    hub._fetched.cache_clear()


@pytest.fixture
def hub_world(mini_world_file, flux_folder):
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace(f'path = "{flux_folder}"', 'hub = "some/model"\nrevision = "v1"'))
    return mini_world_file


def test_what_is_fetched_is_said_once(the_hub, hub_world, capsys):
    world = load_world(hub_world)
    assert backbone_folder(world) == backbone_folder(world) == the_hub.folder
    said = capsys.readouterr().err.splitlines()
    assert said == [f"Fetching 3 files, 3.0 GB, of some/model at commit {COMMIT} into the hub's cache."]
    assert the_hub.seen == [("snapshot", "v1", False)], "asked for once in a process"
    assert world.hash_parts["backbone"] == f"hub:some/model@{COMMIT}"


def test_nothing_is_said_of_what_is_there(the_hub, hub_world, capsys):
    the_hub.cached = set(SIZES)
    backbone_folder(load_world(hub_world))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            errors.GatedRepoError("401 Client Error.\n\nAccess to model some/model is restricted.", response=response(401)),
            ["Access to model some/model is restricted", "its licence at https://huggingface.co/some/model", "hf auth login"],
        ),
        (errors.RepositoryNotFoundError("404: no such.", response=response(404)), ["404: no such", "'hub' in [backbone]"]),
        (errors.RevisionNotFoundError("404: no v1.", response=response(404)), ["404: no v1", "'revision' in [backbone]"]),
        (OSError("No space left on device"), ["No space left on device", "'path' in [backbone]"]),
    ],
)
def test_the_hubs_own_words_and_what_mends_it(the_hub, hub_world, error, words):
    the_hub.fails = error
    with pytest.raises(ClbenchError) as caught:
        backbone_folder(load_world(hub_world))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_a_snapshot_is_checked_as_a_folder_is(the_hub, hub_world):
    index = the_hub.folder / "model_index.json"
    index.write_text(index.read_text().replace("FluxKontextPipeline", "FluxPipeline"))
    with pytest.raises(ClbenchError, match="names a FluxPipeline"):
        backbone_folder(load_world(hub_world))


def test_cost_fetches_one_small_file(the_hub, hub_world):
    found = answer(Options(world=str(hub_world)))
    assert the_hub.seen == [("transformer/config.json", "v1", False)]
    assert all(one.exact for one in found.predictions)


def test_cost_reads_a_folder_without_weights(mini_world_file, flux_folder, tmp_path):
    (tmp_path / "bare/transformer").mkdir(parents=True)
    whole = answer(Options(world=str(mini_world_file)))
    mini_world_file.write_text(mini_world_file.read_text().replace(str(flux_folder), "bare"))
    with pytest.raises(ClbenchError, match=r"bare holds no transformer/config\.json"):
        answer(Options(world=str(mini_world_file)))
    shutil.copy(flux_folder / "transformer/config.json", tmp_path / "bare/transformer")
    assert [c.disk for c in answer(Options(world=str(mini_world_file))).systems] == [c.disk for c in whole.systems]


def test_the_memory_suite_needs_the_weights(mini_world_file, flux_folder, tmp_path):
    (tmp_path / "bare/transformer").mkdir(parents=True)
    shutil.copy(flux_folder / "transformer/config.json", tmp_path / "bare/transformer")
    mini_world_file.write_text(mini_world_file.read_text().replace(str(flux_folder), "bare"))
    done = CliRunner().invoke(app, ["eval", "--suite", "memory", "--world", str(mini_world_file), "--out", str(tmp_path / "o")])
    assert done.exit_code == 2 and "bare holds no model_index.json" in done.stderr


def test_doctor_fetches_nothing(the_hub, hub_world):
    found = {finding.what: finding for finding in examine(str(hub_world))}
    assert found["backbone"].state == "missing" and "some/model" in found["backbone"].detail
    assert found["network"].state == "note" and all(local for _, _, local in the_hub.seen)


def test_a_snapshot_of_one_file_is_no_backbone(the_hub, hub_world, monkeypatch):
    """As `clbench cost` leaves it in the cache."""
    (the_hub.folder / "model_index.json").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(the_hub.folder))
    found = {finding.what: finding for finding in examine(str(hub_world))}
    assert found["backbone"].state == "missing" and "holds no model_index.json" in found["backbone"].detail
    assert found["network"].state == "note"


def test_the_hubs_bars_are_left_on(monkeypatch):
    """A download of gigabytes must not be silent; who wants it so can say so in the environment."""
    import os

    from clbench.console import quiet

    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    quiet()
    assert "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
