"""What one device reaches with published architectures on random weights, in parts of under four minutes that resume.

`PYTHONPATH=.:tests python tests/benchmarks/device.py --out DIRECTORY [--parts sd15 sdxl sd3 flux]`; four parts, twelve
minutes of an H200 in all. `--smallest` takes tiny networks of the same families on the CPU, `--report` prints the table
of what is there. What has been measured lies in DIRECTORY, a file a part, and isn't measured again; after `--seconds`
of a part nothing new of it begins.

- TFLOP/s: FLOPs of one evaluation (2 per multiply-add of matrix products, convolutions and attention, counted on the
  meta device) over the median time of a call of the denoiser, on inputs as the pipeline gives them, guidance included;
  for micro-batches of 1, 2, 4, ... until a doubling gains less than 5 %, and compiled at the best of them, by repeated
  blocks where the class knows any. The floor is 790 TFLOP/s, a sustained bf16 rate of an H200.
- Shares: of decoding and of CLIP-L in a candidate, at the best micro-batch.
- Search: random search of 8 against the loop that one writes with plain diffusers, same seeds, micro-batch and
  verifier, in turn; both must find the same winner. Overhead: what of a search no phase of its ledger took.

Text encoders are left out: prompts are random embeddings of the right shapes.
"""

import argparse
import gc
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from full_size_weights import write_open_clip
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import verifiers
from noise_search import search
from noise_search.disk.files import write_atomically
from noise_search.shapes import EMBEDDED_VERIFIERS, embedded_verifier
from samplers.base import is_out_of_memory
from samplers.pipelines import denoisers
from samplers.pipelines.prices import twin
from tiny.pipelines import FLUX, UNCHECKED, ddim, euler, tiny

FLOOR = 790.0
"""TFLOP/s."""
PROMPT, COUNT, ROUNDS = "a red circle to the left of a blue square", 8, 2
GAIN, MOST, CALLS = 1.05, 32, 5
"""What a doubling must gain, the largest micro-batch, and calls of which the median counts."""

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
FLOW_KL = {**KL, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": [1, 2, 10],
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
MEDIUM = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}


@dataclass(frozen=True)
class Part:
    """One model.

    Attributes:
        told: what it is.
        build: the pipeline, and the options of its call, in full size.
        small: the same in tiny.
        steps: of a candidate in the search.
    """

    told: str
    build: Callable[[], tuple[Any, dict[str, Any]]]
    small: Callable[[], tuple[Any, dict[str, Any]]]
    steps: int


