"""One layout of data sets a file: what is read as it, and how."""
