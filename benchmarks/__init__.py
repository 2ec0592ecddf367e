"""The same work on this project and on its peer, the published `damnit`, side by side.

`python -m benchmarks [NAME ...]` measures all of it, or the modules named, and prints a table.
Nothing here asserts anything: figures are for people to look at.
"""
