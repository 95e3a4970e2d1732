"""What clients talk to: the HTTP API, on Flask, gunicorn and one event loop for each worker.

``handlers*`` turn HTTP requests into requests of ``core`` and outcomes into HTTP responses, as pure functions;
``problems`` holds the table of errors; ``routes`` is the list of everything that is served; ``app`` (Flask) and
``asgi`` carry it; ``server`` is the process. Nothing here knows a replication mode, a machine or a disk.
"""
