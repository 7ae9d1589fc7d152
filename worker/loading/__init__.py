"""Checkpoints -> diffusers' pipelines.

checkpoint.py   a folder, some parts of one, or a single file
accounting.py   whether every tensor of the files is in use
weights.py      what files say of themselves: sizes, a hash
"""
