"""What runs in the worker, on the Python that Cambricon's libraries are made for (3.7 to 3.10).

Standard library, numpy and the vendor's packages only, in the syntax of Python 3.7. Nothing of DIOE
is installed there: ``start.py`` is loaded by its path and finds the rest beside it.
"""
