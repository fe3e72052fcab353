"""A backbone that is named on a hub: its snapshot, single files of it, its commit. What is fetched is said before, and why it
cannot be had is said in the hub's own words."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from clbench.backbones.parts import INDEX
from clbench.registry import ClbenchError

PARTS = [INDEX, "*/*"]
"""What is fetched of a hub model: the pipeline's folders, not the one-file checkpoints that may lie beside them."""


def hub_commit(name: str, revision: str | None) -> str:
    """``hub:<name>@<commit>`` of the snapshot in use; the commit names its content."""
    return f"hub:{name}@{hub_folder(name, revision, local_only=False).name}"


def hub_folder(name: str, revision: str | None, local_only: bool) -> Path:
    """Snapshot folder of a hub model, fetched first unless `local_only`; ClbenchError if it cannot be had."""
    folder = _snapshot(name, revision, local_only=True) if local_only else _fetched(name, revision)
    if not (folder / INDEX).is_file():  # `hub_file` may have fetched a part of it
        raise ClbenchError(f"backbone '{name}' is not whole in the hub's cache: {folder} holds no {INDEX}; {_hint(name, None)}")
    return folder


def hub_file(name: str, file: str, revision: str | None, local_only: bool) -> Path:
    """One file of a hub model, fetched alone unless `local_only`; ClbenchError if it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=local_only))
    except Exception as error:  # see _snapshot
        raise _refusal(name, error, local_only) from None


@cache
def _fetched(name: str, revision: str | None) -> Path:
    """The snapshot, asked for once in a process: what a run begins with it also ends with."""
    found = _absent(name, revision)
    if found is None:
        return _snapshot(name, revision)
    commit, sizes = found
    if not sizes:
        return _snapshot(name, revision, tqdm_class=_hidden_bar())
    _say(f"Fetching {len(sizes)} files, {sum(sizes) / 1e9:.1f} GB, of {name} at commit {commit} into the hub's cache.")
    return _snapshot(name, revision)


def _snapshot(name: str, revision: str | None, local_only: bool = False, **how: Any) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=PARTS, local_files_only=local_only, **how))
    except Exception as error:  # the hub client raises many kinds; all mean that the model cannot be had
        raise _refusal(name, error, local_only) from None


def _absent(name: str, revision: str | None) -> tuple[str, list[int]] | None:
    """Commit on the hub, and bytes of each of its files that is not in the cache; None where the hub does not answer.

    One small request: whatever is wrong, `_snapshot` meets it too and says it.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    try:
        found = HfApi().model_info(name, revision=revision, files_metadata=True)
    except Exception:
        return None
    wanted = filter_repo_objects(found.siblings or [], allow_patterns=PARTS, key=lambda file: file.rfilename)
    commit = str(found.sha)
    absent = [f for f in wanted if not isinstance(try_to_load_from_cache(name, f.rfilename, revision=commit), str)]
    return commit, [file.size or 0 for file in absent]


def _hidden_bar() -> Any:
    """The hub's progress bar, unseen: for what takes no time."""
    from huggingface_hub.utils import tqdm

    class Hidden(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Hidden


def _refusal(name: str, error: Exception, local_only: bool) -> ClbenchError:
    from huggingface_hub.errors import LocalEntryNotFoundError

    if local_only and type(error) is LocalEntryNotFoundError:  # its words are for programmers
        return ClbenchError(f"backbone '{name}' is not in the hub's cache on this machine; {_hint(name, error)}")
    return ClbenchError(f"backbone '{name}' cannot be had from the hub ({_told(error)}); {_hint(name, error)}")


def _told(error: BaseException) -> str:
    """Kind and words of an error in one line, and of what caused it where it does not say that itself."""
    words = " ".join(str(error).split()).rstrip(".")
    cause = error.__cause__
    behind = f"; {_told(cause)}" if cause is not None and str(cause) not in str(error) else ""
    return f"{type(error).__name__}: {words}{behind}" if words else f"{type(error).__name__}{behind}"


def _hint(name: str, error: Exception | None) -> str:
    """What would mend it, as far as the kind of error tells."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"accept its licence at https://huggingface.co/{name} and log in once (`hf auth login`)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "look at 'hub' in [backbone]; a private model needs a login (`hf auth login`)"
    if isinstance(error, errors.RevisionNotFoundError):
        return "look at 'revision' in [backbone]: a commit, tag or branch of the model"
    return "download it once with a network, or name a local folder with 'path' in [backbone]"


def _say(sentence: str) -> None:
    """On stderr at once: the bar that follows says nothing before the first bytes."""
    print(sentence, file=sys.stderr, flush=True)
