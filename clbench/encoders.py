"""The one room that loads metric weights: CLIP by open_clip, perceptual networks by stlpips_pytorch and lpips.

Everything is checked before any work: a missing weight is one ClbenchError that names the file or the package
that would mend it. With ``HF_HUB_OFFLINE=1`` no network is tried. Networks come back in eval mode and without gradients.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

from clbench.hashing import file_digest
from clbench.metrics import METRICS
from clbench.registry import ClbenchError, suggestion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clbench.metrics.similarity import PerceptualNetwork
    from clbench.world import World

Trunk = Literal["alex", "vgg", "squeeze"]
PERCEPTUAL_NAMES = ("st-lpips", "st-lpips-vgg", "lpips-alex", "lpips-vgg", "lpips-squeeze")
AT_ONCE, PIXELS_AT_ONCE = 8, 2**18
"""Pictures (or texts) of a forward pass, and the pixels that they may have together. Every pass over pictures of one size has
the same number of rows (`in_passes`), so that the same kernels run and a row's last digits do not depend on its batch."""


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Which network scored: its name and the sha256 of its weight file(s)."""

    name: str
    sha256: str


class ClipEncoder(Protocol):
    """Pictures and texts in one space; rows are unit vectors."""

    card: EncoderCard

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, D)."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """N texts -> (N, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Encoders:
    """The networks a suite needs; None where the world names none."""

    perceptual: PerceptualNetwork | None
    clip: ClipEncoder | None

    def cards(self) -> dict[str, EncoderCard]:
        """Role -> card of every network that is there."""
        found = {"perceptual": self.perceptual, "clip": self.clip}
        return {role: network.card for role, network in found.items() if network is not None}  # type: ignore[attr-defined]


def open_encoders(world: World, metrics: Iterable[str] | None = None, device: str = "cpu") -> Encoders:
    """Load the networks that `metrics` (None: all) need in `world`.

    A world may name no network (an empty string): its metrics are then unscored. One that is named but cannot be
    loaded raises ClbenchError.
    """
    needs = set().union(*(METRICS.get(name).needs for name in (METRICS if metrics is None else metrics)))
    names = world.encoders
    perceptual = open_perceptual(names.perceptual, world.root, device) if "perceptual" in needs and names.perceptual else None
    clip = open_clip_encoder(names.clip, world.root, device) if "clip" in needs and names.clip else None
    return Encoders(perceptual, clip)


def check_encoders(world: World) -> str:
    """Load everything the world names and say what it is; ClbenchError if something is missing."""
    cards = open_encoders(world).cards()
    return ", ".join(f"{role}: {card.name} ({card.sha256[:12]})" for role, card in cards.items()) or "none named"


def open_perceptual(name: str, root: Path | None = None, device: str = "cpu") -> LpipsNetwork:
    """A perceptual network by name (`PERCEPTUAL_NAMES`), with ``@file`` behind it for weights in a local file.

    ``st-lpips`` and ``st-lpips-vgg`` come whole with the package stlpips_pytorch. ``lpips-*`` bring their linear heads;
    the trunk (a torchvision state dict) comes from the file, from torch's hub cache, or from the network.
    """
    kind, _, written = name.partition("@")
    if kind not in PERCEPTUAL_NAMES:
        raise ClbenchError(f"unknown perceptual network '{kind}'.{suggestion(kind, PERCEPTUAL_NAMES)}")
    file = _local(written, root) if written else None
    if file is not None and not file.is_file():
        raise ClbenchError(f"weights of {kind} not found: {file}")
    with _explained(kind, file):
        if kind.startswith("st-"):
            return _st_lpips("vgg" if kind.endswith("vgg") else "alex", file, device)
        trunk: Trunk = {"lpips-alex": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}[kind]  # type: ignore[assignment]
        return _lpips(trunk, file, device)


class LpipsNetwork:
    """LPIPS and ST-LPIPS as a `PerceptualNetwork`: features and root weights, so that a truth is embedded once."""

    def __init__(self, model: nn.Module, card: EncoderCard, device: str) -> None:
        self.card, self.device = card, device
        self.model = _channels_last(_frozen(model, device))
        self.roots = [_root_weights(line, card.name) for line in model.lins]  # type: ignore[union-attr,arg-type]

    def features(self, images: Tensor) -> list[Tensor]:
        """See `clbench.metrics.similarity.PerceptualNetwork`; returned on the CPU."""
        import torch

        with torch.inference_mode():
            return in_passes(self._features, images.float())

    def _features(self, images: Tensor) -> list[Tensor]:
        import torch

        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        outputs = self.model.net(self.model.scaling_layer(2 * images - 1))  # type: ignore[operator]
        units = (o.div_(o.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for o in outputs)
        return [unit.mul_(root).cpu() for unit, root in zip(units, self.roots, strict=True)]


def _root_weights(line: nn.Module, name: str) -> Tensor:
    weight = next(line.parameters()).detach()
    if weight.min() < 0:
        raise ClbenchError(f"{name} has negative linear weights, so it is no distance; take other weights")
    return weight.sqrt()


def _st_lpips(trunk: Trunk, file: Path | None, device: str) -> LpipsNetwork:
    _package("stlpips_pytorch")
    from stlpips_pytorch import stlpips

    shipped = Path(stlpips.__file__).parent / "weights" / "vST0.0" / f"{trunk}_shift_tolerant.pth"
    weights = file or shipped
    if not weights.is_file():
        raise ClbenchError(f"the weights of ST-LPIPS are missing: {weights}; reinstall stlpips_pytorch")
    model = stlpips.LPIPS(net=trunk, variant="shift_tolerant", model_path=str(weights), verbose=False)
    if trunk == "alex":
        _join_first_layers(model.net)
    return LpipsNetwork(model, EncoderCard(f"st-lpips-{trunk}", file_digest(weights)), device)


def _join_first_layers(net: Any) -> None:
    """Convolve and blur in one step: the convolution at every pixel was a quarter of the network's time."""
    from torch import nn

    from clbench.metrics.blurred import BlurredConvolution

    convolution, blur, rest = net.slice1
    net.slice1 = nn.Sequential(BlurredConvolution(convolution, blur.filt), rest)


_TRUNKS = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights", "squeeze": "SqueezeNet1_1_Weights"}


def _lpips(trunk: Trunk, file: Path | None, device: str) -> LpipsNetwork:
    _package("lpips")
    import lpips
    import torch

    backbone = file or _torchvision_file(trunk)
    model = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    _load_trunk(model.net, torch.load(backbone, map_location="cpu", weights_only=True), backbone)
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
    card = EncoderCard(f"lpips-{trunk}", file_digest(heads) + file_digest(backbone))
    return LpipsNetwork(model, card, device)


def _torchvision_file(trunk: Trunk) -> Path:
    """The trunk's file in torch's hub cache, fetched if a network may be used."""
    import torch
    import torchvision

    weights = getattr(torchvision.models, _TRUNKS[trunk]).IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if file.is_file():
        return file
    if is_offline():
        raise ClbenchError(
            f"lpips-{trunk} needs the weights {file.name} of torchvision: put them at {file} or name them as "
            f"'lpips-{trunk}@FILE' (or use 'st-lpips', which needs no download)"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(weights.url, str(file), progress=False)
    return file


def _load_trunk(net: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Put torchvision's ``features.<k>.*`` into lpips' slices, which keep the numbers k."""
    slices = {number: part for part in net.children() for number, _ in part.named_children()}
    wanted = {f"{n}.{p}": value for n, part in slices.items() for p, value in part.get_submodule(n).named_parameters()}
    given = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    wrong = [key for key, value in wanted.items() if key not in given or given[key].shape != value.shape]
    if wrong:
        raise ClbenchError(f"{file} does not hold the trunk: '{wrong[0]}' is missing or has another shape")
    for key, value in wanted.items():
        value.data.copy_(given[key])


def open_clip_encoder(name: str, root: Path | None = None, device: str = "cpu") -> OpenClip:
    """A CLIP by local folder or config file, or ``MODEL/PRETRAINED`` of open_clip (``ViT-B-32/laion2b_s34b_b79k``).

    A folder is either open_clip's own (``open_clip_config.json``, ``open_clip_model.safetensors`` and tokenizer files, as
    its hub folders are), or holds one model config ``NAME.json`` and its weights ``NAME.safetensors``.
    """
    _package("open_clip", "open_clip_torch")
    path = _local(name, root)
    with _explained(name, path if path.exists() else None):
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
        self.model, self.tokenizer, self.card, self.device = _frozen(model, device), tokenizer, card, device
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


def in_passes(run: Callable[[Tensor], list[Tensor]], rows: Tensor) -> list[Tensor]:
    """The tensors (N, ...) that `run` makes of `rows` (N, ...), by passes of equal size; the last is filled up with its last row.

    A pass has `AT_ONCE` rows, or fewer where rows are pictures (3, H, W) of more than ``PIXELS_AT_ONCE / AT_ONCE`` pixels.
    """
    import torch

    size = max(1, min(AT_ONCE, PIXELS_AT_ONCE // rows[0, 0].numel())) if rows.ndim == 4 else AT_ONCE
    found = []
    for part in rows.split(size):
        full = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])]) if len(part) < size else part
        found.append([made[: len(part)] for made in run(full)])
    return [torch.cat(column) for column in zip(*found, strict=True)]


def is_offline() -> bool:
    """Whether the environment forbids the network: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _frozen(model: Any, device: str) -> Any:
    return model.eval().requires_grad_(False).to(device)


def _channels_last(model: Any) -> Any:
    """Convolutions on the CPU run a third faster with the channels as the last axis in memory."""
    import torch

    return model.to(memory_format=torch.channels_last)


def _local(written: str, root: Path | None) -> Path:
    return (Path(root or ".") / Path(written).expanduser()).resolve()


def _package(module: str, distribution: str = "") -> None:
    if importlib.util.find_spec(module) is None:
        raise ClbenchError(f"the package {distribution or module} is not installed; pip install {distribution or module}")


@contextmanager
def _explained(name: str, file: Path | None) -> Iterator[None]:
    """A weight file that is no weight file, or of another network, becomes one sentence."""
    try:
        yield
    except ClbenchError:
        raise
    except Exception as error:  # torch, safetensors and open_clip raise many kinds for a bad file
        reason = " ".join(str(error).split())[:200]
        raise ClbenchError(f"cannot load {name}{f' from {file}' if file else ''}: {reason}") from error
