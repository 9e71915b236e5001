"""A Paranoid Pirate worker with one thread, written from ZeroMQ RFC 6/PPP.

    worker.py BACKEND INTERVAL [--hold]

Content decides what it does: `sleep SECONDS` sleeps and answers `slept`; anything else is answered as it came. With
--hold it never answers anything. What happens is told on stdout, a line each: `ready`, `job TEXT`, `done`, `silent`.
"""

import random
import sys
import time

import zmq

READY, HEARTBEAT = b"\x01", b"\x02"
LIVENESS = 3


def tell(line):
    print(line, flush=True)


def connect(context, endpoint):
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, b"%04X-%04X" % (random.randrange(0x10000), random.randrange(0x10000)))
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    socket.send(READY)
    tell("ready")
    return socket


def answer(frames):
    # The address stack, an empty frame, and the content: what comes before the content is sent back as it is.
    start = frames.index(b"") + 1
    words = frames[start].decode("utf-8", "replace").split()
    tell("job " + " ".join(words))
    if "--hold" in sys.argv:
        time.sleep(3600)
    if words[:1] == ["sleep"]:
        time.sleep(float(words[1]))
        return frames[:start] + [b"slept"]
    return frames


def main():
    endpoint, interval = sys.argv[1], float(sys.argv[2])
    context = zmq.Context()
    socket = connect(context, endpoint)
    liveness, pause, beat_at = LIVENESS, interval, time.monotonic() + interval
    while True:
        if socket.poll(interval * 1000):
            frames = socket.recv_multipart()
            if len(frames) > 1:
                socket.send_multipart(answer(frames))
                tell("done")
            elif frames != [HEARTBEAT]:
                tell("malformed")
                continue
            liveness, pause = LIVENESS, interval
        else:
            liveness -= 1
            if liveness == 0:
                tell("silent")
                time.sleep(pause)
                pause = min(2 * pause, 32 * interval)
                socket.close()
                socket = connect(context, endpoint)
                liveness = LIVENESS
        if time.monotonic() >= beat_at:
            socket.send(HEARTBEAT)
            beat_at = time.monotonic() + interval


main()
