"""The command, run as users run it: in a process of its own."""

import json
import os
import subprocess
import sys

COMMAND = [sys.executable, "-c", "from noise_search.__main__ import main; main()"]
PROMPT = "a red circle to the left of a blue square"


def run(*arguments, cwd=None):
    # What pytest's readline tells children of a terminal isn't in os.environ.
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, env=os.environ, check=False)


MANY = """
import contextlib, io, json, logging, sys, traceback
from noise_search.cli.app import app
logging.basicConfig(level=logging.WARNING)
ends = []
for arguments in json.loads(sys.argv[1]):
    said, told, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            app(arguments)
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
    ends.append([code, said.getvalue(), told.getvalue()])
print(json.dumps(ends))
"""


def run_many(commands, cwd):
    """Exit code, standard output and error of commands, run by one process without hub, network or keys."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hub"), "TORCH_HOME": str(cwd / "torch")}
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")} | offline
    command = [sys.executable, "-c", MANY, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
