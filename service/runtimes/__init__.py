"""Runtimes: each module here makes a predictor of one kind of model file. An image has the packages of one of them.

The module's name is the runtime's name in model.json and pipeline.toml. Its interface is `load(contract, content)`.
"""
