"""Other systems that carry logs, and Buck, each behind one small interface (rival.py): the ground of comparisons."""
