"""A cell of a notebook that is interrupted hands back the best so far and closes its bar, and the next one works."""

import os
import sys
import time

import pytest
from jupyter_client.manager import start_new_kernel

CELL = """
import time
from tqdm.auto import tqdm
from tiny.search import brightness, toy_search

scored = []

def slow(images, prompts):
    scored.append(len(images))
    if len(scored) == 3:
        print(len(tqdm._instances), "bar", flush=True)
    time.sleep(0.02)
    return brightness(images, prompts)

result = toy_search(candidates=10_000, batch_size=1, verifier=slow, progress=True)
"""
SAID = {
    "stopped": "result.stop_reason",
    "best": "result.score == max(one.score for one in result.candidates) == result.best.score",
    "some": "3 <= len(result.candidates) < 10_000",
    "bars": "len(tqdm._instances)",
}
SECONDS = 120


@pytest.mark.slow
def test_an_interrupted_cell_returns_the_best_so_far_and_the_next_one_runs(tmp_path):
    own = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    env = os.environ | own
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=SECONDS, env=env, cwd=str(tmp_path))
    try:
        client.execute(CELL)
        shown = until(client, "1 bar\n")
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=SECONDS)["content"]["status"] == "ok"
        assert any("NFE" in str(one["content"]) for one in shown), "the bar was on the page"

        found = client.execute("", user_expressions=SAID, reply=True, timeout=SECONDS)["content"]["user_expressions"]
        assert {name: one["data"]["text/plain"] for name, one in found.items()} == {
            "stopped": "'interrupted'",
            "best": "True",
            "some": "True",
            "bars": "0",
        }
        said = client.execute_interactive("print(toy_search(candidates=2).ledger.nfe)", timeout=SECONDS)
        assert said["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def until(client, text):
    """What a kernel shows until a stream says this text."""
    shown, end = [], time.monotonic() + SECONDS
    while not any(one["content"].get("text") == text for one in shown):
        shown.append(client.get_iopub_msg(timeout=end - time.monotonic()))
        assert shown[-1]["msg_type"] != "error", shown[-1]["content"]
    return shown
