"""What every process of raftkv has of its operating system: standard streams, addresses to listen at, child processes.

Imports the standard library and ``raftkv.core`` only.
"""
