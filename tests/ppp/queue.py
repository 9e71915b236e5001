"""A Paranoid Pirate queue, written from ZeroMQ RFC 6/PPP as the ZeroMQ guide's sample has it.

    queue.py FRONTEND BACKEND INTERVAL

Its workers are a list of those that are ready. Any sign of life puts a worker there, so one that beats while it works is
given a second request; one that works is in no list, and is not beaten to. Both are the sample's, and workers must cope.
What happens is told on stdout, a line each: `up`, `ready`, `second` (a worker that has a request said something else).
"""

import sys
import time
from collections import OrderedDict

import zmq

READY, HEARTBEAT = b"\x01", b"\x02"
LIVENESS = 3


def tell(line):
    print(line, flush=True)


def main():
    frontend_endpoint, backend_endpoint, interval = sys.argv[1], sys.argv[2], float(sys.argv[3])
    context = zmq.Context()
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    frontend.bind(frontend_endpoint)
    backend.bind(backend_endpoint)
    tell("up")
    poll_workers, poll_both = zmq.Poller(), zmq.Poller()
    poll_workers.register(backend, zmq.POLLIN)
    poll_both.register(backend, zmq.POLLIN)
    poll_both.register(frontend, zmq.POLLIN)
    ready, busy = OrderedDict(), set()
    beat_at = time.monotonic() + interval
    while True:
        sockets = dict((poll_both if ready else poll_workers).poll(interval * 1000))
        if backend in sockets:
            worker, *message = backend.recv_multipart()
            if message == [READY]:
                tell("ready")
            if message == [HEARTBEAT] and worker in busy:
                tell("second")
            if message != [HEARTBEAT]:
                busy.discard(worker)
            ready.pop(worker, None)
            ready[worker] = time.monotonic() + interval * LIVENESS
            if len(message) > 1:
                frontend.send_multipart(message)
        if frontend in sockets:
            message = frontend.recv_multipart()
            worker, _ = ready.popitem(last=False)
            busy.add(worker)
            backend.send_multipart([worker] + message)
        if time.monotonic() >= beat_at:
            for worker in ready:
                backend.send_multipart([worker, HEARTBEAT])
            beat_at = time.monotonic() + interval
        while ready and next(iter(ready.values())) < time.monotonic():
            ready.popitem(last=False)


main()
