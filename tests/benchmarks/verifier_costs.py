"""What a verifier costs at full size on a CPU: milliseconds and GFLOP per image, weights and peak memory.

`PYTHONPATH=tests python tests/benchmarks/verifier_costs.py run [NAME ...]` measures some of `ROWS` (all by default) and
merges them into `verifier_costs.json` beside itself; `... report` prints them as a markdown table.

Each verifier has a process of its own, so that its peak memory is its own, on random weights of the published sizes
that another process wrote before; it loads them by its own code. float32 (hpsv3: bfloat16, its default), two threads.

- ms per image: a batch of 4 (vlm and hpsv3: of 1) at 512x512 and 1024x1024, preprocessing included, the prompt's text
  encoded before; the median of at least 3 calls (fewer where they take a minute) after one that is
  counted, each on new images.
- ms for a new prompt: its text alone, where a text tower encodes it once for all images.
- peak GB: the process's largest resident memory (VmHWM) above that before loading, while it loads and while it scores.
- GFLOP: 2 per multiply-add of matrix products, convolutions and attention (causal attention counted in full), by
  torch's FlopCounterMode, for one image; resizing and normalisation are no such products.
- others: how many cores other processes kept busy meanwhile. Calls that were disturbed are left out where three others
  remain. Measure rows again where it is above what the machine has beyond the threads: they wait for each other, so one
  disturbed core slows both.

hpsv3 has 16.6 GB of weights: it is measured at three smaller depths and extrapolated, which is exact for parameters and
GFLOP, since all layers are equal, and an estimate for time. `report` also counts, without weights, one pass of three
denoisers, to compare with.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import full_size_weights as weights
import torch
from torch.utils.flop_counter import FlopCounterMode

import verifiers

OUT = Path(__file__).with_suffix(".json")
THREADS = 2
DISTURBED = 0.25
"""Cores that a row's threads need and others kept busy, from which it is marked."""
SMALLER_DEPTHS = ((1, 1), (3, 1), (1, 9))
"""Layers of hpsv3's language model and vision tower: a base, more of the one, more of the other."""
SIDES = (512, 1024)
ADDITIVE = ("parameters_M", "weights_GB", *(f"{what}_{side}" for what in ("ms", "gflop") for side in SIDES))
LEAST_CALLS, ENOUGH_SECONDS, MOST_CALLS, MOST_SECONDS = 3, 3.0, 20, 60.0
QUIET = 0.15
"""How many of the cores that are timed on others may keep busy."""


@dataclass
class Subject:
    """What is called and counted: verifiers in turn, on the same images.

    Attributes:
        verifiers: called one after the other.
        loaded: the modules in memory, after loading.
        used: the modules whose parameters a call with a new prompt uses; None for all that are loaded.
        text: encodes the text of a prompt that is not cached, given its number; None without a text tower of its own.
        prompt: of every image.
    """

    verifiers: Sequence[verifiers.Verifier]
    loaded: Callable[[], list[torch.nn.Module]] = list
    used: Callable[[], list[torch.nn.Module]] | None = None
    text: Callable[[int], object] | None = None
    prompt: str = "a red circle to the left of a blue square"


@dataclass(frozen=True)
class Row:
    """How to write the weights into a directory, how to open the verifiers on them, and what is special."""

    write: Callable[[Path], object]
    open: Callable[[Path], Subject]
    model: str
    batch: int = 4
    note: str = ""
    depths: tuple[int, int] | None = None


def new_prompt(number: int) -> str:
    return f"a photo of {number} red circles to the left of a blue square"


def open_clip_score(directory: Path, model: str) -> Subject:
    clip = verifiers.CLIPScore(model, directory / "model.safetensors")
    tower = clip.source.tower
    return Subject([clip], lambda: [tower().model], text=lambda i: tower().text([new_prompt(i)]))


