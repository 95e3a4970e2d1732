"""The HTTP API in words and types, said once: paths, headers, problems, parameters, bodies and answers.

Handlers, the description, clients, the proxy, the load tester and the laboratory all take them from here; a test sees
to it that none of them says one again. Nothing here decides anything. This package imports ``core`` and msgspec only,
so that a client needs nothing of the server.
"""
