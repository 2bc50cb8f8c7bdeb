"""Before anything is spent: from a user's words to a plan, and what it will cost."""
