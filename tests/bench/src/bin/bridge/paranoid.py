"""A Paranoid Pirate (RFC 6/PPP): queue, one worker and one client with many requests under way."""
import collections
import json
import multiprocessing
import sys
import time

import zmq

READY, HEARTBEAT = b"\x01", b"\x02"
INTERVAL, LIVENESS = 1.0, 3


def queue(ports):
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    ports.put((front.bind_to_random_port("tcp://127.0.0.1"), back.bind_to_random_port("tcp://127.0.0.1")))
    both, workers_only = zmq.Poller(), zmq.Poller()
    both.register(back, zmq.POLLIN), both.register(front, zmq.POLLIN)
    workers_only.register(back, zmq.POLLIN)
    workers = collections.OrderedDict()
    beat_at = time.monotonic() + INTERVAL
    while True:
        ready = dict((both if workers else workers_only).poll(INTERVAL * 1000))
        now = time.monotonic()
        if ready.get(back):
            address, *frames = back.recv_multipart()
            workers.pop(address, None)
            workers[address] = now + INTERVAL * LIVENESS
            if frames[0] not in (READY, HEARTBEAT):
                front.send_multipart(frames)
        if ready.get(front) and workers:
            frames = front.recv_multipart()
            address, _ = workers.popitem(last=False)
            back.send_multipart([address, *frames])
        if now >= beat_at:
            for address in workers:
                back.send_multipart([address, HEARTBEAT])
            beat_at = now + INTERVAL
        for address, expiry in list(workers.items()):
            if now > expiry:
                del workers[address]


def worker(port):
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(f"tcp://127.0.0.1:{port}")
    socket.send(READY)
    beat_at = time.monotonic() + INTERVAL
    while True:
        if socket.poll(INTERVAL * 1000):
            frames = socket.recv_multipart()
            if len(frames) >= 3:
                socket.send_multipart(frames)
        if time.monotonic() >= beat_at:
            beat_at = time.monotonic() + INTERVAL
            socket.send(HEARTBEAT)


def client(port, size, outstanding, seconds):
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(f"tcp://127.0.0.1:{port}")
    body, sent, trips = b"x" * size, collections.deque(), []
    start = time.perf_counter()

    def send():
        sent.append(time.perf_counter())
        socket.send_multipart([b"", body])

    def receive():
        _, answer = socket.recv_multipart()
        assert answer == body
        trips.append((time.perf_counter() - sent.popleft()) * 1e6)

    for _ in range(outstanding):
        send()
    while time.perf_counter() - start < seconds:
        receive()
        send()
    for _ in range(outstanding):
        receive()
    print(json.dumps({"round_trips_us": trips, "took_s": time.perf_counter() - start}))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    ports = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=queue, args=(ports,), daemon=True)]
    processes[0].start()
    front, back = ports.get()
    processes.append(multiprocessing.Process(target=worker, args=(back,), daemon=True))
    processes[1].start()
    try:
        client(front, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    finally:
        [process.kill() for process in processes]
