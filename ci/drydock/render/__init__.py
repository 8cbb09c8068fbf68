"""Says what a report holds, once per reader: people at a terminal, at a page of their own, and on GitHub."""
