"""One private run on disk: its folder, its ledger rows, execution and continuation."""
