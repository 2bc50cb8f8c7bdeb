"""The mechanisms that query private data, one per file."""
