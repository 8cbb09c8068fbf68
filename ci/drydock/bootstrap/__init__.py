"""Gives a machine what a run needs: an engine, a registry, and, where no container registry is reached, all the images.

One door: `drydock bootstrap [up|env|status|down|clean]`.
"""
