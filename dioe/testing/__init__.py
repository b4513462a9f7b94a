"""What the author of a backend tests with.

``pytest --pyargs dioe.testing.conformance --backend NAME`` runs the suite; ``pip install
dioe[testing]`` brings all it needs; docs/plugins.md walks through it.

============== ================================================================================
conformance    the suite itself, one module a section
models, cases  small models, and cases with what has to come out of them
nodes          ONNX's own node cases, and a subset of them by family of operators
judging        how close to the expected values outputs have to be, for each precision
node_suite     all node cases over all backends (``dioe node-suite``); node_worker runs them
installed      the plugins that are there
subject        the backend under test on its device; what it refuses is *not covered*
known_failures the strict list that a backend ships of what it fails
entry, plugin  how pytest comes to know the suite's options, outcomes and summary
============== ================================================================================
"""
