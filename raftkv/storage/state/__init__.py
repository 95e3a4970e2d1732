"""The rows of a raft replica's applied state: how each proves itself, what their sum is, where long keys lie."""
