"""What every sampler must do: inherit `SamplerContract` and give it a `sampler` and a `counting` fixture."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
import torch

from samplers import Ancestral, Deterministic, Mix, Sampler, State, Transition
from samplers.replay import replay
from samplers.space import step_noise

Counting = Callable[[], AbstractContextManager[list[int]]]


def same(left: State, right: State, tolerance: float = 0.0) -> None:
    """Two states of the same rows at the same point."""
    assert left.step == right.step and left.recipes == right.recipes and left.conditions == right.conditions
    torch.testing.assert_close(left.x, right.x, rtol=0, atol=tolerance)
    if left.x0 is not None or right.x0 is not None:
        torch.testing.assert_close(left.x0, right.x0, rtol=0, atol=tolerance)


class SamplerContract:
    """Fixtures to give: `sampler`; `counting`, a function whose context yields the rows of each call; `of_eta`.

    Class attributes `stochastic` and `tolerance` may be changed.
    """

    stochastic: Transition = Mix(0.6)
    tolerance: float = 1e-5

    @pytest.fixture
    def of_eta(self) -> Callable[[float], Sampler] | None:
        """A function of eta that makes a sampler; None where there is no eta."""
        return None

    @pytest.fixture
    def noise(self, sampler: Sampler) -> State:
        """Three rows under two prompts."""
        space, first, second = sampler.space(), sampler.condition("a cat"), sampler.condition("two dogs")
        return State.cat([space.fresh([5, 6], first), space.fresh([7], second)])

    @pytest.fixture(params=["deterministic", "stochastic"])
    def transition(self, request) -> Transition | None:
        return None if request.param == "deterministic" else self.stochastic

    def test_inputs_are_not_mutated(self, sampler, noise, transition):
        half = sampler.run(noise, 1, transition=transition).final
        before = half.x.clone(), half.x0.clone(), noise.x.clone()
        sampler.run(half, sampler.space().end, transition=transition)
        sampler.decode(half)
        assert torch.equal(half.x, before[0]) and torch.equal(half.x0, before[1]) and torch.equal(noise.x, before[2])

    def test_stated_rows_are_the_rows_counted_at_the_denoiser(self, sampler, noise, counting):
        middle = sampler.space().end // 2
        so_far = sampler.denoiser_rows
        with counting() as rows:
            first = sampler.run(noise, middle)
            assert first.denoiser_rows == sum(rows)
            second = sampler.run(first.final[[0, 2]], sampler.space().end)
        assert first.denoiser_rows + second.denoiser_rows == sum(rows) > 0
        assert sampler.denoiser_rows - so_far == sum(rows)
        assert first.denoiser_rows == sampler.rows_per_evaluation * len(noise) * middle

    def test_running_nowhere_and_decoding_cost_nothing(self, sampler, noise, counting):
        end = sampler.run(noise, sampler.space().end).final
        with counting() as rows:
            assert sampler.run(noise, 0).denoiser_rows == 0
            same(sampler.run(end, end.step).final, end)
            sampler.decode(end)
        assert sum(rows) == 0

    def test_the_same_call_gives_the_same_result(self, sampler, noise, transition):
        end = sampler.space().end
        same(sampler.run(noise, end, transition=transition).final, sampler.run(noise, end, transition=transition).final)

    def test_stop_fork_and_resume_equal_the_whole_run(self, sampler, noise, transition):
        end = sampler.space().end
        whole = sampler.run(noise, end, transition=transition, keep=[1]).final
        stopped = sampler.run(noise, 1, transition=transition).final
        same(sampler.run(stopped[[2, 0]], end, transition=transition).final, whole[[2, 0]], self.tolerance)
        same(sampler.run(stopped, end, transition=transition).final, whole, self.tolerance)

    def test_kept_points_are_the_stops(self, sampler, noise, transition):
        end = sampler.space().end
        run = sampler.run(noise, end, transition=transition, keep=[0, 1, end])
        assert sorted(run.kept) == [0, 1, end]
        same(run.kept[0], noise)
        same(run.kept[1], sampler.run(noise, 1, transition=transition).final)
        same(run.kept[end], run.final)

    def test_rows_do_not_depend_on_batch_or_order(self, sampler, noise, transition):
        end = sampler.space().end
        whole = sampler.run(noise, end, transition=transition).final
        for rows in ([0], [1], [2], [2, 1], [1, 0, 2, 0]):
            same(sampler.run(noise[rows], end, transition=transition).final, whole[rows], self.tolerance)

    def test_a_branch_is_a_new_stream_only_where_steps_are_stochastic(self, sampler, noise):
        space, stopped = sampler.space(), sampler.run(noise, 1, transition=self.stochastic).final
        branched = space.branch(stopped, [1, 2, 3])
        assert torch.equal(branched.x, stopped.x)
        ends = [sampler.run(s, space.end, transition=self.stochastic).final.x for s in (stopped, branched)]
        assert all((ends[0][i] - ends[1][i]).abs().max() > 1e-3 for i in range(3))
        plain = [sampler.run(s, space.end, transition=Deterministic()).final.x for s in (stopped, branched)]
        assert torch.equal(*plain)

    def test_renoising_to_where_a_row_is_gives_its_steps_other_noise(self, sampler, noise):
        space, stopped = sampler.space(), sampler.run(noise, 1, transition=self.stochastic).final
        again = space.renoise(stopped, 1, [1, 2, 3])
        same(again, space.branch(stopped, [1, 2, 3]))
        ends = [sampler.run(s, space.end, transition=self.stochastic).final.x for s in (stopped, again)]
        assert all((ends[0][i] - ends[1][i]).abs().max() > 1e-3 for i in range(3))
        with pytest.raises(ValueError, match="one seed per row"):
            space.renoise(stopped, 1, [1, 2])

    def test_fresh_noise_in_one_step_and_then_the_ode_is_one_run_or_two(self, sampler, noise):
        space = sampler.space()
        steps = [Mix(0.0), *[Deterministic()] * (space.end - 1)]
        whole = sampler.run(noise, space.end, transition=steps, keep=[1])
        first = sampler.run(noise, 1, transition=Mix(0.0)).final
        same(whole.kept[1], first, self.tolerance)
        same(whole.final, sampler.run(first, space.end, transition=Deterministic()).final, self.tolerance)
        z = step_noise([recipe.stream for recipe in noise.recipes], 0, space.shape)
        expected = space.alphas[1] * first.x0.cpu() + space.sigmas[1] * z
        torch.testing.assert_close(first.x.cpu(), expected, rtol=0, atol=self.tolerance)
        told = [(op["from"], op["to"], op["rho"]) for op in whole.final.recipes[0].operations[1:]]
        assert told == [(0, 1, 0.0), (1, space.end, 1.0)]

    def test_where_runs_of_several_transitions_are_cut_changes_nothing(self, sampler, noise):
        end = sampler.space().end
        steps = [Mix(0.0), *[Ancestral(0.5)] * (end - 2), Mix(0.3)]
        whole = sampler.run(noise, end, transition=steps, keep=range(end)).final
        cut = noise
        for step, one in enumerate(steps):
            cut = sampler.run(cut, step + 1, transition=one).final
        same(cut, whole, self.tolerance)
        assert whole.recipes[0].stream == noise.recipes[0].stream
        again = replay(sampler, whole.recipes[0], [sampler.space()], whole.conditions[0], keep=[1, end])
        same(again.state, whole[0], self.tolerance)
        assert sorted(again.kept) == [1, end]

    def test_ancestral_steps_are_those_of_a_sampler_of_that_eta(self, of_eta):
        if of_eta is None:
            pytest.skip("has no eta")
        own, other = of_eta(0.6), of_eta(0.0)
        noises = [one.space().fresh([5, 6], one.condition("a cat")) for one in (own, other)]
        end = own.space().end
        asked, plain = other.run(noises[1], end, transition=Ancestral(0.6)).final, other.run(noises[1], end).final
        same(asked, own.run(noises[0], end).final)
        assert (asked.x - plain.x).abs().max() > 1e-3
        same(own.run(noises[0], end, transition=Ancestral(0.0)).final, plain)
        for state in (asked, plain):
            same(replay(own, state.recipes[1], [own.space()]).state, state[1], self.tolerance)

    def test_an_eta_outside_0_to_1_is_refused(self, of_eta):
        if of_eta is None:
            pytest.skip("has no eta")
        for eta in (-0.1, 1.01, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=r"^eta must be in \[0, 1\] \(0 = deterministic, 1 = ancestral\), got"):
                of_eta(eta)
        assert [of_eta(eta).describe()["eta"] for eta in (0.0, 1.0, 0.5)] == [0.0, 1.0, 0.5]

    def test_images_are_finite_and_in_range(self, sampler, noise):
        end = sampler.run(noise, sampler.space().end, keep=[1])
        for state in (end.final, end.kept[1]):
            images = sampler.decode(state)
            assert images.dtype == torch.float32 and (len(images), images.shape[-3]) == (3, 3)
            assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1

    def test_what_cannot_be_done_is_refused(self, sampler, noise):
        space = sampler.space()
        stopped = sampler.run(noise, 1).final
        with pytest.raises(ValueError, match="no x0 prediction"):
            sampler.decode(noise)
        with pytest.raises(ValueError, match="no x0 prediction"):
            sampler.decode(space.renoise(stopped, 0, [1, 2, 3]))
        for stop in (0, space.end + 1):
            with pytest.raises(ValueError, match="stop must be in"):
                sampler.run(stopped, stop)
        with pytest.raises(ValueError, match="keep must lie"):
            sampler.run(stopped, 2, keep=[0])
        for transitions in ([], [Mix(0.5)] * 3):
            with pytest.raises(ValueError, match=f"^{len(transitions)} transitions for the 2 steps from 0 to 2: .+$"):
                sampler.run(noise, 2, transition=transitions)
        with pytest.raises(ValueError, match="grid"):
            sampler.run(State(noise.x, 0, None, noise.recipes, noise.conditions, "another"), 1)
        with pytest.raises(ValueError, match="conditions"):
            sampler.run(replace(noise, conditions=(99,) * len(noise)), 1)

    def test_each_prompt_has_one_index_and_one_encoding(self, sampler, noise):
        indices = [sampler.condition(p) for p in ("a cat", "two dogs", "a cat")]
        assert indices[0] == indices[2] != indices[1]
        for _ in range(2):
            sampler.run(noise, 1)
        assert sampler.text_encodings == 2

    def test_description_is_plain_json(self, sampler):
        import json

        assert json.loads(json.dumps(sampler.describe())) == sampler.describe()
        assert sampler.describe()["grid"] == sampler.space().id
