"""No test reaches a network, and none waits for one; all run on the CPU, whose numbers they expect."""

import os
import signal
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["NOISE_SEARCH_CACHE"] = tempfile.mkdtemp(prefix="noise-search-tests-")  # of nothing that was shown before
for size in ("COLUMNS", "LINES"):  # which readline exports: what tests read isn't shown in a terminal
    os.environ.pop(size, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background jobs inherit this: Ctrl-C tests would hang
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker per core: more threads would only wait for each other
