"""What the bytes mean: formats, identity and wire of Buck.

Everything here is pure: it takes bytes or values and gives bytes or values. There is no clock, no randomness and no
I/O, but for link.py, the one file that awaits. Nothing here imports anything of ours from outside this folder.
"""
