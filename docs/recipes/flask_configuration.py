"""A Flask application whose configuration reloads as soon as it changes: ``flask --app flask_configuration run``.

It does not start without its configuration. Each process follows for itself: load it after a fork, not before one.
"""

import threading
from collections.abc import Mapping

from flask import Flask, jsonify

from raftkv import Client

app = Flask(__name__)
states = Client().mirror("config/web/")
settings: Mapping[str, bytes] = next(states)


def follow() -> None:
    global settings
    for settings in states:  # noqa: B007  the newest is what requests see
        app.logger.info("the configuration has changed")


threading.Thread(target=follow, daemon=True).start()


@app.get("/settings")
def shown():
    return jsonify({key: value.decode() for key, value in settings.items()})
