"""What must hold for every pipeline family: inherit `FamilyContract` and give it a `family` fixture.

Everything is compared with the plain pipeline or with hooks of the tests' own.
"""

import copy
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
import torch

from samplers import PipelineSampler, Run, Sampler, State
from tiny.pipelines import snapshot, tiny

CAT, DOGS = "a cat", "two dogs on a red sofa"
PROMPTS, SEEDS = [CAT, CAT, DOGS], [1, 2, 1]
STEPS = 3


@dataclass(frozen=True)
class Family:
    """A tiny pipeline with its call, and what is known of it.

    Attributes:
        name: of the tiny pipeline.
        options: arguments of its call, but for guidance.
        shape: of one row of noise.
        guidance: (argument, value), or nothing.
        calls: the rows of each denoiser call of one step, per candidate: (2,) batched, (1, 1) sequential.
        encodings: text encoder calls for two prompts, per text encoder.
        scheduler: the one it is published with, where the tiny pipeline has another.
        first_order: one of the first order on the same grid, where that has none.
        fields: of the pipeline.
        tolerance: of images in [0, 1]; the plain pipeline's batch is padded and grouped otherwise than ours.
    """

    name: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    guidance: tuple[str, float] | None = None
    calls: tuple[int, ...] = (2,)
    encodings: int = 4
    scheduler: Callable[[], Any] | None = None
    first_order: Callable[[], Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5

    def make(self) -> Any:
        """The pipeline."""
        return tiny(self.name, self.scheduler and self.scheduler(), **self.fields)

    def reference(self) -> Any:
        """The pipeline whose own images are those of the first order."""
        return tiny(self.name, self.first_order(), **self.fields) if self.first_order else self.make()

    @cached_property
    def run(self) -> "FamilyRun":
        """The runs that the tests share."""
        return FamilyRun(self)

    def plain(self, pipe: Any, prompts: list[str], seeds: list[int], **more: Any) -> torch.Tensor:
        """What the plain pipeline gives, in [0, 1]."""
        options = {"num_inference_steps": STEPS} | self.options | more
        options |= dict([self.guidance] if self.guidance else [])
        if "negative_prompt" in options:
            options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return self.called(pipe, prompts, generator=generators, output_type="pt", **options)

    def called(self, pipe: Any, prompts: list[str], **options: Any) -> torch.Tensor:
        """The images of a call."""
        return pipe(prompt=list(prompts), **options)[0]


def half(pipe: Any) -> Any:
    """The pipeline with bfloat16 weights of its own."""
    pipe = own(pipe)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(torch.bfloat16)
    return pipe


def own(pipe: Any) -> Any:
    """The pipeline with modules that no other test shares."""
    view = copy.copy(pipe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            setattr(view, name, copy.deepcopy(part))
    return view


class FamilyRun:
    """One sampler of a family, and one whole run of three rows under two prompts."""

    def __init__(self, family: Family, pipe: Any = None) -> None:
        self.pipe = pipe or family.make()
        argument, value = family.guidance or (None, None)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*first-order")
            self.sampler = PipelineSampler(
                self.pipe, steps=STEPS, guidance=value, guidance_argument=argument, **family.options
            )
        self.estimated = self.sampler.rows_per_evaluation
        self.family = family

    @cached_property
    def noise(self) -> State:
        cat, dogs = self.sampler.condition(CAT), self.sampler.condition(DOGS)
        space = self.sampler.space()
        return State.cat([space.fresh(SEEDS[:2], cat), space.fresh(SEEDS[2:], dogs)])

    @cached_property
    def whole(self) -> Run:
        return self.sampler.run(self.noise, STEPS, keep=[1])

    @cached_property
    def images(self) -> torch.Tensor:
        return self.sampler.decode(self.whole.final)


def denoisers(pipe: Any) -> list[torch.nn.Module]:
    """The denoisers, by the test's own knowledge."""
    found = [getattr(pipe, name, None) for name in ("unet", "transformer", "transformer_2")]
    return [module for module in found if module is not None]


@contextmanager
def hooked(modules: list[torch.nn.Module], hook: Callable[[int], None]) -> Iterator[None]:
    """Call `hook` with the rows of every call of the modules."""

    def see(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        hook(len(next(bound[k] for k in ("hidden_states", "sample", "x", "input_ids") if k in bound)))

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(see, with_kwargs=True).remove)
        yield


@contextmanager
def failing(pipe: Any, error: type[BaseException] | None, at: int = 2) -> Iterator[list[int]]:
    """The rows of every call of the denoisers, of which one raises the error, where there is one."""
    calls: list[int] = []

    def fail(rows: int) -> None:
        calls.append(rows)
        if error is not None and len(calls) == at:
            raise error("in the middle")

    with hooked(denoisers(pipe), fail):
        yield calls


def fresh(sampler: Sampler, seeds: list[int], prompt: str = CAT) -> State:
    """Noises of a sampler's default space."""
    condition = sampler.condition(prompt)
    return sampler.space().fresh(seeds, condition)


def images(sampler: Sampler, seeds: list[int], prompt: str = CAT) -> torch.Tensor:
    """Of whole runs from these seeds."""
    noise = fresh(sampler, seeds, prompt)
    return sampler.decode(sampler.run(noise, sampler.space().end).final)


def gap(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference of two batches of images."""
    assert left.shape == right.shape
    return float((left - right).abs().max())


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference of two batches of latents, in units of their largest magnitude."""
    return gap(left, right) / float(right.abs().max())


class FamilyContract:
    """Fixture to give: `family`; `snapshot` and `drawing_module` may be another's."""

    snapshot = staticmethod(snapshot)

    def drawing_module(self, pipe: Any) -> Any:
        """Where the pipeline draws its noise."""
        return sys.modules[type(pipe).__module__]

    @pytest.fixture
    def run(self, family: Family) -> FamilyRun:
        return family.run

    def test_images_are_the_plain_pipelines(self, family, run, record_property):
        expected = family.plain(family.reference(), PROMPTS, SEEDS)
        record_property("parity", gap(run.images, expected))
        assert run.images.dtype == torch.float32 and expected.std() > 0.02
        assert gap(run.images, expected) <= family.tolerance
        assert gap(run.images[0], run.images[2]) > 20 * family.tolerance, "one seed, two prompts: two images"

    def test_fresh_is_the_pipelines_own_draw(self, family, run, monkeypatch):
        module, draws = self.drawing_module(run.pipe), []
        original = module.randn_tensor

        def see(*args: Any, **kwargs: Any) -> torch.Tensor:
            draws.append(original(*args, **kwargs))
            return draws[-1].clone()

        monkeypatch.setattr(module, "randn_tensor", see)
        family.plain(family.make(), [CAT], [11])
        space = run.sampler.space()
        assert space.shape == family.shape and len(space.axes) == len(family.shape)
        assert torch.equal(space.fresh([11]).x, draws[0])

    def test_stopped_forked_and_resumed_is_the_whole_run(self, run, record_property):
        kept = run.whole.kept[1]
        assert torch.equal(run.sampler.run(run.noise, 1).final.x, kept.x)
        resumed = run.sampler.run(kept[[2, 0]], STEPS).final
        record_property("resumed", relative(resumed.x, run.whole.final.x[[2, 0]]))
        assert relative(resumed.x, run.whole.final.x[[2, 0]]) <= 1e-5
        assert resumed.recipes == tuple(run.whole.final.recipes[i] for i in (2, 0))

    def test_a_row_alone_is_the_row_in_a_batch(self, run, record_property):
        alone = torch.cat([run.sampler.run(run.noise[i], STEPS).final.x for i in (0, 2)])
        record_property("alone", relative(alone, run.whole.final.x[[0, 2]]))
        assert relative(alone, run.whole.final.x[[0, 2]]) <= 1e-5

    def test_rows_are_counted_at_the_denoisers(self, family, run):
        rows: list[int] = []
        on_the_way = run.whole.kept[1]
        with hooked(denoisers(run.pipe), rows.append):
            stopped = run.sampler.run(run.noise[[0, 1]], 1)
            assert rows == [2 * n for n in family.calls] and stopped.denoiser_rows == sum(rows)
            rest = run.sampler.run(State.cat([stopped.final, on_the_way[[2]]]), STEPS)
            assert stopped.denoiser_rows + rest.denoiser_rows == sum(rows) == sum(family.calls) * (2 + 3 * 2)
        assert run.estimated == run.sampler.rows_per_evaluation == sum(family.calls)

    def test_an_x0_on_the_way_is_decoded(self, run):
        x0 = run.whole.kept[1]
        images = run.sampler.decode(x0)
        assert images.shape == run.images.shape and images.isfinite().all()
        assert images.min() >= 0 and images.max() <= 1 and gap(images, run.images) > 1e-3

    def test_a_draft_is_the_plain_pipelines_run_of_fewer_steps(self, family, run):
        """The grid of fewer steps, shifted as the pipeline would: FLUX.2's shift depends on their number."""
        space = run.sampler.space(steps=STEPS - 1)
        noise = space.fresh([4], run.sampler.condition(CAT))
        expected = family.plain(family.reference(), [CAT], [4], num_inference_steps=STEPS - 1)
        assert space.end == STEPS - 1 and space.id != run.noise.grid
        assert gap(run.sampler.decode(run.sampler.run(noise, space.end).final), expected) <= family.tolerance

    def test_half_precision_weights(self, family):
        """As people load them; noise stays float32, and each x is what the plain pipeline's dtype makes of it."""
        run = FamilyRun(family, half(family.make()))
        images = run.sampler.decode(run.sampler.run(run.noise, STEPS).final)
        expected = family.plain(half(family.reference()), PROMPTS, SEEDS).float()
        assert run.noise.x.dtype == images.dtype == torch.float32
        assert float((images - expected).abs().mean()) <= 5e-3 and gap(images, expected) <= 0.2

    def test_text_is_encoded_once_per_prompt(self, family):
        run, rows = FamilyRun(family), []
        encoders = [m for k, m in run.pipe.components.items() if k.startswith("text_encoder")]
        with hooked(encoders, rows.append):
            for state in (run.noise, run.whole.kept[1], run.noise[[1, 2]]):
                run.sampler.decode(run.sampler.run(state, 2).final)
        assert rows == [1] * family.encodings * len(encoders) and run.sampler.text_encodings == 2

    @pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
    def test_the_users_pipeline_is_untouched(self, family, error):
        run = FamilyRun(family)
        expected, before = family.plain(family.make(), [DOGS], [5]), self.snapshot(run.pipe)
        with failing(run.pipe, error, at=2 * len(family.calls)) as calls:
            hooks = self.snapshot(run.pipe)
            with run.sampler, pytest.raises(error) if error else nullcontext():
                run.sampler.decode(run.sampler.run(run.noise[[0, 1]], STEPS).final)
            assert self.snapshot(run.pipe) == hooks and len(calls) >= 2
        assert self.snapshot(run.pipe) == before
        assert torch.equal(family.plain(run.pipe, [DOGS], [5]), expected)
