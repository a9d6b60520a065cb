"""Ctrl-C by real signals, at any moment: nothing that was computed is lost, and a script stops."""

import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import noise_search
from noise_search import SearchOverPaths, compare, search
from tiny.search import CountingSampler, brightness, contrast

PACKAGES = tuple(
    str(Path(noise_search.__file__).parents[1] / name) for name in ("noise_search", "samplers", "verifiers")
)


def run(prompt="a cat", **options):
    options = {"model": CountingSampler(4), "verifier": brightness, "progress": False, "candidates": 12, **options}
    return search(prompt, batch_size=3, **options)


def pressed(at, again=False, score=brightness):
    """A verifier that has Ctrl-C pressed while it scores its batch `at`."""
    calls = []

    def verifier(images, prompts):
        calls.append(len(images))
        if len(calls) == at or (again and len(calls) > at):
            signal.raise_signal(signal.SIGINT)
            if again:
                signal.raise_signal(signal.SIGINT)
        return score(images, prompts)

    return verifier


def test_a_notebook_gets_the_best_so_far_and_a_script_stops_with_it():
    returned = run(verifier=pressed(2), on_interrupt="return")
    assert len(returned.candidates) == 6 and returned.stop_reason == "interrupted"
    assert isinstance(returned.error, KeyboardInterrupt) and returned.image.size == (4, 4)
    done = []
    with pytest.raises(KeyboardInterrupt) as raised:
        for prompt in "abc":
            run(prompt, verifier=pressed(2))
            done.append(prompt)
    assert not done and len(raised.value.result.candidates) == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_many_prompts_are_handed_back_together():
    with pytest.raises(KeyboardInterrupt) as raised:
        run(["a", "b"], verifier=pressed(2))
    assert [len(one.candidates) for one in raised.value.result] == [3, 3]


@pytest.mark.parametrize("how", ["return", "raise"])
def test_a_second_ctrl_c_stops_at_once(how):
    with pytest.raises(KeyboardInterrupt) as raised:
        run(verifier=pressed(2, again=True), on_interrupt=how)
    assert len(raised.value.result.candidates) == 3


def test_before_there_is_a_candidate_there_is_nothing_to_return():
    def early(images, prompts):
        signal.raise_signal(signal.SIGINT)
        return brightness(images, prompts) * np.nan

    with pytest.raises(KeyboardInterrupt):
        run(verifier=early, on_interrupt="return")


def test_no_judge_is_asked_after_ctrl_c():
    asked = []

    def paid(images, prompts):
        asked.append(len(images))
        return contrast(images, prompts)

    run(verifier=pressed(2), judges=[paid], on_interrupt="return")
    assert not asked
    result = run(judges=[pressed(1, score=contrast), paid], on_interrupt="return")
    assert not asked and len(result.candidates) == 12 and isinstance(result.error, KeyboardInterrupt)


def test_a_prompt_that_had_ended_before_ctrl_c_is_whole():
    def early(images, prompts):  # the prompt "a" reaches its target at once, and Ctrl-C comes in the next batch
        if "a" not in prompts:
            signal.raise_signal(signal.SIGINT)
        return brightness(images, prompts) + 10 * torch.tensor([float(prompt == "a") for prompt in prompts])

    whole, stopped = run(["a", "b"], verifier=early, target_score=5, on_interrupt="return")
    assert whole.error is None and whole.stop_reason.startswith("target score")
    assert isinstance(stopped.error, KeyboardInterrupt) and stopped.stop_reason == "interrupted"


def test_ctrl_c_beside_an_error_still_stops_a_script():
    def failing(candidate):
        if candidate.id == 4:
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("boom")

    with pytest.raises(KeyboardInterrupt) as raised:
        run(on_candidate=failing)
    assert raised.value.result.stop_reason == "RuntimeError: boom" and len(raised.value.result.candidates) == 6


def test_what_closing_a_model_or_judging_fails_at_loses_nothing(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(CountingSampler, "close", broken)
    monkeypatch.setattr("noise_search.engine.judging.as_images", broken)
    result = run(judges=[contrast])
    assert len(result.candidates) == 12 and result.error is None and result.judges == {}


def test_another_thread_has_its_ctrl_c_where_it_was():
    found = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    assert len(found[0].candidates) == 12 and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_comparison_keeps_what_is_complete(tmp_path):
    options = {"algorithms": ["random"], "candidates": (2, 4), "progress": False, "model": CountingSampler(4)}
    with pytest.raises(KeyboardInterrupt) as raised:
        compare(["a", "b"], seeds=3, out=tmp_path, verifier=pressed(4), batch_size=2, **options)
    assert not raised.value.comparison.complete
    again = compare(["a", "b"], seeds=1, verifier=pressed(1), on_interrupt="return", **options)
    assert not again.complete


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="on_interrupt='stop' must be 'return'"):
        run(on_interrupt="stop")


class Moments:
    """Presses Ctrl-C at the given line of the package that is run, counted from the first."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def __call__(self, frame, event, argument):
        return self._line if frame.f_code.co_filename.startswith(PACKAGES) else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)
        return self._line


@pytest.mark.parametrize(
    "options",
    [
        {"judges": [contrast]},
        {"verifier": [brightness, contrast], "algorithm": SearchOverPaths()},
        {"draft_steps": 2, "judges": [contrast]},
    ],
    ids=["one", "ensemble-paths", "drafts"],
)
def test_ctrl_c_at_any_moment_loses_no_candidate(options):
    def traced(at):
        moments, seen = Moments(at), []
        sys.settrace(moments)
        try:
            return run(on_candidate=seen.append, on_interrupt="return", **options), seen, moments.count
        except KeyboardInterrupt:
            return None, seen, moments.count
        finally:
            sys.settrace(None)

    total, draw = traced(None)[2], random.Random(0)
    for at in [draw.randint(1, total) for _ in range(40)]:
        result, seen, _ = traced(at)
        usable = [c for c in seen if c.finished and np.isfinite(c.score)]
        assert result is not None or not usable, f"line {at} of {total}: {len(usable)} candidates are lost"
        if result is not None:
            assert {c.id for c in usable} <= {c.id for c in result.candidates}
            assert result.image.size == (4, 4) and result.best.score == max(c.score for c in result.top(9))
