"""A process of the glass box that imports nothing of ours, to be quick, and does what its jobs are named after."""

import json
import os
import queue
import socket
import sys
import threading
import time

line = socket.socket(fileno=int(sys.argv[1]))
inbox, cancelled = queue.SimpleQueue(), set()


def listen():
    for message in line.makefile("rb"):
        asked = json.loads(message)
        if asked["op"] == "cancel":
            cancelled.add(asked["id"])
        else:
            inbox.put(asked)
    os._exit(0)


def tell(id, kind, body=b"", **more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    line.sendall(json.dumps({"id": id, "kind": kind, "size": len(body), **more}).encode() + b"\n")
    line.sendall(body)


def fail(id, status, code, **more):
    tell(id, "error", {"code": code, "detail": code, **more}, status=status)


def events(id, args):
    """So many events, a hundredth of a second apart; then an end, or what `then` says."""
    for number in range(args["count"]):
        if id in cancelled:
            return fail(id, 499, "cancelled")
        tell(id, "event", {"step": number}, name="token")
        time.sleep(0.01)
    if args.get("then"):
        return fail(id, 422, args["then"])
    tell(id, "end")
    return None


def work(id, op, args):
    if op == "tokenize":
        args, op = json.loads(args["text"]), json.loads(args["text"])["op"]
    if op == "pid":
        tell(id, "json", {"pid": os.getpid(), "start": start["args"]}, type="application/json", loaded=["a"])
    elif op == "die":
        os._exit(9)
    elif op == "break":
        line.sendall(b'{"id": 1, "kind": "bytes", "size": 100}\nhalf')
        os._exit(0)
    elif op == "nonsense":
        line.sendall(b"nonsense\n")
        time.sleep(60)
    elif op == "hang":
        while id not in cancelled:
            time.sleep(0.005)
        time.sleep(args.get("more", 0))
        fail(id, 499, "cancelled")
    elif op == "large":
        tell(id, "bytes", b"x" * args["bytes"], type="application/octet-stream", name=args.get("name", ""))
    elif op == "trouble":
        fail(id, args["status"], args["code"], **args.get("more", {}))
    elif op in ("events", "generate"):
        events(id, args if op == "events" else json.loads(args["prompt"]))
    elif op == "generate_at_once":
        tell(id, "json", {})
    else:
        tell(id, "json", {"op": op, "args": args}, type="application/json")


threading.Thread(target=listen, daemon=True).start()
start = inbox.get()
while True:
    asked = inbox.get()
    if asked["id"] in cancelled:
        fail(asked["id"], 499, "cancelled")
    else:
        work(asked["id"], asked["op"], asked["args"])
