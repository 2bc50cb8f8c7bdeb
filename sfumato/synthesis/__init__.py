"""Images from an adapted model: it sees weights, public prompts and a public seed."""