def embeddings(guided: bool = True, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Random ones, one row each; of the empty prompt too where there is guidance."""
    names = [*shapes, *(f"negative_{name}" for name in shapes)] if guided else [*shapes]
    return {name: torch.randn(1, *shapes[name.removeprefix("negative_")]) for name in names}


def on_cpu(scheduler: Callable[..., Any], **options: Any) -> Any:
    """Schedulers reckon there, whatever the device of the rest."""
    with torch.device("cpu"):
        return scheduler(**options)


def none_of(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


def sd15() -> tuple[Any, dict[str, Any]]:
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    parts = {"unet": unet, "vae": diffusers.AutoencoderKL(**KL), **none_of("text_encoder", "tokenizer")}
    pipe = diffusers.StableDiffusionPipeline(scheduler=on_cpu(ddim), **parts, **UNCHECKED)
    return pipe, {"height": 512, "width": 512, **embeddings(prompt_embeds=(77, 768))}


def sdxl() -> tuple[Any, dict[str, Any]]:
    parts = {"unet": diffusers.UNet2DConditionModel(**XL), "vae": diffusers.AutoencoderKL(**KL, force_upcast=False)}
    parts |= none_of("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipe = diffusers.StableDiffusionXLPipeline(scheduler=on_cpu(euler), add_watermarker=False, **parts)
    texts = embeddings(prompt_embeds=(77, 2048), pooled_prompt_embeds=(1280,))
    return pipe, {"height": 1024, "width": 1024, **texts}


def sd3() -> tuple[Any, dict[str, Any]]:
    parts = {"transformer": diffusers.SD3Transformer2DModel(**MEDIUM)}
    parts |= {"vae": diffusers.AutoencoderKL(**FLOW_KL, scaling_factor=1.5305, shift_factor=0.0609)}
    parts |= none_of(*(f"{part}{which}" for part in ("text_encoder", "tokenizer") for which in ("", "_2", "_3")))
    pipe = diffusers.StableDiffusion3Pipeline(
        scheduler=on_cpu(diffusers.FlowMatchEulerDiscreteScheduler, shift=3.0), **parts
    )
    texts = embeddings(prompt_embeds=(333, 4096), pooled_prompt_embeds=(2048,))
    return pipe, {"height": 1024, "width": 1024, **texts}


def flux() -> tuple[Any, dict[str, Any]]:
    parts = {"transformer": diffusers.FluxTransformer2DModel(guidance_embeds=True)}
    parts |= {"vae": diffusers.AutoencoderKL(**FLOW_KL, scaling_factor=0.3611, shift_factor=0.1159)}
    parts |= none_of("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    scheduler = on_cpu(diffusers.FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=True)
    pipe = diffusers.FluxPipeline(scheduler=scheduler, **parts)
    texts = embeddings(guided=False, prompt_embeds=(512, 4096), pooled_prompt_embeds=(768,))
    return pipe, {"height": 1024, "width": 1024, **texts}


def small(name: str, **options: Any) -> Callable[[], tuple[Any, dict[str, Any]]]:
    return lambda: (tiny(name), {"height": 16, "width": 16, **options})


PARTS = {
    "sd15": Part("Stable Diffusion 1.5, 512²", sd15, small("sd"), 20),
    "sdxl": Part("SDXL, 1024²", sdxl, small("sdxl"), 20),
    "sd3": Part("Stable Diffusion 3 medium, 1024²", sd3, small("sd3"), 14),
    "flux": Part("FLUX.1, 1024²", flux, small("flux-guided", **FLUX), 8),
}


class Bench:
    """A model on a device, and what is measured of it."""

    def __init__(self, part: Part, smallest: bool, clip: Path) -> None:
        self.device = torch.device("cpu" if smallest else "cuda")
        self.dtype = torch.float32 if smallest else torch.bfloat16
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                torch.manual_seed(0)
                self.pipe, self.options = (part.small if smallest else part.build)()
        finally:
            torch.set_default_dtype(torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        for module in self.pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval()
        self.pipe.to(self.device)
        self.steps = 4 if smallest else part.steps
        if smallest:
            self.verifier = embedded_verifier(EMBEDDED_VERIFIERS["shapes-clip"])
        else:
            self.verifier = verifiers.CLIPScore("ViT-L-14-quickgelu", clip / "model.safetensors")
        self.verifier.load(self.device)
        [self.denoiser] = denoisers.find(self.pipe).values()

    def plain(self, seeds: list[int], steps: int | None = None, **more: Any) -> Any:
        """What the pipeline gives for these seeds, called as one calls it."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        given: dict[str, Any] = {"num_inference_steps": steps or self.steps, "generator": generators}
        if "prompt_embeds" in self.options:  # not every pipeline repeats them by itself
            given |= {k: v.repeat_interleave(len(seeds), 0) for k, v in self.options.items() if k.endswith("embeds")}
        else:
            given |= {"prompt": PROMPT, "num_images_per_prompt": len(seeds)}
        return self.pipe(**{"output_type": "pt", **self.options, **given, **more}).images

    def inputs(self, rows: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the pipeline hands its denoiser for so many candidates."""
        seen: list[Any] = []

        def note(module: Any, args: Any, kwargs: Any) -> None:
            seen.append((args, kwargs))

        with taken_off(self.denoiser.register_forward_pre_hook(note, with_kwargs=True)):
            self.plain([*range(rows)], steps=1, output_type="latent")
        found: tuple[tuple[Any, ...], dict[str, Any]] = seen[0]
        return found

    def seconds(self, call: Callable[[], Any], calls: int = CALLS) -> float:
        """Median, after a first call that doesn't count."""
        call()
        found = []
        for _ in range(calls):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float:
        """GB since the last call."""
        if self.device.type != "cuda":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        found = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return found


@contextmanager
def taken_off(hook: Any) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()


def flops(bench: Bench) -> float:
    """Of one evaluation of one candidate."""
    args, kwargs = tree_map_only(torch.Tensor, lambda one: one.to("meta"), bench.inputs(1))
    with FlopCounterMode(display=False) as counter:
        twin(bench.denoiser)(*args, **kwargs)
    return float(counter.get_total_flops())


def evaluation(bench: Bench, rows: int) -> float:
    """Seconds of one of so many candidates."""
    args, kwargs = bench.inputs(rows)
    return bench.seconds(lambda: bench.denoiser(*args, **kwargs))


def sweep(bench: Bench, known: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an evaluation by micro-batch, until a doubling gains too little or memory runs out."""
    found: dict[int, float] = {}
    rows = 1
    while rows <= MOST:
        try:
            found[rows] = evaluation(bench, rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        if rows > 1 and (found[rows // 2] * 2) / found[rows] < GAIN:
            break
        rows *= 2
    best = min(found, key=lambda rows: found[rows] / rows)
    return {"seconds": {str(rows): value for rows, value in found.items()}, "best": best, "peak_gb": bench.peak()}


def compiled(bench: Bench, known: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an evaluation at the best micro-batch, and of the first call."""
    rows = known["sweep"]["best"]
    args, kwargs = bench.inputs(rows)
    how = "regional" if getattr(bench.denoiser, "_repeated_blocks", None) else "whole"
    if how == "regional":
        bench.denoiser.compile_repeated_blocks(fullgraph=True)
    else:
        bench.denoiser.compile()
    started = time.perf_counter()
    bench.denoiser(*args, **kwargs)
    bench.wait()
    first = time.perf_counter() - started
    return {"how": how, "warm_up": first, "seconds": evaluation(bench, rows)}


def shares(bench: Bench, known: dict[str, Any]) -> dict[str, Any]:
    """Seconds of decoding and of verifying the best micro-batch."""
    rows = known["sweep"]["best"]
    latents = bench.plain([*range(rows)], steps=1, output_type="latent")
    if latents.ndim == 3:  # FLUX's tokens
        latents = bench.pipe._unpack_latents(
            latents, bench.options["height"], bench.options["width"], bench.pipe.vae_scale_factor
        )
    images = bench.pipe.vae.decode(latents, return_dict=False)[0]
    pictures = (images.float() / 2 + 0.5).clamp(0, 1)
    return {
        "decode": bench.seconds(lambda: bench.pipe.vae.decode(latents, return_dict=False)),
        "verify": bench.seconds(lambda: bench.verifier(pictures, [PROMPT] * rows)),
        "peak_gb": bench.peak(),
    }


def searched(bench: Bench, known: dict[str, Any]) -> dict[str, Any]:
    """Random search of 8 against the plain loop, in turn."""
    batch = min(known["sweep"]["best"], COUNT)
    options = {name: value for name, value in bench.options.items() if name not in ("height", "width")}
    sides = {name: bench.options[name] for name in ("height", "width")}

    def loop() -> int:
        scores = []
        for start in range(0, COUNT, batch):
            images = bench.plain([*range(start, start + batch)]).float()
            scores.append(bench.verifier(images, [PROMPT] * batch))
        return int(torch.cat(scores).argmax())

    def ours() -> Any:
        asked = {"model": bench.pipe, "verifier": bench.verifier, "steps": bench.steps, "batch_size": batch, **sides}
        return search(
            PROMPT, algorithm="random", candidates=COUNT, check=False, model_options=options, progress=False, **asked
        )

    loop()
    ours()  # warm
    times, overheads = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        winner = loop()
        between = time.perf_counter()
        result = ours()
        ended = time.perf_counter()
        assert result.best.seed == winner, f"search found seed {result.best.seed}, the plain loop {winner}"
        times.append((between - started, ended - between))
        overheads.append(1 - sum(result.ledger.seconds.values()) / (ended - between))
    plain, found = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "plain": plain,
        "search": found,
        "ratio": statistics.median(b / a for a, b in times),
        "overhead": statistics.median(overheads),
        "winner": winner,
        "peak_gb": bench.peak(),
    }


MEASURES: dict[str, Callable[[Bench, dict[str, Any]], dict[str, Any]]] = {
    "sweep": sweep,
    "shares": shares,
    "search": searched,
    "compiled": compiled,  # last: it changes the denoiser
}


@torch.no_grad()
def run(name: str, directory: Path, smallest: bool, clip: Path, seconds: float, leave_out: set[str]) -> None:
    """Measure what a part lacks, as long as there is time."""
    file, started = directory / f"{name}.json", time.monotonic()
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    missing = [one for one in MEASURES if one not in known and one not in leave_out]
    if not missing:
        return
    part = PARTS[name]
    bench = Bench(part, smallest, clip)
    where = platform.processor() or platform.machine() if smallest else torch.cuda.get_device_name()
    made = {"torch": torch.__version__, "diffusers": diffusers.__version__, "dtype": str(bench.dtype), "device": where}
    known |= {"told": part.told + " (tiny)" * smallest, "steps": bench.steps, "flops": flops(bench), "made_with": made}
    for one in missing:
        if time.monotonic() - started > seconds:
            print(f"{name}: {one} and what follows are left for the next call")
            return
        known[one] = MEASURES[one](bench, known)
        write_atomically(file, json.dumps(known, indent=2).encode())
        print(f"{name}: {one} after {time.monotonic() - started:.0f} s", flush=True)


def report(directory: Path) -> str:
    """The table of what is there."""
    lines = [
        "| model | TFLOP of an evaluation | micro-batch | TFLOP/s eager, compiled | of the floor | decode, verify "
        "| search over plain loop | overhead | peak GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in PARTS:
        file = directory / f"{name}.json"
        if not file.exists() or "sweep" not in (known := json.loads(file.read_text())):
            continue
        best, tera = known["sweep"]["best"], known["flops"] / 1e12
        step = known["sweep"]["seconds"][str(best)]
        rates = [best * tera / seconds for seconds in (step, known.get("compiled", {}).get("seconds")) if seconds]
        told = "-, -"
        if "shares" in known:
            parts = [known["steps"] * step, known["shares"]["decode"], known["shares"]["verify"]]
            told = ", ".join(f"{part / sum(parts):.1%}" for part in parts[1:])
        race = known.get("search", {})
        peak = max(known[one]["peak_gb"] for one in ("sweep", "shares", "search") if one in known)
        lines.append(
            f"| {known['told']} | {tera:.3g} | {best} | {', '.join(f'{rate:.3g}' for rate in rates)} "
            f"| {', '.join(f'{rate / FLOOR:.2%}' for rate in rates)} | {told} "
            f"| {race.get('ratio', float('nan')):.2f} | {race.get('overhead', float('nan')):.1%} | {peak:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="device.py", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where what was measured lies")
    parser.add_argument("--parts", nargs="*", default=[*PARTS], choices=PARTS)
    parser.add_argument("--smallest", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--leave-out", nargs="*", default=[], choices=MEASURES, help="what isn't measured")
    parser.add_argument("--seconds", type=float, default=150.0, help="of a part, after which nothing new of it begins")
    parser.add_argument("--report", action="store_true", help="print the table alone")
    asked = parser.parse_args()
    if not asked.report:
        if not asked.smallest and not torch.cuda.is_available():
            parser.error("there is no GPU here; --smallest runs tiny networks on the CPU")
        asked.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            if not asked.smallest:
                write_open_clip(Path(folder), "ViT-L-14-quickgelu")
            for name in asked.parts:
                run(name, asked.out, asked.smallest, Path(folder), asked.seconds, {*asked.leave_out})
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
    print(report(asked.out))


if __name__ == "__main__":
    main()
