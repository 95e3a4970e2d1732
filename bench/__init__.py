"""Measurements of raftkv beside etcd; programs to run from the repository root, no part of the installed package."""
