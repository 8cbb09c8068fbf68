"""The model and its HTTP server: what runs inside the image."""