def open_aesthetic(directory: Path, with_clip: bool = False) -> Subject:
    files = {"model": "ViT-L-14-quickgelu", "pretrained": directory / "model.safetensors"}
    head = verifiers.Aesthetic(directory / "head.safetensors", **files)
    if with_clip:
        subject = open_clip_score(directory, files["model"])
        subject.verifiers = [*subject.verifiers, head]
        return subject
    return Subject([head], lambda: [head.source.tower().model], lambda: [head.source.tower().model.visual])


def open_image_reward(directory: Path) -> Subject:
    reward = verifiers.ImageReward(directory / "ImageReward.pt", tokenizer=directory / "tokenizer")
    return Subject([reward], lambda: [reward._model("cpu")])


def open_pickscore(directory: Path) -> Subject:
    pick = verifiers.PickScore(directory)
    model = partial(pick.source.model, "cpu")
    return Subject([pick], lambda: [model()], text=lambda i: pick._text(model(), [new_prompt(i)]))


def open_hps(directory: Path) -> Subject:
    hps = verifiers.HPS(weights=directory / "HPS.pt")
    return Subject([hps], lambda: [hps.source.tower().model], text=lambda i: hps.source.tower().text([new_prompt(i)]))


def open_hpsv3(directory: Path) -> Subject:
    hps = verifiers.HPSv3(directory / "HPSv3.safetensors", base=directory)
    return Subject([hps], lambda: [hps._model(torch.device("cpu"))])


def open_class(directory: Path) -> Subject:
    score = verifiers.ClassScore("clip", model="ViT-L-14-quickgelu", pretrained=directory / "model.safetensors")
    tower, columns = score.classifier.source.tower, score.classifier.columns
    return Subject([score], lambda: [tower().model], None, lambda i: columns(tower(), [100 + i]), "golden retriever")


def open_class_inception(directory: Path) -> Subject:
    score = verifiers.ClassScore("inception", pretrained=directory / "inception.pth")
    model = partial(score.classifier._model, "cpu")
    used = lambda: [part for name, part in model().named_children() if name != "AuxLogits"]  # noqa: E731
    return Subject([score], lambda: [model()], used, prompt="golden retriever")


def open_one(make: Callable[[Path], verifiers.Verifier], source: str, prompt: str = Subject.prompt) -> Callable:
    """A verifier of one model, which lies behind an attribute of it."""

    def opened(directory: Path) -> Subject:
        verifier = make(directory)
        place = verifier
        for name in source.split("."):
            place = getattr(place, name)
        return Subject([verifier], lambda: [place.model("cpu")], prompt=prompt)

    return opened


