"""What the diffusers pipelines share: adapters, samplers, cached prompts, conversions."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.adapters import AdapterInfo, describe_adapter, load_tensors
from clbench.attaching import check_adapter, lora_config
from clbench.backbones import Job, Sampler
from clbench.backbones.folding import FoldedAdapters, Weighted
from clbench.backbones.noise import CaseNoiseScheduler, check_library, generators
from clbench.backbones.products import round_products
from clbench.cores import usable_cores
from clbench.registry import ClbenchError
from clbench.world import BackboneTable

KEEP_ADAPTERS = 4
"""LoRAs kept in memory. Cases are grouped by effect, so each teacher is loaded once anyway."""


def pick_device(written: str) -> str:
    """ "auto" becomes cuda where there is a GPU, else cpu."""
    return written if written != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")


def set_threads() -> None:
    """Let torch use the cores this process may run on, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())


def hide_loading_bars() -> None:
    """The terminal shows clbench's own progress only."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def open_pipeline(pipeline_class: Any, folder: Path, table: BackboneTable) -> Any:
    """A stock pipeline from a local folder, in eval mode; never reaches for a hub."""
    set_threads()
    hide_loading_bars()
    check_library()
    return opened(pipeline_class, folder, table).to(pick_device(table.device))


def opened(kind: Any, folder: Path, table: BackboneTable) -> Any:
    """A pipeline or one of its models from a local folder; ClbenchError if it is something else."""
    try:
        return kind.from_pretrained(folder, dtype=getattr(torch, table.dtype), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ClbenchError(f"{folder} does not open as a {kind.__name__}: {reason}") from None


class DiffusersBackbone:
    """A stock diffusers pipeline, sampled in batches of cases; subclasses call their pipeline."""

    def __init__(self, pipe: Any, table: BackboneTable, resolution: int, name: str) -> None:
        self.pipe, self.table, self.resolution, self.name = pipe, table, resolution, name
        pipe.set_progress_bar_config(disable=True)
        for module in pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval().requires_grad_(False)
        self.device = pipe.device
        if table.fast_products:
            round_products(pipe.transformer)
        # diffusers would take its own defaults for the keys named there, whatever `scheduler` sets
        self._own_schedule = {key: value for key, value in pipe.scheduler.config.items() if key != "_use_default_values"}
        layers = linear_layers(pipe.transformer)
        self._shapes = {name: tuple(layer.weight.shape) for name, layer in layers.items()}
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self.folded = FoldedAdapters(layers)

    @torch.inference_mode()
    def sample(self, jobs: Sequence[Job], sampler: Sampler) -> list[np.ndarray | None]:
        """See `Backbone.sample`."""
        noise = generators([job.seed for job in jobs])
        self.pipe.scheduler = self.scheduler(sampler, noise)
        return to_uint8(self._call(jobs, sampler, noise))

    def scheduler(self, sampler: Sampler, noise: list[torch.Generator]) -> CaseNoiseScheduler:
        """The backbone's own schedule, with the sampler's shift and stochasticity."""
        config = self._own_schedule | {"stochastic_sampling": sampler.stochastic}
        if sampler.shift is not None:
            config |= {"shift": sampler.shift, "use_dynamic_shifting": False, "shift_terminal": None}
        scheduler: Any = CaseNoiseScheduler.from_config(config)
        scheduler.case_generators = noise
        return scheduler

    def use_adapters(self, adapters: Sequence[tuple[Path, float]]) -> None:
        """See `Backbone.use_adapters`; ClbenchError for a LoRA of another base or a broken file.

        They are folded into the weights where `[backbone] fold` allows it and `FoldedAdapters.accepts` them; else
        peft keeps them apart.
        """
        wanted = [Weighted(self._checked(path), weight) for path, weight in adapters]
        fold = self.table.fold and self.folded.accepts(wanted)
        self.folded.fold(wanted if fold else [])
        if fold or not wanted:
            if self._loaded:
                self.pipe.disable_lora()
            return
        handles = [self._ensure(one.info) for one in wanted]
        self.activate(handles, [one.weight for one in wanted])
        self._forget_beyond(max(KEEP_ADAPTERS, len(handles)))

    def peak_memory(self) -> int:
        """See `Backbone.peak_memory`."""
        if self.device.type == "cuda":
            peak = int(torch.cuda.max_memory_allocated(self.device))
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        return process_peak_bytes()

    def attach(self, handle: str, info: AdapterInfo, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put an adapter's factors (as `load_tensors` gives them) into the model under a free name.

        As in stock `load_lora_weights`, peft draws no random factors first, which would take most of the time; it then takes the
        given tensors themselves where device and dtype are the model's, so those are copied here: the model keeps no file mapped.
        """
        held = self.device, self.pipe.transformer.dtype
        state = {f"transformer.{n}": t.clone() if (t.device, t.dtype) == held else t for n, t in tensors.items()}
        metadata = {f"transformer.{key}": value for key, value in lora_config(info).items()}
        with warnings.catch_warnings():  # peft warns of every second adapter, which is what is wanted here
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            load = self.pipe.transformer.load_lora_adapter
            load(state, adapter_name=handle, metadata=metadata, low_cpu_mem_usage=True)

    def detach(self, handle: str) -> None:
        """Take an attached adapter out of the model again."""
        self.pipe.delete_adapters(handle)

    def activate(self, handles: Sequence[str], weights: Sequence[float]) -> None:
        """Make exactly these attached adapters active; at least one."""
        self.pipe.enable_lora()
        self.pipe.set_adapters(list(handles), adapter_weights=list(weights))

    def factor_bytes(self) -> int:
        """Bytes of the factors of all attached adapters, active or not."""
        found = self.pipe.transformer.named_parameters()
        return sum(p.numel() * p.element_size() for name, p in found if ".lora_A." in name or ".lora_B." in name)

    def _call(self, jobs: Sequence[Job], sampler: Sampler, noise: list[torch.Generator]) -> np.ndarray:
        """Run the pipeline: float ``(N, R, R, 3)`` in [0, 1]."""
        raise NotImplementedError

    def _checked(self, path: Path) -> AdapterInfo:
        info = describe_adapter(path)
        check_adapter(info, self._shapes, self.name)
        return info

    def _ensure(self, info: AdapterInfo) -> str:
        if info.handle in self._loaded:
            self._loaded.move_to_end(info.handle)
            return info.handle
        tensors = load_tensors(info)
        self.attach(info.handle, info, tensors)
        self._check_all_applied(info.handle, len(tensors), info.path)
        self._loaded[info.handle] = None
        return info.handle

    def _check_all_applied(self, handle: str, expected: int, path: Path) -> None:
        """Loading counts keys: every factor of the file must now be a parameter of the model."""
        found = sum(f".{handle}." in f"{name}." for name, _ in self.pipe.transformer.named_parameters())
        if found != expected:
            raise ClbenchError(f"{path}: {found} of {expected} LoRA factors applied to {self.name}")

    def _forget_beyond(self, keep: int) -> None:
        while len(self._loaded) > keep:
            oldest, _ = self._loaded.popitem(last=False)
            self.detach(oldest)


def linear_layers(transformer: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The model's linear layers by name."""
    return {name: module for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}


def process_peak_bytes() -> int:
    """Peak resident memory of this process in bytes, 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def to_vae(pictures: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """uint8 ``(H, W, 3)`` each -> float ``(N, 3, H, W)`` in [-1, 1]; scaled in float32 and then rounded, as in diffusers."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(torch.float32) / 255
    return (batch * 2 - 1).to(device, dtype)


def to_uint8(batch: np.ndarray) -> list[np.ndarray | None]:
    """Float ``(N, H, W, 3)`` in [0, 1] -> uint8 each, rounded; None for a picture that is not finite."""
    return [
        (np.clip(p, 0, 1) * 255).round().astype(np.uint8) if np.isfinite(p).all() else None for p in batch
    ]
