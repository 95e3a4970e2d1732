"""The deterministic key-value machine: same commands in the same order, same state and same answers on every node.

It reads no clock, draws no random number and raises nothing for any command of a known version. Time enters as the
stamp that the leader put into the command.
"""
