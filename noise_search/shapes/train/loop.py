"""One training loop for every stage: AdamW (and Muon), cosine schedule, moving average, checkpoints, resume.

A checkpoint is safetensors and JSON. Randomness is keyed by the step, so that a resumed run takes the same batches as
an uninterrupted one.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 120.0
WARMUP_STEPS = 200


@dataclass(frozen=True)
class Plan:
    """What a stage asks of the loop.

    Attributes:
        name: of the stage and of its folder of checkpoints.
        steps: in all.
        rate: peak learning rate.
        weight_decay: of AdamW and Muon.
        average: decay of the moving average of the weights.
        bfloat16: whether the forward pass runs under autocast.
        decay_from: share of the steps after which the rate falls to 0 along a cosine; until then it is constant.
        muon: which parameters Muon takes (matrices only); None for AdamW alone.
    """

    name: str
    steps: int
    rate: float
    weight_decay: float = 0.01
    average: float = 0.999
    bfloat16: bool = True
    decay_from: float = 0.0
    muon: Callable[[str, Tensor], bool] | None = None


Loss = Callable[[int, torch.Generator], Tensor]


def fit(plan: Plan, model: nn.Module, loss: Loss, directory: Path, seed: int) -> None:
    """Train until the plan's last step and leave the averaged weights in the model.

    Args:
        plan: the stage.
        model: all weights of the stage.
        loss: the loss of a step, given the step and a generator on the CPU.
        directory: where checkpoints lie; an unfinished one is continued.
        seed: of the batches.
    """
    device = next(model.parameters()).device
    optimisers = _optimisers(plan, model)
    average = {k: v.detach().clone() for k, v in model.named_parameters()}
    first = _resume(directory / plan.name, model, average, optimisers)
    started = saved = time.monotonic()
    recent: list[float] = []
    for step in range(first, plan.steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rate = _rate(plan, step)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bfloat16):
            value = loss(step, generator)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        keep = min(plan.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                average[name].lerp_(weight, 1 - keep)
        recent.append(float(value.detach()))
        if not math.isfinite(recent[-1]):
            raise FloatingPointError(f"stage {plan.name}: the loss of step {step} is {recent[-1]}; can't go on")
        if step % 50 == 49 or step + 1 == plan.steps:
            speed = (step + 1 - first) / (time.monotonic() - started)
            log.info("%s %d/%d loss %.5f, %.2f steps/s", plan.name, step + 1, plan.steps, _mean(recent), speed)
            recent.clear()
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == plan.steps:
            _save(directory / plan.name, step + 1, model, average, optimisers)
            saved = time.monotonic()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(average[name])


def _rate(plan: Plan, step: int) -> float:
    done = max(0.0, (step / plan.steps - plan.decay_from) / (1 - plan.decay_from))
    return plan.rate * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * done))


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _optimisers(plan: Plan, model: nn.Module) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    chosen = [n for n, p in named.items() if plan.muon is not None and plan.muon(n, p)]
    rest = [p for n, p in named.items() if n not in set(chosen)]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=plan.rate, weight_decay=plan.weight_decay, betas=(0.9, 0.99))
    ]
    if chosen:
        matrices = [named[n] for n in chosen]
        found.append(
            torch.optim.Muon(matrices, lr=plan.rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return found


def _optimiser_tensors(optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    tensors = {}
    for which, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{which}.{index}.{key}"] = torch.as_tensor(value).contiguous()
    return tensors


def _save(
    folder: Path,
    step: int,
    model: nn.Module,
    average: dict[str, Tensor],
    optimisers: list[torch.optim.Optimizer],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weight.{k}": v.detach().contiguous() for k, v in model.named_parameters()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    tensors |= {f"optimiser.{k}": v for k, v in _optimiser_tensors(optimisers).items()}
    save_file(tensors, folder / "next.safetensors", metadata={"step": json.dumps(step)})
    os.replace(folder / "next.safetensors", folder / "checkpoint.safetensors")


def _resume(folder: Path, model: nn.Module, average: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]) -> int:
    file = folder / "checkpoint.safetensors"
    if not file.exists():
        return 0
    tensors = load_file(file)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(tensors[f"weight.{name}"])
            average[name].copy_(tensors[f"average.{name}"])
    for which, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimiser.{which}."):
                _, _, index, field = key.split(".", 3)
                state.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    step = checkpoint_step(folder)
    log.info("continuing at step %d from %s", step, file)
    return step


def checkpoint_step(folder: Path) -> int:
    """Steps done according to the checkpoint in the folder, 0 without one."""
    file = folder / "checkpoint.safetensors"
    if not file.exists():
        return 0
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return int(json.loads(opened.metadata()["step"]))


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the checkpoint in the folder, by parameter name."""
    tensors = load_file(folder / "checkpoint.safetensors")
    return {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
