"""Takes a trained model to a registry, as an image that people can trust."""
