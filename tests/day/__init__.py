"""An operator's day on several machines, from the documents; ``tox -e day``, as root."""
