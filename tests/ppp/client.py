"""A Lazy Pirate client, written from the ZeroMQ guide's chapter 4.

    client.py FRONTEND TIMEOUT RETRIES REQUEST..

Asks one after another, each for TIMEOUT seconds and up to RETRIES times on a new socket. Prints each reply as a line;
ends with 1 when one stays out. A request with `|` in it is sent as several frames.
"""

import sys

import zmq


def connect(context, endpoint):
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def main():
    endpoint, timeout, retries = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    context = zmq.Context()
    socket = connect(context, endpoint)
    for request in sys.argv[4:]:
        for _ in range(retries):
            socket.send_multipart(request.encode().split(b"|"))
            if socket.poll(timeout * 1000):
                print("|".join(frame.decode() for frame in socket.recv_multipart()), flush=True)
                break
            socket.close()
            socket = connect(context, endpoint)
        else:
            sys.exit(f"no reply to {request!r}")


main()