def denoisers() -> Iterator[tuple[str, Callable[[], object]]]:
    """One forward pass of each of three denoisers without weights, to count; guidance with two passes doubles it."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    xl = {"sample_size": 128, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": [1, 2, 10]}
    xl |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")}
    xl |= {"up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True}
    xl |= {"attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "addition_embed_type": "text_time"}
    xl |= {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}
    patches = 64 * 64
    with torch.device("meta"):
        old = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        text = torch.empty(1, 77, 768)
        yield "Stable Diffusion 1.5 at 512²", lambda: old(torch.empty(1, 4, 64, 64), torch.ones(1), text)
        new = UNet2DConditionModel(**xl)
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        inputs = (torch.empty(1, 4, 128, 128), torch.ones(1), torch.empty(1, 77, 2048))
        yield "SDXL at 1024²", lambda: new(*inputs, added_cond_kwargs=added)
        flux = FluxTransformer2DModel(guidance_embeds=True)
        inputs = (torch.empty(1, patches, 64), torch.empty(1, 512, 4096), torch.empty(1, 768), torch.ones(1))
        where = {"img_ids": torch.zeros(patches, 3), "txt_ids": torch.zeros(512, 3), "guidance": torch.ones(1)}
        yield "FLUX.1 at 1024²", lambda: flux(*inputs, **where)


def of_clip(model: str, told: str) -> Row:
    return Row(partial(weights.write_open_clip, model=model), partial(open_clip_score, model=model), told)


def of_formula(name: str) -> Row:
    return Row(lambda directory: None, lambda directory: Subject([verifiers.load(name)]), "a formula")


ROWS = {
    "clip: ViT-B-32": of_clip("ViT-B-32-quickgelu", "CLIP ViT-B/32"),
    "clip": of_clip("ViT-L-14-quickgelu", "CLIP ViT-L/14"),
    "clip: ViT-H-14": of_clip("ViT-H-14", "CLIP ViT-H/14"),
    "aesthetic": Row(weights.write_tower_and_head, open_aesthetic, "CLIP ViT-L/14, image tower"),
    "clip + aesthetic": Row(
        weights.write_tower_and_head, partial(open_aesthetic, with_clip=True), "CLIP ViT-L/14, shared"
    ),
    "image-reward": Row(
        weights.write_image_reward, open_image_reward, "BLIP ViT-L/16 and BERT", note="text in every image"
    ),
    "pickscore": Row(weights.write_pickscore, open_pickscore, "CLIP ViT-H/14"),
    "hps": Row(weights.write_hps, open_hps, "CLIP ViT-H/14"),
    "vlm": Row(weights.write_vlm, open_one(verifiers.VLM, "source"), "Qwen3-VL-2B", batch=1),
    "hpsv3": Row(weights.write_hpsv3, open_hpsv3, "Qwen2-VL-7B, bfloat16", batch=1, depths=weights.HPSV3_DEPTHS),
    "class": Row(
        partial(weights.write_open_clip, model="ViT-L-14-quickgelu"),
        open_class,
        "CLIP ViT-L/14",
        note="80 texts a class",
    ),
    "class: dinov2": Row(
        partial(weights.write_dino, labels=1000),
        open_one(lambda folder: verifiers.ClassScore("dinov2", model=folder), "classifier.source", "207"),
        "DINOv2-base, linear head",
    ),
    "class: inception": Row(weights.write_inception, open_class_inception, "Inception v3"),
    "consistency": Row(
        weights.write_dino,
        open_one(lambda folder: verifiers.Consistency(model=folder), "source"),
        "DINOv2-base",
        note="two images: x0 and the finished one",
    ),
    "safety": Row(weights.write_safety, open_one(verifiers.Safety, "_checker"), "CLIP ViT-L/14, image tower"),
    **{name: of_formula(name) for name in ("jpeg", "sharpness", "saturation", "brightness")},
}


def pictures(count, side, seed):
    """Smooth colours with a little noise, as `[count, 3, side, side]` in [0, 1]; different for each seed."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 32, side // 32, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (smooth + 0.02 * torch.randn(smooth.shape, generator=rng)).clamp(0, 1)


def inputs(subject, count, side, seed):
    """Images and, where a verifier needs them, as many x0 predictions; new for each seed."""
    needs = [{need: pictures(count, side, seed + 5000) for need in v.needs} for v in subject.verifiers]
    return pictures(count, side, seed), needs


def score(subject, images, needs):
    """Call the subject's verifiers in turn."""
    prompts = [subject.prompt] * len(images)
    return [verifier(images, prompts, **n) for verifier, n in zip(subject.verifiers, needs, strict=True)]


def seconds_of(call, prepare=lambda number: ()):
    """Seconds of several calls, each on what is prepared for it before, and how many cores others kept busy."""
    calls = []
    allowed = (os.cpu_count() or 1) - torch.get_num_threads() + QUIET
    while too_few([seconds for seconds, _ in calls]):
        given = prepare(len(calls))
        calls.append(disturbed(lambda given=given: call(*given)))
    quiet = [one for one in calls if one[1] < allowed]
    return zip(*(quiet if len(quiet) >= LEAST_CALLS else calls), strict=True)


def too_few(seconds):
    """Whether calls that took so long should be followed by another."""
    if len(seconds) < LEAST_CALLS:
        return sum(seconds) < MOST_SECONDS
    return sum(seconds) < ENOUGH_SECONDS and len(seconds) < MOST_CALLS


