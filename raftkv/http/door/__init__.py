"""The front door: gunicorn's worker, ASGI in and out, and what its clients may hold."""
