"""Perceptual networks, by stlpips_pytorch and lpips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench.encoders.common import (
    EncoderCard,
    channels_last,
    explained,
    frozen,
    in_passes,
    is_offline,
    local_path,
    require_package,
)
from clbench.hashing import file_digest
from clbench.metrics.winograd import quickened
from clbench.registry import ClbenchError, suggestion

if TYPE_CHECKING:
    from torch import Tensor, nn

Trunk = Literal["alex", "vgg", "squeeze"]
PERCEPTUAL_NAMES = ("st-lpips", "st-lpips-vgg", "lpips-alex", "lpips-vgg", "lpips-squeeze")


def open_perceptual(name: str, root: Path | None = None, device: str = "cpu") -> LpipsNetwork:
    """A perceptual network by name (`PERCEPTUAL_NAMES`), with ``@file`` behind it for weights in a local file.

    ``st-lpips`` and ``st-lpips-vgg`` come whole with the package stlpips_pytorch. ``lpips-*`` bring their linear heads;
    the trunk (a torchvision state dict) comes from the file, from torch's hub cache, or from the network.
    """
    kind, _, written = name.partition("@")
    if kind not in PERCEPTUAL_NAMES:
        raise ClbenchError(f"unknown perceptual network '{kind}'.{suggestion(kind, PERCEPTUAL_NAMES)}")
    file = local_path(written, root) if written else None
    if file is not None and not file.is_file():
        raise ClbenchError(f"weights of {kind} not found: {file}")
    with explained(kind, file):
        if kind.startswith("st-"):
            return _st_lpips("vgg" if kind.endswith("vgg") else "alex", file, device)
        trunk: Trunk = {"lpips-alex": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}[kind]  # type: ignore[assignment]
        return _lpips(trunk, file, device)


class LpipsNetwork:
    """LPIPS and ST-LPIPS as a `PerceptualNetwork`: features and root weights, so that a truth is embedded once."""

    def __init__(self, model: nn.Module, card: EncoderCard, device: str) -> None:
        self.card, self.device = card, device
        self.model = channels_last(frozen(quickened(model) if device == "cpu" else model, device))
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
    require_package("stlpips_pytorch")
    from stlpips_pytorch import stlpips

    shipped = Path(stlpips.__file__).parent / "weights" / "vST0.0" / f"{trunk}_shift_tolerant.pth"
    weights = file or shipped
    if not weights.is_file():
        raise ClbenchError(f"the weights of ST-LPIPS are missing: {weights}; reinstall stlpips_pytorch")
    model = stlpips.LPIPS(net=trunk, variant="shift_tolerant", model_path=str(weights), verbose=False)
    if trunk == "alex":
        _with_faster_layers(model.net)
    return LpipsNetwork(model, EncoderCard(f"st-lpips-{trunk}", file_digest(weights)), device)


def _with_faster_layers(net: Any) -> None:
    """Convolve and blur in one step, and take maxima faster: the convolution at every pixel was a quarter of the time."""
    from torch import nn

    from clbench.metrics.blurred import BlurredConvolution, LargestOfNine

    convolution, blur, rest = net.slice1
    net.slice1 = nn.Sequential(BlurredConvolution(convolution, blur.filt), rest)
    for part in (net.slice2, net.slice3):
        for name, layer in part.named_children():
            if repr(layer) == repr(nn.MaxPool2d(3, stride=1)):
                setattr(part, name, LargestOfNine())


_TRUNKS = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights", "squeeze": "SqueezeNet1_1_Weights"}


def _lpips(trunk: Trunk, file: Path | None, device: str) -> LpipsNetwork:
    require_package("lpips")
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
