"""Lessons: short plays of real processes that each show one thing, and check that it was so.

The actors are modules of their own beside the plays: whoever holds a lock, stores, or wants to lead is a process, and
can be suspended like one.
"""
