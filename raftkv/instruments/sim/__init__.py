"""Whole clusters in one process, on a virtual clock, network and disk: one seed is one run, always the same.

``raftkv.instruments.lab.seeds`` runs many of them and checks what their clients saw. May import the replicas and
everything below them; never the laboratory, the command line, the HTTP layer.
"""
