"""What other programs read and write: text in, values out. Nothing here starts a container."""
