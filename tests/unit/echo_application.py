"""A web application that shares one client among its requests, made before its workers are forked."""

import os

from raftkv import Client

store = Client(os.environ["STORE_URL"], timeout_s=20.0)
store.set("warm", b"warm")  # the connection that careless clients would share with their forks


def application(environ, start_response):
    """Store what is asked for, read it back, and tell."""
    key = environ["PATH_INFO"].strip("/")
    store.set(key, key.encode())
    found = store.get(key)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Pid", str(os.getpid()))])
    return [found or b"nothing"]
