"""Before anything is spent: from a user's options to a plan, and what it will cost."""
