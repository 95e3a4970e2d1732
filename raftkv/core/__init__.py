"""The values that every layer speaks in: requests, results, errors, configuration, and the ``Replicator`` interface.

Nothing here does input or output, and nothing here imports another layer of raftkv.
"""
