"""`python -m noise_search.engine.workers.process`: one worker, which a driver starts and speaks to over pipes.

A process of its own module imports nobody's script again, as multiprocessing would. Both pipes are private to the
driver and its child, and carry `wire` messages alone. It ends when the driver does, as its pipe closes then.
"""

import os
import queue
import signal
import sys
import threading
from typing import IO

from noise_search.engine.workers.station import Station
from noise_search.engine.workers.wire import decode, encode, receive, send


def main() -> None:
    """Load what the first message says on the device of the second, say what that is, and answer the others."""
    # The driver decides when to end: Ctrl-C and SIGTERM reach all processes of a terminal or a job.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    answers, messages = os.fdopen(os.dup(1), "wb"), queue.SimpleQueue[bytes]()
    os.dup2(2, 1)  # what libraries print is no answer
    threading.Thread(target=_read, args=(sys.stdin.buffer, messages), daemon=True).start()
    told, device = messages.get(), decode(messages.get())
    try:
        station = Station(told, device)
        about = station.about()
    except Exception as error:
        send(answers, encode(error))
        raise
    send(answers, encode(about))
    while True:
        send(answers, station.answer(messages.get()))


def _read(stream: IO[bytes], messages: "queue.SimpleQueue[bytes]") -> None:
    while (message := receive(stream)) is not None:
        messages.put(message)
    os._exit(0)  # whatever is running: nobody waits for it any more


if __name__ == "__main__":
    main()
