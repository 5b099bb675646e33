#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server of gRPC for tests: what it does is in the name of the method. Its messages are plain bytes."""
import os
import signal
import sys
import threading
from concurrent import futures

import grpc

VERSION = open("VERSION").read().strip() if os.path.exists("VERSION") else "none"


def unary(ask, context):
    context.set_trailing_metadata((("version", VERSION), ("pid", str(os.getpid()))))
    return ask


def fail(ask, context):
    context.set_trailing_metadata((("reason-bin", b"\x00\xff"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like that: \u00e9 %")


def count(ask, context):
    for i in range(int(ask)):
        yield b"%d" % i


def total(asks, context):
    return b"%d" % sum(int(a) for a in asks)


def echo(asks, context):
    for a in asks:
        if a == b"enough":
            return
        yield a


def note(text):
    with open(os.path.join(os.environ["UPSTATE_DATA"], "notes"), "a") as f:
        f.write(text + "\n")


def sleep(ask, context):
    over = threading.Event()
    context.add_callback(over.set)
    note(ask.decode() + "-began")
    over.wait(30)
    note(ask.decode() + "-ended")
    return ask


def large(ask, context):
    return b"x" * int(ask)


def main():
    address = sys.argv[1]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {
        "Unary": one(unary), "Fail": one(fail), "Sleep": one(sleep), "Large": one(large), "Count": many(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }),))
    server.add_insecure_port(address)
    server.start()
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *a: done.set())
    done.wait()
    server.stop(20).wait()  # what it has is finished


if __name__ == "__main__":
    main()