def disturbed(call):
    """Seconds that a call took, and how many cores other processes kept busy meanwhile."""
    (all_before, own_before), start = busy(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    all_after, own_after = busy()
    # The kernel counts in hundredths of a second, which says little of shorter calls.
    others = (all_after - all_before) - (own_after - own_before)
    return seconds, max(0.0, others - 0.02) / seconds


def cpu_attention(query, key, value, *args, out_shape=None, **kwargs):
    """FLOP of attention on a CPU, which the counter doesn't know: from the shapes of q, k and v."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


@contextmanager
def counted():
    """Count FLOP; the fused attention of `nn.MultiheadAttention` would hide its own."""
    torch.backends.mha.set_fastpath_enabled(False)
    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: cpu_attention}
    try:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def gflop(call, *given):
    """GFLOP of one call."""
    with counted() as counter:
        call(*given)
    return counter.get_total_flops() / 1e9


def memory(field):
    """A field of this process's status, in GB: VmRSS now, or VmHWM, the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(field))


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def busy():
    """Seconds for which cores of the machine have been busy, and those of this process among them."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    own = time.process_time()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), own


def parameters(modules):
    """Number of distinct parameters."""
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


def gigabytes(modules):
    """Memory of distinct parameters and buffers."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values()) / 1e9


def measure(row, directory):
    """One row, in this process, on weights that lie in a directory."""
    subject = row.open(directory)
    import open_clip  # noqa: F401  # libraries are no part of a verifier's memory
    import transformers  # noqa: F401

    forget_peak()
    before = memory("VmRSS")
    start = time.perf_counter()
    for verifier in subject.verifiers:
        verifier.load()
    found = {"load_s": time.perf_counter() - start, "peak_GB_load": memory("VmHWM") - before}
    loaded = subject.loaded()
    found["parameters_M"] = parameters(subject.used() if subject.used else loaded) / 1e6
    found["weights_GB"] = gigabytes(loaded)
    score(subject, *inputs(subject, 1, 64, 0))  # so that the prompt's text is encoded
    disturbance = []
    for side in SIDES:
        found[f"gflop_{side}"] = gflop(score, subject, *inputs(subject, 1, side, 1))  # warms up, too
        forget_peak()
        seconds, others = seconds_of(
            lambda *given: score(subject, *given), lambda seed, side=side: inputs(subject, row.batch, side, 10 + seed)
        )
        disturbance += others
        found[f"ms_{side}"] = 1e3 * statistics.median(seconds) / row.batch
        found[f"ms_range_{side}"] = [round(1e3 * s / row.batch, 2) for s in (min(seconds), max(seconds))]
        found[f"peak_GB_{side}"] = memory("VmHWM") - before
    if subject.text:
        numbers = iter(range(1000))
        with torch.no_grad():
            found["gflop_text"] = gflop(lambda: subject.text(next(numbers)))
            seconds, others = seconds_of(lambda: subject.text(next(numbers)))
        found["ms_text"], disturbance = 1e3 * statistics.median(seconds), [*disturbance, *others]
    found["others"] = statistics.mean(disturbance)
    return found


def rounded(row):
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def child(*arguments):
    """What this script prints last in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_own_processes(name, depths=()):
    """One row: a process writes the weights, another measures."""
    with tempfile.TemporaryDirectory() as directory:
        child("write", name, directory, *depths)
        return child("measure", name, directory)


def extrapolated(name, depths):
    """A row whose layers are too many for this machine, linearly from three that have fewer."""
    found = [in_own_processes(name, smaller) for smaller in SMALLER_DEPTHS]
    base = SMALLER_DEPTHS[0]
    row = {key: found[0][key] for key in ADDITIVE}
    for part in (0, 1):  # the language model, the vision tower
        deeper = SMALLER_DEPTHS[1 + part]
        for key in ADDITIVE:
            a_layer = (found[1 + part][key] - found[0][key]) / (deeper[part] - base[part])
            row[key] += a_layer * (depths[part] - base[part])
    measured = [f"{d[0]}+{d[1]} layers: {f['ms_512']:.0f} ms" for d, f in zip(SMALLER_DEPTHS, found, strict=True)]
    return {**row, "others": max(f["others"] for f in found), "extrapolated_from": measured}


def machine():
    """What the times depend on."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
    name = f"{cpu['model name']}, family {cpu['cpu family']} model {cpu['model']}"
    return {"cpu": name, "threads": THREADS, "cores": os.cpu_count(), "torch": torch.__version__}


def run(names):
    """Measure rows and put them into the file, each as soon as it is there."""
    for name in names or ROWS:
        row, load = ROWS[name], os.getloadavg()[0]
        found = extrapolated(name, row.depths) if row.depths else in_own_processes(name)
        dtype = "bfloat16" if name == "hpsv3" else "float32"
        facts = {"name": name, "model": row.model, "dtype": dtype, "batch": row.batch, "note": row.note}
        known = {row["name"]: row for row in json.loads(OUT.read_text())} if OUT.exists() else {}
        known[name] = {**facts, **rounded(found), "load_average_before": round(load, 2), **machine()}
        lines = [json.dumps(known[each]) for each in ROWS if each in known]
        OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
        print(lines[[each for each in ROWS if each in known].index(name)], flush=True)


def cell(row, key, form):
    return form.format(row[key]) if row.get(key) else "–"


def number(value):
    """Three digits, thousands apart."""
    return f"{value:,.1f}" if value < 10 else f"{float(f'{value:.3g}'):,.0f}"


def report():
    """Print the rows as markdown."""
    print("| verifier | model | parameters, M | weights, GB | peak GB, load / score | ms per image, 512² / 1024² "
          "| ms, new prompt | GFLOP, image / new prompt |")  # fmt: skip
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for row in json.loads(OUT.read_text()):
        mark = (" *" if "extrapolated_from" in row else "") + (
            " †" if row["others"] > row["cores"] - row["threads"] + DISTURBED else ""
        )
        mark += "" if row["threads"] == THREADS else f" ({row['threads']} thread)"
        peaks = f"{row['peak_GB_load']:.1f} / {row['peak_GB_1024']:.1f}" if "peak_GB_load" in row else "–"
        flop = number(row["gflop_512"]) if row["gflop_512"] >= 0.1 else "–"
        if row["gflop_1024"] > 1.05 * row["gflop_512"] >= 0.1:
            flop = f"{flop} ({number(row['gflop_1024'])} at 1024²)"
        flop += f" / {number(row['gflop_text'])}" if "gflop_text" in row else ""
        cells = [
            f"`{row['name']}`",
            row["model"] + (f" ({row['note']})" if row["note"] else ""),
            cell(row, "parameters_M", "{:,.0f}"),
            cell(row, "weights_GB", "{:.1f}"),
            peaks,
            f"{number(row['ms_512'])} / {number(row['ms_1024'])}{mark}",
            number(row["ms_text"]) if "ms_text" in row else "–",
            flop,
        ]
        print("| " + " | ".join(cells) + " |")
    print("\n\\* extrapolated from fewer layers. † while other processes computed: too slow, measure again.")
    for name, call in denoisers():
        with counted() as counter:
            call()
        print(f"One pass of {name}: {counter.get_total_flops() / 1e12:.3g} TFLOP.")


def main(command, *arguments):
    torch.set_num_threads(THREADS)
    if command == "run":
        run(arguments)
    elif command == "report":
        report()
    elif command == "write":
        name, directory, *depths = arguments
        write = weights.write_hpsv3 if depths else ROWS[name].write
        write(Path(directory), *([tuple(map(int, depths))] if depths else []))
        print("null")
    elif command == "measure":
        print(json.dumps(measure(ROWS[arguments[0]], Path(arguments[1]))))
    else:
        raise SystemExit(f"unknown command {command!r}; expected run or report")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["report"])
