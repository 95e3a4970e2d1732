"""Coordinators of reads and writes: whom they ask, when that is enough, and what follows."""
