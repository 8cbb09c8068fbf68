"""Says what a report holds, once per reader: people at a terminal, and people on GitHub."""
