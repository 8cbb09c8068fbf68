"""Makes what is in an image: contracts, converted models, bytecode. It is never in an image itself."""
