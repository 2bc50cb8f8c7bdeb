"""The owner's ledger: what was charged on which images, in rows that reveal damage."""
