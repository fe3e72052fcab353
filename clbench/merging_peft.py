"""One module of several adapters merged by peft's own `add_weighted_adapter`: the one room that knows peft.

peft merges adapters of a model, so it gets a stand-in: one linear layer without memory that carries a module's factors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

MERGED, PLACE = "zx_merged", "m"
"""Names of the merged adapter, and of the stand-in's layer, in peft."""


@dataclass(frozen=True, slots=True)
class Factors:
    """An adapter's factors of one module, A (r, in) and B (out, r), the scale of B A, and the adapter's weight in the merge."""

    a: Tensor
    b: Tensor
    scale: float = 1.0
    weight: float = 1.0


class Draws:
    """The random numbers of a merge, in the order in which peft draws them when it merges a whole model.

    That is: for each of its modules (`shapes`, in the model's order) the values that a merged layer of `rank` starts with, which
    are then overwritten; after those the masks of DARE, module by module.
    """

    def __init__(self, seed: int, shapes: Mapping[str, tuple[int, int]], rank: int) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for shape in shapes.values():
                _new_layer(shape, "start", {"r": rank, "lora_alpha": rank})
            self.remember()

    def go_on(self) -> None:
        """torch's generator draws what comes next here."""
        import torch

        torch.default_generator.set_state(self._state)

    def remember(self) -> None:
        """What torch's generator has drawn is drawn here."""
        import torch

        self._state = torch.default_generator.get_state()


def combine(
    parts: Sequence[Factors | None], method: str, largest: int, density: float = 0.5, rank: int | None = None,
    draws: Draws | None = None,
) -> Factors:  # fmt: skip
    """`add_weighted_adapter` of one module's factors in a stand-in; None is a part that lacks the module. Float32, scale 1.

    `largest` is the largest rank in any module of any part. peft draws DARE's masks from the global generator: it goes on
    where `draws` is and is then put back as it was.
    """
    import torch

    go_on, remember = (lambda: None, lambda: None) if draws is None else (draws.go_on, draws.remember)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\b")
        carrier = _stand_in(parts, largest)
        lora: Any = carrier.base_model
        with _followed(lora, "inject_adapter", go_on):
            lora.add_weighted_adapter(
                adapters=_names(parts), weights=[1.0 if part is None else part.weight for part in parts], adapter_name=MERGED,
                combination_type=method, svd_rank=rank, svd_full_matrices=False, density=density,
            )  # fmt: skip
        remember()
    layer: Any = carrier.get_submodule(f"base_model.model.{PLACE}")
    a, b = layer.lora_A[MERGED].weight.data, layer.lora_B[MERGED].weight.data
    if method == "cat":  # peft leaves rows of zeros below the stacked ones
        used = sum(len(part.a) for part in parts if part is not None)
        a, b = a[:used], b[:, :used]
    return Factors(a.clone(), b.clone())


def _names(parts: Sequence[object]) -> list[str]:
    """Names of one width, so that none is part of another or of a parameter's name."""
    return [f"zx{index:06d}" for index in range(len(parts))]


def _stand_in(parts: Sequence[Factors | None], largest: int) -> PeftModel:
    """A model of one layer that carries `parts` as adapters.

    One that lacks the layer is known by its config alone: peft merges a single adapter by "linear", whatever is asked for.
    """
    from peft import LoraConfig

    carrier: PeftModel | None = None
    absent = []
    for name, part in zip(_names(parts), parts, strict=True):
        if part is None:
            absent.append(name)
            continue
        values = _peft_values(part, largest)
        if carrier is None:
            carrier = _new_layer((len(part.b), part.a.shape[1]), name, values)
        else:
            carrier.add_adapter(name, LoraConfig(**values, target_modules=[PLACE]))
        layer: Any = carrier.get_submodule(f"base_model.model.{PLACE}")
        layer.lora_A[name].weight.data.copy_(part.a)
        layer.lora_B[name].weight.data.copy_(part.b)
    assert carrier is not None
    known: Any = carrier.peft_config
    known |= {name: LoraConfig(r=largest, lora_alpha=largest, target_modules=[PLACE]) for name in absent}
    return carrier


def _new_layer(shape: tuple[int, int], name: str, values: Mapping[str, Any]) -> PeftModel:
    """A model of one layer of `shape` with one adapter of that name."""
    from peft import LoraConfig, get_peft_model
    from torch import nn

    layers = nn.ModuleDict({PLACE: _empty_linear(*shape)})
    return get_peft_model(layers, LoraConfig(**values, target_modules=[PLACE]), adapter_name=name)  # type: ignore[arg-type]


def _peft_values(part: Factors, largest: int) -> dict[str, Any]:
    """LoraConfig arguments of a part: `largest` is what peft compares, patterns hold the part's own rank and alpha."""
    own = len(part.a)
    return {
        "r": largest, "lora_alpha": largest, "rank_pattern": {PLACE: own}, "alpha_pattern": {PLACE: part.scale * own},
        "lora_dropout": 0.0,
    }  # fmt: skip


@contextmanager
def _followed(owner: Any, name: str, act: Callable[[], object]) -> Iterator[None]:
    """Inside, `act` follows every call of that method of `owner`."""
    method = getattr(owner, name)

    def followed(*args: Any, **kwargs: Any) -> None:
        method(*args, **kwargs)
        act()

    setattr(owner, name, followed)
    try:
        yield
    finally:
        delattr(owner, name)  # the circle would keep a whole layer until Python looks for circles


def _empty_linear(rows: int, columns: int) -> Any:
    """A linear layer of that shape whose weight is one number, so that a large base costs nothing."""
    import torch

    layer = torch.nn.Linear(columns, rows, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(torch.zeros(()).expand(rows, columns), requires_grad=False)
    return layer
