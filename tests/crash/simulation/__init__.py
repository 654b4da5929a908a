"""
Many seeded nights: the real transfer code between a provider, a store and a ledger that fail on command.

Everything around the code under test is in memory and on a virtual clock, so that a night takes milliseconds and a seed
says all there is to say about it. `scenario.play` plays one; ``python -m tests.crash.simulation`` plays many.
"""
