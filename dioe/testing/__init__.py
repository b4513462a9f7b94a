"""What the author of a backend tests with.

``pytest --pyargs dioe.testing.conformance --backend NAME`` runs the suite; ``pip install
dioe[testing]`` brings all it needs; docs/plugins.md walks through it.

============== ================================================================================
conformance    the suite itself, one module a section
models, cases  small models, and cases with what has to come out of them
nodes          the subset of ONNX's own node cases, by family of operators
judging        how close to the expected values outputs have to be, for each precision
subject        the backend under test on its device; what it refuses is *not covered*
known_failures the strict list that a backend ships of what it fails
entry, plugin  how pytest comes to know the suite's options, outcomes and summary
============== ================================================================================
"""
