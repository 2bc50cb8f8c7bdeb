"""The mechanism: keys, sampling, clipping, noise, events, accounting, plan and ledger.

Imports nothing else of this package, so that an auditor can read it alone.
"""
