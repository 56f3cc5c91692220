"""The soak: hours of a fleet in minutes, on real processes. `python -m bench.soak`; `__main__.py` tells the story."""
