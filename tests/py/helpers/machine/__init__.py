"""The machine: programs over the whole of atoll, made at random, against a model.

    python -m machine --help
"""
