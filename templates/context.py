"""The variables of this proposal: each function below fills one column of the run table.
"""
