"""The mechanism: keys, sampling, clipping, noise, events, accounting, plan and ledger; imports
nothing else of ours.
"""
