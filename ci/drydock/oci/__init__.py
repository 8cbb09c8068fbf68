"""The OCI image format: archives, layers, names; and, in `registry`, the protocol."""
