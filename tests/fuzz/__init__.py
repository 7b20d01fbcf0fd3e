"""Readers against damaged and hostile files: each input ends in acceptance or in an error of ours.

``make fuzz``, or ``python -m tests.fuzz --help``; a part of it runs in the quick suite.
"""
