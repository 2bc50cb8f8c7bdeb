"""One private run on disk: its folder, its rows in the ledger, how it is executed, interrupted and
continued.
"""
