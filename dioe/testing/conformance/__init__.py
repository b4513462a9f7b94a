"""The suite: ``pytest --pyargs dioe.testing.conformance --backend NAME``.

Each module is a section. A test asks for what it needs through the ``subject`` fixture; a model
that the backend refuses makes it *not covered*, which is neither passed nor failed. Tests that
judge values are marked ``correctness``.
"""
