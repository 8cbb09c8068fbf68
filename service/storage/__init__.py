"""Downloads a model that is not in the image."""
