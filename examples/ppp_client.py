"""Sends a message to an object from Python, with nothing but pyzmq: a Lazy Pirate for `telos up --ppp-frontend`.

    telos up --ppp-frontend ipc:///tmp/front.sock --ppp-backend ipc:///tmp/back.sock
    python examples/ppp_client.py ipc:///tmp/front.sock counter increment

Expected output, in a fresh home:
    1
"""
import json, sys, zmq

endpoint, to, selector = sys.argv[1:4]
request = {"jsonrpc": "2.0", "id": 1, "method": "object.send", "params": {"object": to, "selector": selector}}
context = zmq.Context()
for attempt in range(3):
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    socket.send_json(request)
    if socket.poll(20_000):  # milliseconds
        reply = socket.recv_json()
        sys.exit(reply["error"]["message"] if "error" in reply else print(json.dumps(reply["result"]["value"])))
    socket.close()  # What was asked may have happened all the same: a resend may do it again.
sys.exit("nobody answers")
