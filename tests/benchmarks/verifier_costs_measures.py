"""Time, FLOP and memory of one row of `verifier_costs.py`, in this process."""

import os
import statistics
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDES = (512, 1024)
LEAST_CALLS, ENOUGH_SECONDS, MOST_CALLS, MOST_SECONDS = 3, 3.0, 20, 60.0
QUIET, PATIENCE = 0.15, 30.0
"""Of the cores that are timed on, how many others may keep busy; seconds to wait for that in all."""


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


class Clock:
    """Times calls in quiet moments, as far as there are some."""

    def __init__(self):
        self.patience, self.disturbance = PATIENCE, []
        self.allowed = (os.cpu_count() or 1) - torch.get_num_threads() + QUIET

    def seconds_of(self, call, prepare=lambda number: ()):
        """Seconds of each of several calls on what is prepared for each outside of them."""
        calls = []
        while self.too_few([seconds for seconds, _ in calls]):
            given = prepare(len(calls))
            if not calls or calls[-1][1] >= self.allowed:
                self.wait()
            calls.append(disturbed(lambda given=given: call(*given)))
        quiet = [(seconds, others) for seconds, others in calls if others < self.allowed]
        kept = quiet if len(quiet) >= LEAST_CALLS else calls
        self.disturbance += [others for _, others in kept]
        return [seconds for seconds, _ in kept]

    def too_few(self, seconds):
        """Whether calls that took so long should be followed by another."""
        if len(seconds) < LEAST_CALLS:
            return sum(seconds) < MOST_SECONDS
        return sum(seconds) < ENOUGH_SECONDS and len(seconds) < MOST_CALLS

    def wait(self):
        """Until others leave as many cores as are needed, while there is patience."""
        while self.patience > 0:
            seconds, others = disturbed(lambda: time.sleep(0.5))
            if others < self.allowed:
                return
            self.patience -= seconds


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
    clock = Clock()
    for side in SIDES:
        found[f"gflop_{side}"] = gflop(score, subject, *inputs(subject, 1, side, 1))  # warms up, too
        forget_peak()
        seconds = clock.seconds_of(
            lambda *given: score(subject, *given), lambda seed, side=side: inputs(subject, row.batch, side, 10 + seed)
        )
        found[f"ms_{side}"] = 1e3 * statistics.median(seconds) / row.batch
        found[f"ms_range_{side}"] = [round(1e3 * s / row.batch, 2) for s in (min(seconds), max(seconds))]
        found[f"peak_GB_{side}"] = memory("VmHWM") - before
    if subject.text:
        numbers = iter(range(1000))
        with torch.no_grad():
            found["gflop_text"] = gflop(lambda: subject.text(next(numbers)))
            found["ms_text"] = 1e3 * statistics.median(clock.seconds_of(lambda: subject.text(next(numbers))))
    found["others"] = statistics.mean(clock.disturbance)
    return found
