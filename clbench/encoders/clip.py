"""CLIP, by open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from clbench.encoders.common import EncoderCard, explained, frozen, in_passes, is_offline, local_path, require_package
from clbench.hashing import file_digest
from clbench.registry import ClbenchError, suggestion

if TYPE_CHECKING:
    from torch import Tensor


def open_clip_encoder(name: str, root: Path | None = None, device: str = "cpu") -> OpenClip:
    """A CLIP by local folder or config file, or ``MODEL/PRETRAINED`` of open_clip (``ViT-B-32/laion2b_s34b_b79k``).

    A folder is either open_clip's own (``open_clip_config.json``, ``open_clip_model.safetensors`` and tokenizer files, as
    its hub folders are), or holds one model config ``NAME.json`` and its weights ``NAME.safetensors``.
    """
    require_package("open_clip", "open_clip_torch")
    path = local_path(name, root)
    with explained(name, path if path.exists() else None):
        if (path / "open_clip_config.json").is_file():
            return _folder_clip(path, device)
        if path.exists() or name.endswith(".json") or not _is_open_clip_name(name):
            return _local_clip(path, device)
        return _named_clip(name, device)


def _folder_clip(path: Path, device: str) -> OpenClip:
    import open_clip

    weights = path / "open_clip_model.safetensors"
    if not weights.is_file():
        raise ClbenchError(f"{weights} not found; the folder has open_clip_config.json without its weights")
    model = open_clip.create_model(f"local-dir:{path}", device=device, require_pretrained=True)
    card = EncoderCard(path.name, file_digest(weights) + file_digest(path / "open_clip_config.json"))
    return OpenClip(model, open_clip.get_tokenizer(f"local-dir:{path}"), card, device)


def _local_clip(path: Path, device: str) -> OpenClip:
    import open_clip

    configs = [path] if path.suffix == ".json" else sorted(path.glob("*.json")) if path.is_dir() else []
    pairs = [(c, c.with_suffix(".safetensors")) for c in configs if c.is_file() and c.with_suffix(".safetensors").is_file()]
    if len(pairs) != 1:
        raise ClbenchError(
            f"no CLIP at {path}: expected open_clip_config.json, or one model config NAME.json with NAME.safetensors "
            f"beside it (found {len(pairs)}); make one with `clbench train --stage encoders`, or name MODEL/PRETRAINED"
        )
    config, weights = pairs[0]
    open_clip.add_model_config(config)
    return _open_clip(config.stem, weights, config.stem, device)


def _is_open_clip_name(name: str) -> bool:
    import open_clip

    model, _, tag = name.partition("/")
    return bool(tag) and model in open_clip.list_models()


def _named_clip(name: str, device: str) -> OpenClip:
    from open_clip import pretrained

    model, _, tag = name.partition("/")
    known = pretrained.list_pretrained_tags_by_model(model)
    if tag not in known:
        raise ClbenchError(f"open_clip has no weights '{tag}' for {model}.{suggestion(tag, known)}")
    config = pretrained.get_pretrained_cfg(model, tag)
    if is_offline() and not config.get("hf_hub"):
        file = Path.home() / ".cache" / "clip" / Path(str(config.get("url"))).name
        if not file.is_file():
            raise ClbenchError(f"the weights of CLIP {name} are not on this machine (offline); put them at {file}")
    try:
        weights = Path(pretrained.download_pretrained(config))
    except Exception as error:  # hub and network errors share no base class
        reason = " ".join(str(error).split())[:160]
        raise ClbenchError(
            f"the weights of CLIP {name} are not on this machine and cannot be fetched ({reason}); fetch them once with a "
            "network, or name a local folder with NAME.json and NAME.safetensors"
        ) from None
    return _open_clip(model, weights, name, device)


def _open_clip(model_name: str, weights: Path, shown: str, device: str) -> OpenClip:
    import open_clip

    model = open_clip.create_model(model_name, pretrained=str(weights), device=device)
    tokenizer = open_clip.get_tokenizer(model_name)
    return OpenClip(model, tokenizer, EncoderCard(shown, file_digest(weights)), device)


class OpenClip:
    """An open_clip model as a `ClipEncoder`."""

    def __init__(self, model: Any, tokenizer: Any, card: EncoderCard, device: str) -> None:
        self.model, self.tokenizer, self.card, self.device = frozen(model, device), tokenizer, card, device
        self._tokenizing = Lock()
        settings = model.visual.preprocess_cfg
        size = settings["size"]
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[assignment]
        self.mean, self.std = settings["mean"], settings["std"]

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> unit (N, D); resized (bicubic, antialiased) to the model's own size."""
        import torch

        with torch.inference_mode():
            prepared = self._prepared(images)
            return in_passes(lambda part: [self.model.encode_image(part, normalize=True).float().cpu()], prepared)[0]

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """N texts -> unit (N, D)."""
        import torch

        with torch.inference_mode():
            with self._tokenizing:  # tokenizers of `tokenizers` are not made for several threads
                tokens = self.tokenizer(list(texts)).to(self.device)
            return in_passes(lambda part: [self.model.encode_text(part, normalize=True).float().cpu()], tokens)[0]

    def _prepared(self, images: Tensor) -> Tensor:
        import torch.nn.functional as F

        images = images.float().to(self.device)
        if tuple(images.shape[2:]) != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        mean, std = (images.new_tensor(value).view(1, 3, 1, 1) for value in (self.mean, self.std))
        return (images - mean) / std
