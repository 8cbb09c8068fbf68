"""Starts an engine and a registry on a machine, and builds all images if no container registry is reachable."""
